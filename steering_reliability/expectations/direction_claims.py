"""Claims about a direction itself, from what was measured of it before anything was generated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steering_reliability.claims import PAST_GATE
from steering_reliability.directions.direction import NULL_GUARD, is_null
from steering_reliability.expectations.tables import MissingScoresError
from steering_reliability.expectations.verdicts import Detail, Outcome, Verdict, number, p_text
from steering_reliability.statistics import Estimate

if TYPE_CHECKING:
    from steering_reliability.expectations.questions import Question


@dataclass(frozen=True)
class DirectionEvidence:
    """What is known of one layer's direction.

    Attributes:
        raw_norm: norm before normalising.
        residual_norm: median norm of the residual stream there.
        n_pairs: prefix pairs it was made of; 0 where its file does not tell.
        n_prompts: learning prompts.
        agreement: mean cosine between the directions of two pairs, each on one half of the
            prompts; NaN if unknown.
        agreement_low: what that exceeds in 95% of random halvings of the prompts.
        placebo: 95th percentile of that among placebo pairs; NaN if unknown.
        placebo_p: share of placebo choices that agree at least as well; NaN if unknown.
        controls: verdicts of ``beats_controls`` at that layer; none where no controls were run
            there, or the level does not claim it.
    """

    raw_norm: float
    residual_norm: float
    n_pairs: int = 0
    n_prompts: int = 0
    agreement: float = math.nan
    agreement_low: float = math.nan
    placebo: float = math.nan
    placebo_p: float = math.nan
    controls: tuple[Verdict, ...] = ()

    @classmethod
    def of(cls, record: Mapping[str, Any], controls: tuple[Verdict, ...] = ()) -> DirectionEvidence:
        """From what a run's manifest tells of a direction."""
        found = record.get("diagnostics") or {}
        return cls(
            raw_norm=float(record["raw_norm"]),
            residual_norm=float(record["residual_norm"]),
            n_pairs=len(record.get("pairs") or ()),
            n_prompts=len(record.get("prompt_ids") or ()),
            agreement=_known(record.get("halved_agreement")),
            agreement_low=_known(record.get("halved_agreement_low")),
            placebo=float(found.get("placebo_agreement", math.nan)),
            placebo_p=float(found.get("placebo_p", math.nan)),
            controls=controls,
        )


def direction_is_real(question: Question) -> Verdict:
    """The direction is above rounding noise, its pairs agree above placebo, it beats controls.

    Fails if any of the three fails. Passes if the others hold, as far as they are known, and it
    beats its controls where its text is coherent: without controls nothing tells a direction that
    does something from one that does not, so it is inconclusive.
    """
    if question.layer is None:
        raise MissingScoresError("the claim needs a layer")
    found = question.directions.get(question.layer)
    if found is None:
        raise MissingScoresError(f"nothing is known of the direction at layer {question.layer}")
    parts = [_above_noise(found), _agrees(found), _beats(found)]
    outcomes = [outcome for outcome, _ in parts]
    overall: Outcome = "inconclusive"
    if "fail" in outcomes:
        overall = "fail"
    elif outcomes[2] == "pass":
        overall = "pass"
    names = ("null_guard", "agreement_of_pairs", "beats_controls")
    details: dict[str, Detail] = {
        name: outcome or "unknown" for name, outcome in zip(names, outcomes, strict=True)
    }
    details["pairs"] = found.n_pairs
    if not math.isnan(found.placebo):
        details["placebo_agreement"] = found.placebo
    estimate = Estimate(
        found.agreement,
        found.agreement_low,
        math.nan,
        found.n_prompts,
        found.placebo_p,
        confidence=0.95,
    )
    return question.verdict(
        f"layer{question.layer}",
        overall,
        estimate,
        "; ".join(text for _, text in parts),
        unsettled=_controls_wanted(found, outcomes[1] == "pass") if outcomes[2] is None else "",
        details=details,
    )


def _known(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _above_noise(found: DirectionEvidence) -> tuple[Outcome | None, str]:
    share = found.raw_norm / found.residual_norm
    if is_null(found.raw_norm, found.residual_norm):
        return "fail", f"raw norm {share:.2g} of the residual norm, under {NULL_GUARD:g}: noise"
    return "pass", f"raw norm {share:.2g} of the residual norm"


def _agrees(found: DirectionEvidence) -> tuple[Outcome | None, str]:
    if math.isnan(found.agreement_low):
        return None, "no prefix pairs are recorded whose agreement could be told"
    text = (
        f"{found.n_pairs} pairs agree at {number(found.agreement, digits=3)} on other prompts "
        f"(over {number(found.agreement_low, digits=3)} in 95% of halvings)"
    )
    if math.isnan(found.placebo):
        return None, f"{text}, with no placebo pairs to compare"
    outcome: Outcome = "pass" if found.agreement_low > found.placebo else "fail"
    relation = "above" if outcome == "pass" else "not above"
    placebo = number(found.placebo, digits=3)
    return outcome, f"{text}, {relation} {placebo} of placebo pairs ({p_text(found.placebo_p)})"


def _beats(found: DirectionEvidence) -> tuple[Outcome | None, str]:
    """One cell that beats its controls is enough; too strong a dose breaks any direction.

    Broken text says nothing of a direction, so only cells with coherent text count.
    """
    known = [verdict for verdict in found.controls if verdict.outcome != "error"]
    outcomes = [verdict.outcome for verdict in known if verdict.details.get("coherent") is True]
    if not known:
        return (
            None,
            "too few controls at this layer" if found.controls else "no controls at this layer",
        )
    if not outcomes:
        return None, f"{PAST_GATE} where controls were run"
    passing = outcomes.count("pass")
    outcome: Outcome = "pass" if passing else "inconclusive"
    if set(outcomes) == {"fail"}:
        outcome = "fail"
    broken = len(known) - len(outcomes)
    noun = "cell" if len(outcomes) == 1 else "cells"
    apart = f" ({broken} more {PAST_GATE})" if broken else ""
    return outcome, f"beats its controls in {passing} of {len(outcomes)} {noun}{apart}"


def _controls_wanted(found: DirectionEvidence, agrees: bool) -> str:
    """What to do where it is not known whether a direction beats controls."""
    holds = "null guard and agreement hold" if agrees else "the null guard holds"
    todo = "add controls at this layer, and claim beats_controls on the split that they run on"
    if any(verdict.outcome != "error" for verdict in found.controls):
        todo = "add controls at an alpha that leaves the text coherent"
    elif found.controls:
        todo = "add as many controls as beats_controls asks for"
    return f"{holds}, but only controls can tell: {todo}"
