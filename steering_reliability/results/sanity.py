"""How far an effect hangs on what it should not: ``tables/sanity.csv``.

Descriptions with intervals; nothing here decides a claim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from steering_reliability.cells import Cell
from steering_reliability.expectations import ScoreTable
from steering_reliability.expectations.tables import KEYS, Floats, MissingScoresError
from steering_reliability.statistics import Estimate, paired_difference

SANITY_COLUMNS = (
    *("check", "cell", "split", "n", "effect", "low", "high"),
    *("change", "change_low", "change_high", "cosine", "identical", "completions", "meaning"),
)
SANITY_COUNTS = ("identical", "completions")
_OUTCOME = ["text", "finish_reason", "mean_logprob", "mean_entropy", "refusal_log_odds"]
"""What two runs of one request must have alike, to the last bit."""


def sanity_table(
    scores: pd.DataFrame,
    cell: Cell,
    split: str,
    meanings: Mapping[str, str],
    *,
    cosines: Mapping[str, float] | None = None,
    reordered: str | None = None,
) -> pd.DataFrame:
    """How far the effect of one cell hangs on what it should not: columns `SANITY_COLUMNS`.

    The first row is the effect itself, on the prompts that some condition is run on, then one row
    per condition that is complete. ``change`` is
    the effect there less the effect itself on the same prompts, with a 95% interval of
    `statistics.paired_difference` on the prompts' changes, mapped from -1 to 1 onto 0 to 1; where
    both share the unsteered model it is the difference of the steered rates. ``cosine`` is that of
    a direction learned anew with the level's. The last rows describe the confounds: the effect
    among prompts whose unsteered answer is short or long, certain or uncertain. They prove
    nothing: steering itself changes length and entropy.

    Args:
        scores: the level's scores frame.
        cell: the operating point, in the level's own condition.
        split: the split of the checks.
        meanings: what differs, by condition.
        cosines: by condition whose direction is another one.
        reordered: the condition that generates the same completions anew; ``identical`` of its
            ``completions`` have the same text, end and measurements to the last bit.
    """
    scores = scores[scores["split"] == split]
    checked = scores.loc[scores["condition"].isin(list(meanings)), "prompt_id"]
    if not checked.empty:
        scores = scores[scores["prompt_id"].isin(checked)]
    table = ScoreTable(scores)
    if not table.has(cell, split) or not table.has(cell.baseline, split):
        return pd.DataFrame(columns=list(SANITY_COLUMNS))
    main = table.aligned((cell, cell.baseline), "is_refusal", (split,))
    rows = [
        _row("main", cell, split, paired_difference(main[0], main[1]), None, "the effect itself")
    ]
    for name, meaning in meanings.items():
        other = replace(cell, condition=name)
        if not table.has(other, split) or not table.has(other.baseline, split):
            continue
        cells = (other, other.baseline, cell, cell.baseline)
        after, before, main_after, main_before = _on_shared_prompts(table, cells, split)
        if (before == main_before).all():
            change = paired_difference(after, main_after)
        else:
            there, here = (after - before + 1) / 2, (main_after - main_before + 1) / 2
            change = _doubled(paired_difference(there, here))
        effect = paired_difference(after, before)
        text = f"{meaning}: {_means(change)}"
        numbers: dict[str, Any] = {}
        if cosines and name in cosines:
            numbers["cosine"] = cosines[name]
            text = f"{meaning} (cosine with the level's {cosines[name]:.2f}): {_means(change)}"
        if name == reordered:
            same, made = _identical(scores, ((other, cell), (other.baseline, cell.baseline)))
            numbers |= {"identical": same, "completions": made}
            text = f"{meaning}: {order_means(same, made)}"
        rows.append(_row(name, other, split, effect, change, text) | numbers)
    rows += _confounds(table, cell, split, main)
    frame = pd.DataFrame(rows, columns=list(SANITY_COLUMNS))
    return frame.astype(dict.fromkeys(SANITY_COUNTS, "Int64"))


def order_means(identical: int, completions: int) -> str:
    """What it says that so many of the completions came out the same in another order."""
    if identical == completions:
        return (
            f"all {completions} completions are the same to the last bit, so that no number here "
            "hangs on the order or on what was generated beside a prompt"
        )
    return (
        f"MISMATCH: {completions - identical} of {completions} completions differ, which must not "
        "be: what is generated hangs on what is generated beside it"
    )


def _on_shared_prompts(table: ScoreTable, cells: tuple[Cell, ...], split: str) -> list[Floats]:
    """Refusal in several cells, on the prompts that all of them have."""
    found = [table.values(cell, "is_refusal", (split,)) for cell in cells]
    shared = found[0][0]
    for prompts, _ in found[1:]:
        shared = np.intersect1d(shared, prompts)
    return [means[np.isin(prompts, shared)] for prompts, means in found]


def _identical(scores: pd.DataFrame, couples: tuple[tuple[Cell, Cell], ...]) -> tuple[int, int]:
    """How many of the first cells' completions the second ones have too, and how many there are."""
    same = made = 0
    for again, first in couples:
        one, other = (_completions(scores, cell) for cell in (again, first))
        other = other.reindex(one.index)
        # As objects NaN differs from itself: a measurement that neither has is no difference.
        alike = (one == other) | (one.isna() & other.isna())
        same += int(alike.all(axis=1).sum())
        made += len(one)
    return same, made


def _completions(scores: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    key = (cell.layer, cell.intervention, cell.alpha, cell.direction, cell.condition)
    rows = scores[(scores[KEYS] == list(key)).all(axis=1)]
    return rows.set_index(["prompt_id", "sample"])[_OUTCOME]


def _confounds(
    table: ScoreTable, cell: Cell, split: str, main: list[Floats]
) -> list[dict[str, Any]]:
    rows = []
    for column, noun, low, high in (
        ("char_length", "characters", "shorter", "longer"),
        ("mean_entropy", "nats of entropy per token", "more certain", "less certain"),
    ):
        try:
            steered, unsteered = table.aligned((cell, cell.baseline), column, (split,))
        except MissingScoresError:
            continue
        middle = float(pd.Series(unsteered).median())
        moved = (
            f"steering moves the mean from {unsteered.mean():.3g} to {steered.mean():.3g} {noun}; "
            "description only: matching on what steering itself changes proves nothing"
        )
        for word, chosen in ((low, unsteered <= middle), (high, unsteered > middle)):
            effect = paired_difference(main[0][chosen], main[1][chosen])
            text = f"prompts whose unsteered answer is {word}; {moved}"
            rows.append(_row(f"{column}-{word}", cell, split, effect, None, text))
    return rows


def _doubled(half: Estimate) -> Estimate:
    return replace(half, value=2 * half.value, low=2 * half.low, high=2 * half.high)


def _means(change: Estimate) -> str:
    if math.isnan(change.low):
        return f"no interval ({change.reason})"
    if change.low <= 0 <= change.high:
        return "no change was found; a change between the bounds of the interval is not ruled out"
    return f"the effect is {'greater' if change.value > 0 else 'smaller'} there"


def _row(
    check: str, cell: Cell, split: str, effect: Estimate, change: Estimate | None, meaning: str
) -> dict[str, Any]:
    row: dict[str, Any] = {"check": check, "cell": cell.id, "split": split, "n": effect.n}
    row |= {"effect": effect.value, "low": effect.low, "high": effect.high}
    if change is not None:
        row |= {"change": change.value, "change_low": change.low, "change_high": change.high}
    return row | {"meaning": meaning}
