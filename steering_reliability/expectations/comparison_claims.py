"""Claims that compare effects: over alphas, between splits, against controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from steering_reliability import statistics
from steering_reliability.cells import Cell
from steering_reliability.claims import (
    LEAST_TREND,
    PAST_GATE,
    AlphaMonotonicity,
    BeatsControls,
    Coherence,
    GeneralizationGap,
)
from steering_reliability.expectations import rules
from steering_reliability.expectations.layer_choice import layer_choice_text
from steering_reliability.expectations.questions import CONFIDENCE, Question, coherence_gate
from steering_reliability.expectations.tables import Floats, MissingScoresError
from steering_reliability.expectations.verdicts import (
    Detail,
    Outcome,
    Verdict,
    change,
    counted,
    interval,
    number,
    p_text,
)
from steering_reliability.statistics import Estimate

# Random directions that a rank test needs before it can reach p = .05.
_RANK_RIVALS = 19


def alpha_monotonicity(question: Question) -> Verdict:
    """Refusal rises over the coherent alphas in a row from 0, and no step falls (bootstrap)."""
    settings = question.expect(AlphaMonotonicity)
    if question.layer is None:
        raise MissingScoresError("the claim needs a layer")
    target = f"layer{question.layer}-add"
    ladder = _alphas(question, settings)
    if len(ladder) < LEAST_TREND:
        tried = ", ".join(f"{cell.alpha:g}" for cell in ladder)
        raise MissingScoresError(f"the claim needs three alphas from 0 on, found {tried}")
    coherent = _coherent_prefix(question, ladder)
    named = ", ".join(f"{cell.alpha:g}" for cell in coherent)
    if len(coherent) < LEAST_TREND:
        reason = (
            f"alpha {named} alone is within the coherence gate, a trend needs three alphas from 0"
        )
        return question.unanswered(target, "inconclusive", reason)

    alphas = [cell.alpha for cell in coherent]
    rates = question.table.aligned(coherent, "is_refusal", (settings.split,))
    scores = question.table.aligned(coherent, "refusal_score", (settings.split,))
    slope = statistics.trend(np.column_stack(scores), alphas, CONFIDENCE)
    if slope.reason:
        return question.unanswered(target, "inconclusive", slope.reason, slope.n)
    confidence = step_confidence(len(coherent) - 1)
    steps = [
        statistics.paired_difference(after, before, confidence, one_sided=True)
        for before, after in pairwise(rates)
    ]
    rule = rules.never_falls(
        slope.low,
        slope.high,
        [step.low for step in steps],
        [step.high for step in steps],
        settings.tolerance,
    )
    worst = min(steps, key=lambda step: step.low)
    place = steps.index(worst)
    spread = float(statistics.prompt_slopes(np.column_stack(scores), alphas).std(ddof=1))

    def settle() -> int | None:
        least = settings.least_effect / (alphas[-1] - alphas[0])
        needs = [
            statistics.prompts_for_slope(spread, least, CONFIDENCE),
            statistics.prompts_for_difference(
                statistics.planning_rate(rates[place]),
                0.0,
                -settings.tolerance,
                confidence,
                one_sided=True,
            ),
        ]
        return None if None in needs else max(need for need in needs if need is not None)

    return question.verdict(
        target,
        rules.outcome(rule),
        slope,
        f"the refusal score on {settings.split} {change(slope.value)} "
        f"{interval(slope, digits=3)} per unit of alpha over alpha {named} (n = {slope.n} prompts, "
        f"permutation {p_text(slope.p_value)}), its lowest step is {interval(worst)} from alpha "
        f"{alphas[place]:g} to {alphas[place + 1]:g}",
        settle,
        f"a rise of {number(settings.least_effect)} over that range",
        details={
            "alphas": named,
            "worst_step": worst.value,
            "worst_step_low": worst.low,
            "worst_step_high": worst.high,
            "worst_step_from": alphas[place],
        },
    )


def step_confidence(steps: int) -> float:
    """Of each step's one-sided bound, the 5% shared among the steps (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / steps


def _alphas(question: Question, settings: AlphaMonotonicity) -> list[Cell]:
    return [
        cell
        for cell in question.table.cells
        if (cell.layer, cell.intervention) == (question.layer, "add")
        and cell == Cell(cell.layer, "add", cell.alpha)
        and cell.alpha >= 0
        and (cell.alpha == 0 or settings.covers(cell.alpha))
        and question.table.has(cell, settings.split)
    ]


def _coherent_prefix(question: Question, ladder: Sequence[Cell]) -> list[Cell]:
    gate = question.other("coherence", Coherence)
    prefix = []
    for cell in ladder:
        if cell.alpha > 0 and not coherence_gate(question.table, cell, gate)[0]:
            break
        prefix.append(cell)
    return prefix


def generalization_gap(question: Question) -> Verdict:
    """The effect does not shrink by the margin from one split to the other (Newcombe 2001)."""
    settings = question.expect(GeneralizationGap)
    cell, table = question.cell, question.table
    unseen = table.has_unseen(cell, settings.train_split)
    pair = (cell, cell.baseline)
    train = table.refused(pair, cell.aim, (settings.train_split,), unseen)
    test = table.refused(pair, cell.aim, (settings.test_split,))
    effects = [float((after - before).mean()) for after, before in (train, test)]
    if cell.aim == "lower":
        train, test = train[::-1], test[::-1]
    estimate = gap(train, test, question.confidence)
    kind = "unseen" if unseen else "seen"
    pooled = np.concatenate([train[1], test[1]])
    effect = (float((train[0] - train[1]).mean()) + float((test[0] - test[1]).mean())) / 2
    return question.verdict(
        cell.id,
        rules.outcome(rules.stays_under(estimate.low, estimate.high, settings.margin)),
        estimate,
        f"the effect{counted(cell.aim)} is {number(effects[0], signed=True)} on "
        f"{settings.train_split} "
        f"({len(train[0])} {kind} prompts) and {number(effects[1], signed=True)} on "
        f"{settings.test_split} ({len(test[0])}), a gap of {interval(estimate)} "
        f"(n = {estimate.n} prompts, one-sided 95% bounds, margin {number(settings.margin)}, "
        f"permutation {p_text(estimate.p_value)})",
        lambda: _twice(
            statistics.prompts_for_gap(
                statistics.planning_rate(pooled),
                effect,
                settings.margin,
                question.confidence,
            )
        ),
        "a gap of 0",
        details={
            "bounds": "one-sided",
            "prompts": kind,
            "n_train": len(train[0]),
            "n_test": len(test[0]),
            "effect_train": effects[0],
            "effect_test": effects[1],
        },
    )


def gap(train: Sequence[Floats], test: Sequence[Floats], confidence: float) -> Estimate:
    """Difference between the effects on two splits, each ``(after, before)`` over its prompts."""
    first, second = (
        statistics.paired_difference(after, before, confidence, one_sided=True)
        for after, before in (train, test)
    )
    p_value = statistics.gap_permutation(train[0] - train[1], test[0] - test[1])
    return statistics.difference_of_estimates(first, second, p_value)


def _twice(per_split: int | None) -> int | None:
    return None if per_split is None else 2 * per_split


@dataclass(frozen=True)
class _Judged:
    """A lead over controls as the claim's method judges it.

    Attributes:
        p_value: of the paired test against the strongest, or of the rank.
        evidence: how the message tells the p-value.
        unsettled: what would settle it where prompts cannot.
        details: of the rank.
    """

    outcome: Outcome
    p_value: float
    evidence: str
    unsettled: str = ""
    details: Mapping[str, Detail] = field(default_factory=dict)


def beats_controls(question: Question) -> Verdict:
    """The direction moves refusal more than its strongest control, or outranks 19 random ones.

    It is moved where the cell should move it: up or down by the question's aim; degenerate text
    speaks for neither (``ScoreTable.refused``). The rank allows
    for what was chosen before: its p is doubled where adding should lower refusal or ablating
    raise it, since both ways were open, and taken 2m times where the layer is the best of m and
    the others do not back it up (``layer_choice``). Where leading all of the random directions
    would not do then, no number of prompts settles it, and the verdict says how many directions
    would.
    """
    settings = question.expect(BeatsControls)
    cell, table = question.cell, question.table
    rank = settings.method == "rank"
    kinds = ("random-",) if rank else ("random-", "shuffled-")
    controls = table.controls(cell, kinds, settings.split)
    if not controls:
        raise MissingScoresError(f"no controls of {cell.id} on {settings.split}")
    if rank and len(controls) < _RANK_RIVALS:
        raise MissingScoresError(
            f"{len(controls)} random directions for {cell.id}, a rank needs {_RANK_RIVALS}"
        )
    learned, *rivals = table.refused((cell, *controls), question.aim, (settings.split,))
    sign = 1 if question.aim == "raise" else -1
    strengths = [sign * float(rival.mean()) for rival in rivals]
    best = int(np.argmax(strengths))
    after, before = (learned, rivals[best]) if sign > 0 else (rivals[best], learned)
    lead = statistics.paired_difference(after, before, question.confidence)
    judged = _by_pairs(settings, lead)
    if rank:
        judged = _by_rank(question, settings, lead, sign * float(learned.mean()), strengths)
    coherent = _coherent(question)
    chosen = f"chosen to {question.goal} refusal; " if question.goal else ""
    moves = "raising" if question.aim == "raise" else "lowering"
    return question.verdict(
        question.target,
        judged.outcome,
        replace(lead, p_value=judged.p_value),
        f"{chosen}lead in {moves} refusal on {settings.split}{counted(question.aim)} over the "
        f"strongest of {len(controls)} controls ({controls[best].direction}): {interval(lead)} "
        f"(n = {lead.n} prompts, {controls[best].direction} {number(float(rivals[best].mean()))} "
        f"→ learned {number(float(learned.mean()))}, {judged.evidence})"
        f"{f', {PAST_GATE}' if coherent is False else ''}"
        f"{layer_choice_text(question.choice) if rank else ''}",
        lambda: statistics.prompts_for_difference(
            statistics.planning_rate(before), settings.least_effect, confidence=question.confidence
        ),
        f"a lead of {number(settings.least_effect)}",
        judged.unsettled,
        details={
            "split": settings.split,
            "method": settings.method,
            "goal": question.aim,
            "controls": len(controls),
            **judged.details,
            **({} if coherent is None else {"coherent": coherent}),
            "strongest": controls[best].direction,
            "rate_learned": float(learned.mean()),
            "rate_strongest": float(rivals[best].mean()),
        },
    )


def _by_pairs(settings: BeatsControls, lead: Estimate) -> _Judged:
    rule = rules.raises(lead.value, lead.low, lead.high, settings.least_effect)
    return _Judged(rules.outcome(rule), lead.p_value, p_text(lead.p_value))


def _by_rank(
    question: Question,
    settings: BeatsControls,
    lead: Estimate,
    strength: float,
    strengths: Sequence[float],
) -> _Judged:
    """The rank of ``strength`` among ``strengths``, its p taken as often as was chosen."""
    ways = 1 if question.aim == question.cell.aim else 2
    times = ways * question.choice.times
    p_value = min(1.0, times * statistics.rank_test(strength, strengths))
    outcome = rules.outcome(
        rules.outranks(p_value, lead.high, settings.rank_p, settings.least_effect)
    )
    details: dict[str, Detail] = {"rank_times": times, "paired_p": lead.p_value}
    if question.choice.tried > 1:
        details["layers_tried"] = question.choice.tried
        if question.choice.elsewhere_p is not None:
            details["elsewhere_p"] = question.choice.elsewhere_p
    count, needed = len(strengths), statistics.rivals_to_rank(settings.rank_p, times)
    unsettled = ""
    if outcome == "inconclusive" and needed > count:
        details["directions_to_settle"] = needed
        least = p_text(min(1.0, times / (count + 1)))
        unsettled = (
            f"{least} is the least that {count} random directions allow, whatever the prompts: "
            f"{needed} are needed (random: {needed} in the level's file)"
        )
    doubled = ", doubled: adding and ablating were both open" if ways == 2 else ""
    evidence = f"rank {p_text(p_value)}{doubled}"
    return _Judged(outcome, p_value, evidence, unsettled, details)


def _coherent(question: Question) -> bool | None:
    """Whether the cell's text is coherent; None where the splits that tell were not run."""
    try:
        return coherence_gate(
            question.table, question.cell, question.other("coherence", Coherence)
        )[0]
    except MissingScoresError:
        return None
