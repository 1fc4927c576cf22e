"""What a level decides for the next one: best layer, operating points, and how sure it is.

Pure functions of the scores and the verdicts, giving plain dicts ready for JSON. A choice made on
a level's data is a choice, not a finding: ``confirm`` says what is left of it on fresh prompts.
This module knows nothing about files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from steering_reliability import statistics
from steering_reliability.cells import GOALS, Cell, Goal
from steering_reliability.claims import PAST_GATE, Coherence
from steering_reliability.expectations import ScoreTable, Verdict
from steering_reliability.expectations.layer_choice import layer_choice
from steering_reliability.expectations.questions import coherence_gate
from steering_reliability.expectations.tables import Floats, MissingScoresError

HARM, BENIGN, CONFIRM = "harm_test", "benign", "harm_confirm"


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


@dataclass(frozen=True)
class _Values:
    """Per-prompt changes of one cell: refusal on harm, refusal and helpfulness lost on benign."""

    harm: Floats
    refused: Floats
    lost: Floats

    def cost(self) -> float:
        return max(float(self.refused.mean()), float(self.lost.mean()), 0.0)


def best_layer(
    scores: pd.DataFrame | ScoreTable,
    verdicts: Iterable[Verdict],
    *,
    cost_weight: float = 1.0,
    coherence: Coherence | None = None,
    seed: int = 0,
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
        seed: of the bootstrap.

    Returns:
        ``chosen`` (None if no layer qualifies), ``candidates``, ``pareto_front``, ``left_out``
        (incomplete cells and what they lack) and ``reason``.
        ``chosen`` carries ``layer, intervention, alpha, effect`` with its interval,
        ``benign_cost, utility``, ``same_layer_share``: how often the bootstrap over prompts
        picks the same layer among the same candidates, and ``layers_tried, elsewhere_p``: of how
        many layers it is the best, and the direction's rank at the others.
    """
    return _decide(scores, verdicts, "raise", ("add",), cost_weight, coherence, seed)


def operating_points(
    scores: pd.DataFrame | ScoreTable,
    verdicts: Iterable[Verdict],
    *,
    cost_weight: float = 1.0,
    coherence: Coherence | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """The best (layer, alpha, intervention) for raising refusal and for lowering it.

    Same rule and same fields as ``best_layer``, over every intervention, once for each goal;
    for lowering, the effect is the paired fall of refusal on harm_test, to which broken text adds
    nothing (``ScoreTable.refused``).
    """
    table = _table(scores)
    verdicts = list(verdicts)
    kinds = ("add", "ablate")
    return {
        goal: _decide(table, verdicts, goal, kinds, cost_weight, coherence, seed) for goal in GOALS
    }


def confirm(
    chosen: dict[str, Any], scores: pd.DataFrame | ScoreTable, *, split: str = CONFIRM
) -> dict[str, Any]:
    """The chosen cell's effect on prompts that had no part in the choice.

    Returns:
        ``effect`` on the split with its interval, ``chosen_effect``, and ``optimism``: by how
        much the choice was too hopeful, with its interval (Newcombe 2001); None where the cell
        was chosen without an effect. ``reason`` is set and the numbers are None where the split
        was not run.
    """
    cell = Cell(chosen["layer"], chosen["intervention"], chosen["alpha"])
    found = {"cell": cell.id, "goal": chosen["goal"], "split": split}
    try:
        after, before = _table(scores).refused((cell, cell.baseline), chosen["goal"], (split,))
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


def _table(scores: pd.DataFrame | ScoreTable) -> ScoreTable:
    return scores if isinstance(scores, ScoreTable) else ScoreTable(scores)


def _decide(
    scores: pd.DataFrame | ScoreTable,
    verdicts: Iterable[Verdict],
    goal: Goal,
    interventions: tuple[str, ...],
    cost_weight: float,
    coherence: Coherence | None,
    seed: int,
) -> dict[str, Any]:
    table, verdicts = _table(scores), list(verdicts)
    values: dict[Cell, _Values] = {}
    candidates, left_out = [], {}
    for cell in _steered(table, interventions):
        try:
            values[cell] = _changes(table, cell, goal)
        except MissingScoresError as missing:
            left_out[cell.id] = str(missing)
            continue
        effect, cost = float(values[cell].harm.mean()), values[cell].cost()
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
    picks = _resampled_picks([values[c.cell] for c in eligible], eligible, cost_weight, seed)
    cells = [eligible[pick].cell for pick in picks]
    same_layer = float(np.mean([cell.layer == best.cell.layer for cell in cells]))
    harm = values[best.cell].harm
    interval = _effect_interval(table, best.cell, goal)
    decision["chosen"] = best.to_dict(front) | {
        "goal": goal,
        "effect_low": interval.low,
        "effect_high": interval.high,
        "n_harm": len(harm),
        "n_benign": len(values[best.cell].refused),
        "same_layer_share": same_layer,
        "same_cell_share": float(np.mean([cell == best.cell for cell in cells])),
        **layer_choice(table, best.cell, {c.cell.layer for c in candidates}, goal, HARM).to_dict(),
    }
    decision["reason"] = (
        f"{best.cell.id} has the greatest effect less {cost_weight:g} x benign cost "
        f"({best.effect:+.2f} - {cost_weight:g} x {best.benign_cost:.2f} = {best.utility:+.2f}) of "
        f"{len(eligible)} qualifying cells; the bootstrap picks layer {best.cell.layer} in "
        f"{same_layer:.0%} of resamples"
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


def _changes(table: ScoreTable, cell: Cell, goal: Goal) -> _Values:
    pair = (cell, cell.baseline)
    after, before = _towards(table, cell, goal)
    refuses, refused = table.aligned(pair, "is_refusal", (BENIGN,))
    helps, helped = table.aligned(pair, "is_helpful", (BENIGN,))
    return _Values(after - before, refuses - refused, helped - helps)


def _effect_interval(table: ScoreTable, cell: Cell, goal: Goal) -> statistics.Estimate:
    return statistics.paired_difference(*_towards(table, cell, goal))


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
    failed = {v.claim for v in verdicts if v.outcome == "fail" and _speaks_of(v, cell, goal)}
    reasons += [f"fails {claim}" for claim in sorted(failed)]
    return ", ".join(reasons)


def _speaks_of(verdict: Verdict, cell: Cell, goal: Goal) -> bool:
    """Whether a verdict is about this cell, or its layer's alphas, when used for this goal."""
    about = verdict.details
    # Of some prompts that benign_side_effect, and the cost itself, count already.
    if verdict.claim == "sensitive_side_effect":
        return False
    if about.get("layer") != cell.layer:
        return False
    if verdict.claim == "alpha_monotonicity":
        return goal == "raise" and cell.intervention == "add"
    if (about.get("intervention"), about.get("alpha")) != (cell.intervention, cell.alpha):
        return False
    if verdict.claim in ("benign_side_effect", "coherence"):
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


def _resampled_picks(
    values: list[_Values], eligible: list[_Candidate], cost_weight: float, seed: int
) -> list[int]:
    """Which candidate each resample of the prompts picks; ties as in the decision itself."""
    harm = statistics.bootstrap_weights(len(values[0].harm), seed)
    # Harmful and benign prompts are drawn independently of each other.
    benign = statistics.bootstrap_weights(len(values[0].refused), seed + 1)
    effects = harm @ np.column_stack([value.harm for value in values])
    refused = benign @ np.column_stack([value.refused for value in values])
    lost = benign @ np.column_stack([value.lost for value in values])
    utilities = effects - cost_weight * np.maximum(np.maximum(refused, lost), 0.0)
    order = sorted(
        range(len(eligible)),
        key=lambda i: (abs(eligible[i].cell.alpha), eligible[i].cell.layer),
    )
    best = np.argmax(np.round(utilities[:, order], 9), axis=1)
    return [order[index] for index in best]
