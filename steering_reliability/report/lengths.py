"""What the page tells of completions that turn on the way, and of cutting them off earlier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from steering_reliability.report import labels
from steering_reliability.results.prefixes import (
    CLAIM_COLUMNS,
    LENGTH_COLUMNS,
    PREFIX_CLAIMS,
    PREFIX_LENGTHS,
    WHOLE,
    prefix_sentence,
)
from steering_reliability.results.shapes import COMPLETION_SHAPES, TABLE_COLUMNS
from steering_reliability.results.summary import grid_rows

_SIDES = {1: "above 0", 0: "not clear of 0", -1: "below 0"}


def length_view(folder: Path) -> dict[str, Any] | None:
    """Sentence, rows of the grid and claims by length; None where the run has no such tables,
    or damaged ones.

    Args:
        folder: the run's folder.
    """
    try:
        table, claims = (
            pd.read_csv(folder / "tables" / f"{name}.csv", dtype={"tokens": str})
            for name in (PREFIX_LENGTHS, PREFIX_CLAIMS)
        )
    except (OSError, ValueError):
        return None
    if not (set(LENGTH_COLUMNS) <= set(table.columns) and set(CLAIM_COLUMNS) <= set(claims)):
        return None
    grid = grid_rows(table)
    told = _claims(claims)
    return {
        "sentence": prefix_sentence(table),
        "rows": labels.records(grid),
        "claims": told,
        "changed": sum(claim["changed"] for claim in told),
    }


def shape_rows(folder: Path) -> list[dict[str, Any]]:
    """Counts of completions by shape, one row per cell and split; none where the run has none.

    Args:
        folder: the run's folder.
    """
    try:
        table = pd.read_csv(folder / "tables" / f"{COMPLETION_SHAPES}.csv")
    except (OSError, ValueError):
        return []
    return labels.records(table) if set(TABLE_COLUMNS) <= set(table.columns) else []


def _claims(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One per claim that was made at more than the whole length."""
    found = []
    for (claim, target), rows in table.groupby(["claim", "target"], sort=False, dropna=False):
        if set(rows["tokens"]) == {WHOLE}:
            continue
        said = zip(rows["tokens"], rows["outcome"], rows["clear_of_zero"], strict=True)
        parts = [{"tokens": k, "outcome": o, "side": _SIDES[int(side)]} for k, o, side in said]
        changed = bool(rows["changed"].any())
        found.append({"claim": claim, "target": target, "changed": changed, "parts": parts})
    return found
