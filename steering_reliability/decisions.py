"""What a level decides for the next one: best layer, operating points.

Pure functions of the scores and the verdicts, giving plain dicts ready for JSON. A choice made on
a level's data is a choice, not a finding: ``confirm`` says what is left of it on fresh prompts.
This module knows nothing about files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from steering_reliability import statistics
from steering_reliability.benign_costs import BENIGN, benign_cost, benign_cost_estimate
from steering_reliability.cells import GOALS, Cell, Goal
from steering_reliability.claims import PAST_GATE, Coherence
from steering_reliability.expectations import ScoreTable, Verdict
from steering_reliability.expectations.layer_choice import layer_choice
from steering_reliability.expectations.questions import coherence_gate
from steering_reliability.expectations.tables import Floats, MissingScoresError
from steering_reliability.expectations.verdicts import interval, number

HARM, CONFIRM = "harm_test", "harm_confirm"
# Claims that leave no cell out: the cost, and benign_side_effect, count these prompts already.
DECIDE_NOTHING = frozenset({"sensitive_side_effect"})


@dataclass(frozen=True)
class _Candidate:
    """One steered cell: what it does to refusal, what it costs, and why it may not be chosen."""

    cell: Cell
    goal: Goal
    effect: float
    benign_cost: float
    utility: float
    excluded: str = ""

    @property
    def rank(self) -> tuple[float, float, int]:
        # Ties go to the lower alpha, then to the lower layer; rounding must not break them.
        return (-round(self.utility, 9), abs(self.cell.alpha), self.cell.layer)

    def to_dict(self, front: Iterable[str]) -> dict[str, Any]:
        return {
            "cell": self.cell.id,
            "layer": self.cell.layer,
            "intervention": self.cell.intervention,
            "alpha": self.cell.alpha,
            "effect": self.effect,
            "benign_cost": self.benign_cost,
            "utility": self.utility,
            "excluded": self.excluded,
            "on_pareto_front": self.cell.id in set(front),
        }


def best_layer(
    scores: pd.DataFrame | ScoreTable,
    verdicts: Iterable[Verdict],
    *,
    cost_weight: float = 1.0,
    coherence: Coherence | None = None,
) -> dict[str, Any]:
    """The layer to go on with: greatest effect on harm_test less the weighted benign cost.

    The effect is the paired rise of refusal on harm_test; the benign cost is the larger of the
    rise of refusal and the drop of helpfulness on benign, at least 0. Only coherent adding cells
    that raise refusal by more than their weighted cost and fail no claim are chosen from; ties go
    to the lower alpha, then to the lower layer.

    Args:
        scores: the level's scores frame, or a table of it.
        verdicts: the level's verdicts; those that fail exclude their cell, a failing
            ``alpha_monotonicity`` its layer.
        cost_weight: lambda of the trade-off.
        coherence: settings of the coherence gate.

    Returns:
        ``chosen`` (None if no layer qualifies), ``candidates``, ``pareto_front``, ``left_out``
        (incomplete cells and what they lack) and ``reason``.
        ``chosen`` carries ``layer, intervention, alpha``, ``effect`` and ``benign_cost`` with
        their intervals, ``utility``, and ``layers_tried, elsewhere_p``: of how many layers it is
        the best, and the direction's rank at the others.
    """
    return _decide(scores, verdicts, "raise", ("add",), cost_weight, coherence)


def operating_points(
    scores: pd.DataFrame | ScoreTable,
    verdicts: Iterable[Verdict],
    *,
    cost_weight: float = 1.0,
    coherence: Coherence | None = None,
) -> dict[str, dict[str, Any]]:
    """The best (layer, alpha, intervention) for raising refusal and for lowering it.

    Same rule and same fields as ``best_layer``, over every intervention, once for each goal;
    for lowering, the effect is the paired fall of refusal on harm_test, to which broken text adds
    nothing (``ScoreTable.refused``).
    """
    table = _table(scores)
    verdicts = list(verdicts)
    kinds = ("add", "ablate")
    return {goal: _decide(table, verdicts, goal, kinds, cost_weight, coherence) for goal in GOALS}


def resampled_choices(chosen: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """What was chosen over and over, each time from other prompts, as shares.

    Args:
        chosen: a decision's ``chosen`` for each draw of prompts, None where nothing qualified.

    Returns:
        ``draws``, ``nothing``, and ``cells`` and ``layers`` with the most frequent first.
    """
    cells = Counter(str(one["cell"]) for one in chosen if one)
    layers = Counter(str(one["layer"]) for one in chosen if one)
    return {
        "draws": len(chosen),
        "nothing": sum(one is None for one in chosen) / len(chosen),
        "cells": {cell: count / len(chosen) for cell, count in cells.most_common()},
        "layers": {layer: count / len(chosen) for layer, count in layers.most_common()},
    }


def confirm(
    chosen: dict[str, Any], scores: pd.DataFrame | ScoreTable, *, split: str = CONFIRM
) -> dict[str, Any]:
    """The chosen cell's effect on prompts that had no part in the choice.

    Returns:
        ``effect`` on the split with its interval, ``chosen_effect``, and ``optimism``: by how
        much the choice was too hopeful, with its interval (Newcombe 2001); None where the cell
        was chosen without an effect. ``reason`` is set and the numbers are None where the split
        was not run. ``benign_cost`` with its interval where the cell was run on benign.
    """
    cell = Cell(chosen["layer"], chosen["intervention"], chosen["alpha"])
    found: dict[str, Any] = {"cell": cell.id, "goal": chosen["goal"], "split": split}
    table = _table(scores)
    try:
        after, before = table.refused((cell, cell.baseline), chosen["goal"], (split,))
    except MissingScoresError as missing:
        empty = dict.fromkeys(("effect", "low", "high", "optimism", "p_value"))
        return found | empty | {"n": 0, "reason": str(missing)}
    if chosen["goal"] == "lower":
        after, before = before, after
    effect = statistics.paired_difference(after, before)
    found |= {
        "effect": effect.value,
        "low": effect.low,
        "high": effect.high,
        "n": effect.n,
        "p_value": effect.p_value,
        "reason": "",
    }
    if all(table.has(one, BENIGN) for one in (cell, cell.baseline)):
        found |= _cost_record(benign_cost_estimate(table, cell, cell.baseline))
    if "effect" not in chosen:
        return found | {"chosen_effect": None, "optimism": None}
    earlier = statistics.Estimate(
        chosen["effect"], chosen["effect_low"], chosen["effect_high"], chosen["n_harm"]
    )
    optimism = statistics.difference_of_estimates(earlier, effect)
    return found | {
        "chosen_effect": chosen["effect"],
        "optimism": optimism.value,
        "optimism_low": optimism.low,
        "optimism_high": optimism.high,
    }


def _cost_record(cost: statistics.Estimate) -> dict[str, float]:
    return {
        "benign_cost": cost.value,
        "benign_cost_low": cost.low,
        "benign_cost_high": cost.high,
    }


def _table(scores: pd.DataFrame | ScoreTable) -> ScoreTable:
    return scores if isinstance(scores, ScoreTable) else ScoreTable(scores)


def _decide(
    scores: pd.DataFrame | ScoreTable,
    verdicts: Iterable[Verdict],
    goal: Goal,
    interventions: tuple[str, ...],
    cost_weight: float,
    coherence: Coherence | None,
) -> dict[str, Any]:
    table, verdicts = _table(scores), list(verdicts)
    candidates, left_out = [], {}
    for cell in _steered(table, interventions):
        try:
            after, before = _towards(table, cell, goal)
            effect, cost = float((after - before).mean()), benign_cost(table, cell, cell.baseline)
        except MissingScoresError as missing:
            left_out[cell.id] = str(missing)
            continue
        candidate = _Candidate(cell, goal, effect, cost, effect - cost_weight * cost)
        excluded = _excluded(table, candidate, verdicts, coherence or Coherence())
        candidates.append(replace(candidate, excluded=excluded))
    front = _pareto_front(candidates)
    eligible = sorted((c for c in candidates if not c.excluded), key=lambda c: c.rank)
    decision: dict[str, Any] = {
        "goal": goal,
        "cost_weight": cost_weight,
        "chosen": None,
        "candidates": [candidate.to_dict(front) for candidate in candidates],
        "pareto_front": front,
        "left_out": left_out,
        "reason": f"no cell qualifies to {goal} refusal",
    }
    if not eligible:
        return decision
    best = eligible[0]
    found = statistics.paired_difference(*_towards(table, best.cell, goal))
    cost_found = benign_cost_estimate(table, best.cell, best.cell.baseline)
    layers = {c.cell.layer for c in candidates}
    decision["chosen"] = best.to_dict(front) | {
        "goal": goal,
        "effect_low": found.low,
        "effect_high": found.high,
        **_cost_record(cost_found),
        "n_harm": found.n,
        "n_benign": cost_found.n,
        **layer_choice(table, best.cell, layers, goal, HARM).to_dict(),
    }
    of = f"alone of {len(candidates)} cells qualifies"
    if len(eligible) > 1:
        of = f"has the most effect less benign cost of {len(eligible)} qualifying cells"
    weight = "" if cost_weight == 1 else f"{cost_weight:g} x "
    decision["reason"] = (
        f"{best.cell.id} {of}: effect {interval(found)} less {weight}benign cost "
        f"{interval(cost_found, signed=False)} is {number(best.utility, signed=True)}"
    )
    return decision


def _steered(table: ScoreTable, interventions: tuple[str, ...]) -> list[Cell]:
    return [
        cell
        for cell in table.cells
        if cell.intervention in interventions
        and cell == Cell(cell.layer, cell.intervention, cell.alpha)
        and not cell.is_baseline
        and table.has(cell, HARM)
        and table.has(cell, BENIGN)
    ]


def _towards(table: ScoreTable, cell: Cell, goal: Goal) -> tuple[Floats, Floats]:
    """Refusal per prompt, of steered and unsteered model; the other way round for lowering it."""
    after, before = table.refused((cell, cell.baseline), goal, (HARM,))
    return (after, before) if goal == "raise" else (before, after)


def _excluded(
    table: ScoreTable,
    candidate: _Candidate,
    verdicts: Iterable[Verdict],
    settings: Coherence,
) -> str:
    cell, goal, utility = candidate.cell, candidate.goal, round(candidate.utility, 9)
    reasons = []
    if candidate.effect <= 0:
        reasons.append(f"does not {goal} refusal")
    elif utility <= 0:
        # Not steering has neither effect nor cost, so it would be chosen.
        reasons.append(f"costs no less than it gains (effect less weighted cost {utility:+.2f})")
    if not coherence_gate(table, cell, settings)[0]:
        reasons.append(PAST_GATE)
    failed = {v.claim for v in verdicts if v.outcome == "fail" and speaks_of(v, cell, goal)}
    reasons += [f"fails {claim}" for claim in sorted(failed - DECIDE_NOTHING)]
    return ", ".join(reasons)


def speaks_of(verdict: Verdict, cell: Cell, goal: Goal) -> bool:
    """Whether a verdict is about this cell, or its layer's alphas, when used for this goal."""
    about = verdict.details
    if about.get("layer") != cell.layer:
        return False
    if verdict.claim == "alpha_monotonicity":
        return goal == "raise" and cell.intervention == "add"
    if (about.get("intervention"), about.get("alpha")) != (cell.intervention, cell.alpha):
        return False
    if verdict.claim in ("benign_side_effect", "sensitive_side_effect", "coherence"):
        return True
    return bool(about.get("goal", cell.aim) == goal)


def _pareto_front(candidates: Iterable[_Candidate]) -> list[str]:
    """Coherent cells with the wanted effect that no other beats in effect and cost, by effect."""
    pool = [c for c in candidates if c.effect > 0 and PAST_GATE not in c.excluded]
    front = [
        one
        for one in pool
        if not any(
            other.effect >= one.effect
            and other.benign_cost <= one.benign_cost
            and (other.effect > one.effect or other.benign_cost < one.benign_cost)
            for other in pool
        )
    ]
    return [c.cell.id for c in sorted(front, key=lambda c: (-c.effect, c.rank))]
