"""The claim over all layers: at least one of them steers, at a price worth paying."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from steering_reliability.cells import Cell
from steering_reliability.claims import PAST_GATE, Coherence, SomeLayerSteers
from steering_reliability.expectations.cell_claims import (
    alpha_raises_refusal,
    benign_side_effect,
    coherence,
)
from steering_reliability.expectations.comparison_claims import (
    beats_controls,
    generalization_gap,
)
from steering_reliability.expectations.questions import Question, coherence_gate
from steering_reliability.expectations.tables import MissingScoresError
from steering_reliability.expectations.verdicts import Detail, Outcome, Verdict, interval
from steering_reliability.statistics import Estimate

_TARGET = "all-layers"

# Each must pass, with adjusted bounds.
PASSED = {
    "alpha_raises_refusal": alpha_raises_refusal,
    "beats_controls": beats_controls,
    "benign_side_effect": benign_side_effect,
}
# None of these may fail. Controls and the training split are not run for every cell: what was
# not asked cannot fail, but a control that was not run cannot be beaten either.
_OPTIONAL = ("beats_controls", "generalization_gap")
_NOT_FAILED = PASSED | {"coherence": coherence, "generalization_gap": generalization_gap}


@dataclass(frozen=True)
class _Trial:
    """One cell asked all the claims: ``adjusted`` with shared bounds, ``plain`` without."""

    cell: Cell
    coherent: bool
    adjusted: dict[str, Verdict | None]
    plain: dict[str, Verdict | None]

    @property
    def failed(self) -> set[str]:
        return {
            name for name, verdict in self.plain.items() if verdict and verdict.outcome == "fail"
        }

    @property
    def meets(self) -> bool:
        passed = all(verdict and verdict.outcome == "pass" for verdict in self.adjusted.values())
        return self.coherent and passed and not self.failed

    @property
    def effect(self) -> Verdict:
        verdict = self.adjusted["alpha_raises_refusal"]
        assert verdict is not None
        return verdict

    @property
    def open(self) -> list[Verdict]:
        return [v for v in self.adjusted.values() if v and v.outcome == "inconclusive"]

    @property
    def lacks(self) -> str:
        """Why the cell does not meet the claims; empty if it does."""
        reasons = [f"{name} fails" for name in self.plain if name in self.failed]
        reasons += [f"{v.claim} inconclusive" for v in self.open if v.claim not in self.failed]
        if self.adjusted["beats_controls"] is None:
            reasons.append("no controls")
        if not self.coherent:
            reasons.append(PAST_GATE)
        return ", ".join(reasons)

    @property
    def prompts_to_settle(self) -> int | None:
        """Prompts for all that is open; None where they would not make the cell meet the claims."""
        if self.failed or not self.coherent or self.adjusted["beats_controls"] is None:
            return None
        needs = [verdict.prompts_to_settle for verdict in self.open]
        known = [need for need in needs if need is not None]
        return max(known, default=None) if len(known) == len(needs) else None


def some_layer_steers(question: Question) -> Verdict:
    """A layer meets the claims, with bounds shared among the layers and alphas tried.

    Fails where every cell fails a claim that it must meet, or must not fail. Else a cell that fails
    none may still meet them: of those the verdict shows the largest effect, and says how many
    prompts would settle what is open at the one that takes the fewest.
    """
    settings = question.expect(SomeLayerSteers)
    cells = [
        cell
        for cell in question.table.cells
        if cell == Cell(cell.layer, "add", cell.alpha)
        and cell.alpha > 0
        and settings.covers(cell.alpha)
    ]
    if not cells:
        raise MissingScoresError("no steered cells to choose among")
    trials = [_try(question, cell, len(cells)) for cell in cells]
    if all(trial.adjusted["beats_controls"] is None for trial in trials):
        raise MissingScoresError("no controls were run for any layer")
    # Cells come in order of layer and alpha, so the first that meets is the smallest alpha.
    met: dict[int, _Trial] = {}
    for trial in trials:
        if trial.meets:
            met.setdefault(trial.cell.layer, trial)
    hopeful = [trial for trial in trials if not trial.failed]
    outcome: Outcome = "inconclusive"
    found = f"met nowhere, but {_cells_fail_none(len(hopeful))}; largest effect there"
    if met:
        outcome = "pass"
        found = f"met at {_named(met.values())}; largest effect"
    elif not hopeful:
        outcome = "fail"
        found = "met nowhere, and every cell fails one; largest effect"
    shown = max(list(met.values()) or hopeful or trials, key=lambda trial: trial.effect.estimate)
    effect = shown.effect
    estimate = Estimate(
        effect.estimate, effect.low, effect.high, effect.n, effect.p_value, effect.confidence
    )
    prompts, nearest = min(
        ((trial.prompts_to_settle, trial.cell.id) for trial in hopeful if trial.prompts_to_settle),
        default=(None, ""),
    )
    layers = ", ".join(str(layer) for layer in sorted({cell.layer for cell in cells}))
    details: dict[str, Detail] = {
        "comparisons": len(cells),
        "met": _named(met.values()),
        "shown": shown.cell.id,
    }
    details |= {f"layer{layer}_alpha": trial.cell.alpha for layer, trial in met.items()}
    details |= {trial.cell.id: trial.lacks or "meets the claims" for trial in trials}
    return question.verdict(
        _TARGET,
        outcome,
        estimate,
        f"over layers {layers} ({len(cells)} cells, bounds shared among them) the claims are "
        f"{found} {interval(estimate)} at {shown.cell.id} "
        f"(n = {estimate.n} prompts{', ' if shown.lacks else ''}{shown.lacks})",
        lambda: prompts,
        f"what is open at {nearest}",
        "" if prompts else "how many prompts would settle it can't be told",
        details,
    )


def _named(trials: Iterable[_Trial]) -> str:
    return ", ".join(trial.cell.id for trial in trials)


def _cells_fail_none(count: int) -> str:
    return "1 cell fails none" if count == 1 else f"{count} cells fail none"


def _try(question: Question, cell: Cell, comparisons: int) -> _Trial:
    coherent, _ = coherence_gate(question.table, cell, question.other("coherence", Coherence))
    return _Trial(
        cell,
        coherent,
        {
            name: _ask(name, expectation, question.about(name, cell, comparisons))
            for name, expectation in PASSED.items()
        },
        {
            name: _ask(name, expectation, question.about(name, cell))
            for name, expectation in _NOT_FAILED.items()
        },
    )


def _ask(
    name: str, expectation: Callable[[Question], Verdict], question: Question
) -> Verdict | None:
    try:
        return expectation(question)
    except MissingScoresError:
        if name in _OPTIONAL:
            return None
        raise
