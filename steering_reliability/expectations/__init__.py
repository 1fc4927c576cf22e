"""Claims turned into verdicts: pure functions of the scores frame and a claim's settings.

Each claim of the design's table has one function ``Question -> Verdict``; the rules that say
pass or fail stand in ``rules``, the numbers come from ``statistics``. This package knows nothing
about models, pytest or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from steering_reliability.cells import Goal, Intervention
from steering_reliability.claims import CLAIM_SETTINGS, ClaimSettings
from steering_reliability.errors import SteeringError
from steering_reliability.expectations.cell_claims import (
    ablation_effect,
    alpha_raises_refusal,
    baseline_refusal,
    benign_side_effect,
    coherence,
    sensitive_side_effect,
)
from steering_reliability.expectations.comparison_claims import (
    alpha_monotonicity,
    beats_controls,
    generalization_gap,
)
from steering_reliability.expectations.direction_claims import (
    DirectionEvidence,
    direction_is_real,
)
from steering_reliability.expectations.layer_claims import some_layer_steers
from steering_reliability.expectations.questions import Question
from steering_reliability.expectations.tables import MissingScoresError, ScoreTable
from steering_reliability.expectations.verdicts import Outcome, Verdict
from steering_reliability.layer_choices import NAMED, LayerChoice

__all__ = [
    "EXPECTATIONS",
    "DirectionEvidence",
    "LayerChoice",
    "Outcome",
    "ScoreTable",
    "Verdict",
    "evaluate",
]

EXPECTATIONS: dict[str, Callable[[Question], Verdict]] = {
    "baseline_refusal": baseline_refusal,
    "alpha_raises_refusal": alpha_raises_refusal,
    "alpha_monotonicity": alpha_monotonicity,
    "benign_side_effect": benign_side_effect,
    "sensitive_side_effect": sensitive_side_effect,
    "coherence": coherence,
    "generalization_gap": generalization_gap,
    "beats_controls": beats_controls,
    "ablation_effect": ablation_effect,
    "some_layer_steers": some_layer_steers,
    "direction_is_real": direction_is_real,
}


def evaluate(
    claim: str,
    scores: pd.DataFrame | ScoreTable,
    settings: ClaimSettings | None = None,
    *,
    layer: int | None = None,
    intervention: Intervention | None = None,
    alpha: float | None = None,
    claims: Mapping[str, ClaimSettings] | None = None,
    goal: Goal | None = None,
    directions: Mapping[int, DirectionEvidence] | None = None,
    choice: LayerChoice | None = None,
) -> Verdict:
    """The verdict on one claim.

    Args:
        claim: a name of ``CLAIM_SETTINGS``.
        scores: the scores frame, or a ``ScoreTable`` of it where many claims are evaluated.
        settings: of this claim; the design's defaults if None.
        layer: the layer the claim is about, where it is about one.
        intervention: the intervention it is about.
        alpha: the alpha it is about.
        claims: settings of the level's other claims, which some claims build on (the coherence
            gate, ``some_layer_steers``).
        goal: what the cell was chosen for, where an earlier level chose it; ``beats_controls``
            asks whether it does that. By default adding should raise refusal, and ablating or a
            negative alpha should lower it.
        directions: what is known of the direction of each layer, for ``direction_is_real``.
        choice: how the layer was chosen, which the rank of ``beats_controls`` must allow for; by
            default it was named beforehand.

    Raises:
        SteeringError: the claim is unknown, its settings are another claim's, or the frame lacks
            a column.
    """
    if claim not in EXPECTATIONS:
        known = ", ".join(EXPECTATIONS)
        raise SteeringError(f"claim: found {claim!r}, expected one of {known}")
    settings = CLAIM_SETTINGS[claim]() if settings is None else settings
    if not isinstance(settings, CLAIM_SETTINGS[claim]):
        raise SteeringError(
            f"claim {claim}: settings found {type(settings).__name__}, "
            f"expected {CLAIM_SETTINGS[claim].__name__}"
        )
    table = scores if isinstance(scores, ScoreTable) else ScoreTable(scores)
    question = Question(
        claim,
        table,
        settings,
        layer,
        intervention,
        alpha,
        claims or {},
        goal=goal,
        directions=directions or {},
        choice=choice or NAMED,
    )
    try:
        return EXPECTATIONS[claim](question)
    except MissingScoresError as missing:
        return question.unanswered(_target(question), "error", str(missing))


def _target(question: Question) -> str:
    parts = []
    if question.layer is not None:
        parts.append(f"layer{question.layer}")
    if question.intervention is not None:
        parts.append(question.intervention)
    if question.alpha is not None:
        parts.append(f"alpha{question.alpha:g}")
    if parts and question.goal is not None and question.target != question.cell.id:
        return question.target
    return "-".join(parts) or str(getattr(question.settings, "split", "level"))
