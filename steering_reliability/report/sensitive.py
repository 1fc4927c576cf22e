"""What steering costs on benign prompts that sound harmful, beside all other benign prompts."""

from __future__ import annotations

from typing import Any, cast

import pandas as pd

from steering_reliability.results.summary import grid_rows
from steering_reliability.statistics import paired_difference, rate

SPLIT, STYLE = "benign", "sensitive"
GROUPS = ("sensitive", "other")


def sensitive_rows(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Refusal of both kinds of benign prompts, a row per cell of the grid; none without them.

    Each row has the cell's ``layer``, ``intervention_type`` and ``alpha``, and under the name of
    each of `GROUPS` the refusal ``rate``, its ``change`` against the unsteered model on the same
    prompts with a 95% interval, ``low`` and ``high`` (None where nothing is steered, NaN with too
    few prompts), and ``n``.

    Args:
        scores: the run's scores frame.
    """
    grid = grid_rows(scores[scores["split"] == SPLIT])
    if not grid["style"].eq(STYLE).any():
        return []
    grid = grid.assign(
        group=grid["style"].eq(STYLE).map({True: "sensitive", False: "other"}),
        is_refusal=grid["is_refusal"].astype(float),
    )
    series = ["layer", "intervention"]
    rows = []
    for key, cells in grid.groupby(series):
        layer, intervention = cast("tuple[int, str]", key)
        means = cells.groupby(["group", "prompt_id", "alpha"])["is_refusal"].mean().unstack("alpha")
        for alpha in map(float, means.columns):
            row = {"layer": layer, "intervention_type": intervention, "alpha": alpha}
            for group in GROUPS:
                row[group] = _of_group(means, group, alpha)
            rows.append(row)
    return rows


def _of_group(means: pd.DataFrame, group: str, alpha: float) -> dict[str, Any] | None:
    if group not in means.index or 0.0 not in means.columns:
        return None
    both = means.loc[group, [0.0, alpha] if alpha else [0.0]].dropna()
    if both.empty:
        return None
    found = {"rate": rate(both[alpha]).value, "n": len(both), "change": None}
    if alpha:
        change = paired_difference(both[alpha], both[0.0])
        found |= {"change": change.value, "low": change.low, "high": change.high}
    return found
