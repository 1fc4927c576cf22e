"""Effects under every counting of broken text, as the page lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from steering_reliability.report import labels
from steering_reliability.results.degenerate_bounds import BOUND_COLUMNS, DEGENERATE_BOUNDS
from steering_reliability.results.summary import grid_rows

SPLIT = "harm_test"


def bound_rows(folder: Path, scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of ``tables/degenerate_bounds.csv`` of the grid on harm_test.

    None where no text is broken there, and where the run has no such table or a damaged one.

    Args:
        folder: the run's folder.
        scores: one row per prompt, cell and sample, columns `summary.SCORE_COLUMNS`.
    """
    shown = grid_rows(scores[scores["split"] == SPLIT])
    if not shown["is_degenerate"].eq(True).any():
        return []
    path = folder / "tables" / f"{DEGENERATE_BOUNDS}.csv"
    try:
        table = pd.read_csv(path, dtype={"reason": str})
    except (OSError, ValueError):
        return []
    if not set(BOUND_COLUMNS).issubset(table.columns):
        return []
    # An empty field is read back as NaN, which a template takes for a reason.
    table = table.fillna({"reason": ""})
    return labels.records(grid_rows(table[table["split"] == SPLIT]))
