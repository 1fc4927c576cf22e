"""Claims that compare effects: over alphas, between splits, against controls."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from steering_reliability import statistics
from steering_reliability.cells import Cell
from steering_reliability.claims import (
    LEAST_TREND,
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


def beats_controls(question: Question) -> Verdict:
    """The direction moves refusal more than its strongest control, or outranks 19 random ones.

    It is moved where the cell should move it: up or down by the question's aim; degenerate text
    speaks for neither (``ScoreTable.refused``). The rank allows
    for what was chosen before: its p is doubled where adding should lower refusal or ablating
    raise it, since both ways were open, and taken 2m times where the layer is the best of m and
    the others do not back it up (``layer_choice``).
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
    estimate = statistics.paired_difference(after, before, question.confidence)
    if rank:
        ways = 1 if question.aim == cell.aim else 2
        rank_p = statistics.rank_test(sign * float(learned.mean()), strengths)
        p_value = min(1.0, rank_p * ways * question.choice.times)
        rule = rules.outranks(p_value, estimate.high, settings.rank_p, settings.least_effect)
        doubled = ", doubled: adding and ablating were both open" if ways == 2 else ""
        evidence = f"rank {p_text(p_value)}{doubled}"
    else:
        p_value = estimate.p_value
        rule = rules.raises(estimate.value, estimate.low, estimate.high, settings.least_effect)
        evidence = p_text(p_value)
    estimate = Estimate(
        estimate.value, estimate.low, estimate.high, estimate.n, p_value, estimate.confidence
    )
    chosen = f"chosen to {question.goal} refusal; " if question.goal else ""
    moves = "raising" if question.aim == "raise" else "lowering"
    return question.verdict(
        question.target,
        rules.outcome(rule),
        estimate,
        f"{chosen}lead in {moves} refusal on {settings.split}{counted(question.aim)} over the "
        f"strongest of {len(controls)} controls ({controls[best].direction}): {interval(estimate)} "
        f"(n = {estimate.n} prompts, "
        f"{controls[best].direction} {number(float(rivals[best].mean()))} → learned "
        f"{number(float(learned.mean()))}, {evidence})"
        f"{layer_choice_text(question.choice) if rank else ''}",
        lambda: statistics.prompts_for_difference(
            statistics.planning_rate(before), settings.least_effect, confidence=question.confidence
        ),
        f"a lead of {number(settings.least_effect)}",
        details={
            "split": settings.split,
            "method": settings.method,
            "goal": question.aim,
            "controls": len(controls),
            **_choice(question, rank),
            "strongest": controls[best].direction,
            "rate_learned": float(learned.mean()),
            "rate_strongest": float(rivals[best].mean()),
        },
    )


def _choice(question: Question, rank: bool) -> dict[str, Detail]:
    """What the rank allows for, for the verdict's details."""
    choice = question.choice
    if not rank or choice.tried == 1:
        return {}
    known = {} if choice.elsewhere_p is None else {"elsewhere_p": choice.elsewhere_p}
    return {"layers_tried": choice.tried, **known}
