"""The differences of ``tables/significance.csv``, as the page lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from steering_reliability.report import labels
from steering_reliability.results.tables import BASELINE, SIGNIFICANCE_COLUMNS

LEVEL = 0.05
_WORDS = ("control", "goal", "reason")


def significance_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of a run's table with ``other``, what the cell is held against, and ``stands_out``.

    Empty where the run has no such table, or one that is damaged.
    """
    try:
        table = pd.read_csv(
            folder / "tables" / "significance.csv", dtype=dict.fromkeys(_WORDS, str)
        )
    except (OSError, ValueError):
        return []
    if not set(SIGNIFICANCE_COLUMNS).issubset(table.columns):
        return []
    table = table.fillna(dict.fromkeys(_WORDS, ""))
    table["stands_out"] = table["p_holm"] <= LEVEL
    rows = labels.records(table)
    return [{**row, "other": _other(row)} for row in rows]


def _other(row: dict[str, Any]) -> str:
    """The unsteered model, or the control that came nearest to the goal: ``random-3, to raise``."""
    other = "unsteered" if row["against"] == BASELINE else row["control"]
    return f"{other}, to {row['goal']}"
