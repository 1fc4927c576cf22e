"""Steering against what people would use in its place: another system prompt.

A description with intervals; nothing here decides a claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from steering_reliability.cells import Cell
from steering_reliability.claims import Coherence
from steering_reliability.expectations import ScoreTable
from steering_reliability.expectations.questions import coherence_gate
from steering_reliability.statistics import Estimate, paired_difference

HARM, BENIGN = "harm_test", "benign"


def compare_prompting(
    scores: pd.DataFrame, prompted: Cell, coherence: Coherence
) -> dict[str, Any] | None:
    """Whether another system prompt does better than the best steered cell; None if incomplete.

    Prompting wins where it raises refusal on harm_test, and its rise less its benign cost (the
    larger of the rise of refusal and the drop of helpfulness on benign, at least 0) is greater than
    that of the coherent adding cell that has most of it. Wu et al. 2025 (AxBench) found that it
    often does. Point estimates decide; the best of many cells looks better than it is.

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
    best = max(steered, key=_gain, default=None)
    wins = best is not None and prompt["effect"] > 0 and _gain(prompt) > _gain(best)
    said = f"the system prompt in place of steering moves refusal by {_told(prompt)}"
    if best is None:
        said += (
            "; no steered cell is within the coherence gate, so there is none to compare it with"
        )
    else:
        said += f"; the best steered cell, {best['cell']}, by {_told(best)}: "
        said += "prompting wins" if wins else "prompting does not win"
    return {"prompting": prompt, "best_steered": best, "wins": wins, "sentence": said}


def _gain(measured: Mapping[str, Any]) -> float:
    return round(float(measured["effect"] - measured["benign_cost"]), 9)


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
