"""What other conditions do to the effect: the prompt baseline and ``sanity.csv``.

Descriptions with intervals; nothing here decides a claim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from steering_reliability.cells import Cell
from steering_reliability.claims import Coherence
from steering_reliability.expectations import ScoreTable
from steering_reliability.expectations.questions import coherence_gate
from steering_reliability.expectations.tables import MissingScoresError
from steering_reliability.statistics import Estimate, paired_difference

HARM, BENIGN = "harm_test", "benign"
SANITY_COLUMNS = (
    *("check", "cell", "split", "n", "effect", "low", "high"),
    *("change", "change_low", "change_high", "meaning"),
)


def compare_prompting(
    scores: pd.DataFrame, prompted: Cell, coherence: Coherence
) -> dict[str, Any] | None:
    """Whether another system prompt does better than the best steered cell; None if incomplete.

    Prompting wins where it raises refusal on harm_test more, at no greater benign cost (the larger
    of the rise of refusal and the drop of helpfulness on benign, at least 0), than the coherent
    adding cell with the greatest rise less cost. Wu et al. 2025 (AxBench) found that it often does.
    Point estimates decide; the best of many cells looks better than it is.

    Args:
        scores: the level's scores frame.
        prompted: the unsteered cell under the system prompt.
        coherence: settings of the coherence gate.
    """
    table = ScoreTable(scores)
    default = Cell(prompted.layer, prompted.intervention, 0.0)
    if not all(table.has(c, s) for c in (prompted, default) for s in (HARM, BENIGN)):
        return None
    prompt = _measured(table, prompted, default)
    steered = [
        _measured(table, cell, cell.baseline)
        for cell in table.cells
        if cell == Cell(cell.layer, cell.intervention, cell.alpha)
        and cell.aim == "raise"
        and all(table.has(c, s) for c in (cell, cell.baseline) for s in (HARM, BENIGN))
        and coherence_gate(table, cell, coherence)[0]
    ]
    best = max(steered, key=lambda one: one["effect"] - one["benign_cost"], default=None)
    wins = best is not None and (
        prompt["effect"] > best["effect"] and prompt["benign_cost"] <= best["benign_cost"]
    )
    said = f"the system prompt in place of steering moves refusal by {_told(prompt)}"
    if best is None:
        said += "; no steered cell is coherent, so there is nothing to compare it with"
    else:
        said += f"; the best steered cell, {best['cell']}, by {_told(best)}: "
        said += "prompting wins" if wins else "prompting does not win"
    return {"prompting": prompt, "best_steered": best, "wins": wins, "sentence": said}


def sanity_table(
    scores: pd.DataFrame, cell: Cell, split: str, meanings: Mapping[str, str]
) -> pd.DataFrame:
    """How far the effect of one cell hangs on what it should not: columns `SANITY_COLUMNS`.

    The first row is the effect itself, then one row per condition that is complete. ``change`` is
    the effect there less the first row's, paired by prompt, with a 95% interval of
    `statistics.paired_difference` on the prompts' changes, mapped from -1 to 1 onto 0 to 1; where
    both share the unsteered model it is the difference of the steered rates. The last rows
    describe the confounds: the effect among prompts whose unsteered answer is short or long,
    certain or uncertain. They prove nothing: steering itself changes length and entropy.

    Args:
        scores: the level's scores frame.
        cell: the operating point, in the level's own condition.
        split: the split of the checks.
        meanings: what differs, by condition.
    """
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
        after, before, main_after, main_before = table.aligned(cells, "is_refusal", (split,))
        if (before == main_before).all():
            change = paired_difference(after, main_after)
        else:
            there, here = (after - before + 1) / 2, (main_after - main_before + 1) / 2
            change = _doubled(paired_difference(there, here))
        effect = paired_difference(after, before)
        rows.append(_row(name, other, split, effect, change, f"{meaning}: {_means(change)}"))
    rows.append(
        _row(
            "prompt-order", cell, split, None, None,
            "prompts in another order: not generated again, since a completion does not depend on "
            "what is generated beside it; its key in the store holds no order",
        )
    )  # fmt: skip
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
    return pd.DataFrame(rows, columns=list(SANITY_COLUMNS))


def _measured(table: ScoreTable, cell: Cell, baseline: Cell) -> dict[str, Any]:
    effect = _effect(table, cell, baseline, HARM)
    refuses, refused = table.aligned((cell, baseline), "is_refusal", (BENIGN,))
    helps, helped = table.aligned((cell, baseline), "is_helpful", (BENIGN,))
    cost = max(float((refuses - refused).mean()), float((helped - helps).mean()), 0.0)
    return {
        "cell": cell.id,
        "effect": effect.value,
        "low": effect.low,
        "high": effect.high,
        "n": effect.n,
        "benign_cost": cost,
        "helpful": float(helps.mean()),
    }


def _effect(table: ScoreTable, cell: Cell, baseline: Cell, split: str) -> Estimate:
    after, before = table.aligned((cell, baseline), "is_refusal", (split,))
    return paired_difference(after, before)


def _told(found: Mapping[str, Any]) -> str:
    return (
        f"{found['effect']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}] on {HARM} "
        f"(n = {found['n']}) at a benign cost of {found['benign_cost']:.2f}"
    )


def _doubled(half: Estimate) -> Estimate:
    return replace(half, value=2 * half.value, low=2 * half.low, high=2 * half.high)


def _means(change: Estimate) -> str:
    if math.isnan(change.low):
        return f"no interval ({change.reason})"
    if change.low <= 0 <= change.high:
        return "no change was found; a change between the bounds of the interval is not ruled out"
    return f"the effect is {'greater' if change.value > 0 else 'smaller'} there"


def _row(
    check: str,
    cell: Cell,
    split: str,
    effect: Estimate | None,
    change: Estimate | None,
    meaning: str,
) -> dict[str, Any]:
    row: dict[str, Any] = {"check": check, "cell": cell.id, "split": split, "n": 0}
    if effect is not None:
        row |= {"n": effect.n, "effect": effect.value, "low": effect.low, "high": effect.high}
    if change is not None:
        row |= {"change": change.value, "change_low": change.low, "change_high": change.high}
    return row | {"meaning": meaning}
