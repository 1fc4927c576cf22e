"""One claim asked of one table: what it is about, and the verdict that answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

from steering_reliability.cells import Cell, Goal, Intervention
from steering_reliability.claims import CLAIM_SETTINGS, ClaimSettings, Coherence
from steering_reliability.expectations.direction_claims import DirectionEvidence
from steering_reliability.expectations.tables import Floats, MissingScoresError, ScoreTable
from steering_reliability.expectations.verdicts import Detail, Outcome, Verdict
from steering_reliability.layer_choices import NAMED, LayerChoice
from steering_reliability.statistics import MOST_PROMPTS, Estimate

Settings = TypeVar("Settings", bound=ClaimSettings)

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Question:
    """A claim, its settings and the cells it is about.

    Attributes:
        comparisons: how many comparisons share the 5% (Bonferroni); 1 leaves bounds as they are.
        claims: settings of the level's other claims, for those that build on them.
        goal: what the cell was chosen for; what cells like it are meant to do if None.
        directions: what is known of the direction of each layer.
        choice: how the cell's layer was come by.
    """

    claim: str
    table: ScoreTable
    settings: ClaimSettings
    layer: int | None = None
    intervention: Intervention | None = None
    alpha: float | None = None
    claims: Mapping[str, ClaimSettings] = field(default_factory=dict)
    comparisons: int = 1
    goal: Goal | None = None
    directions: Mapping[int, DirectionEvidence] = field(default_factory=dict)
    choice: LayerChoice = NAMED

    @property
    def cell(self) -> Cell:
        """The steered cell.

        Raises:
            MissingScoresError: the claim was asked without naming one.
        """
        if self.layer is None or self.intervention is None or self.alpha is None:
            raise MissingScoresError("the claim needs a layer, an intervention and an alpha")
        return Cell(self.layer, self.intervention, self.alpha)

    @property
    def aim(self) -> Goal:
        """Whether the steered cell should raise refusal or lower it."""
        return self.goal or self.cell.aim

    @property
    def target(self) -> str:
        """The steered cell's id, with its goal where that is not what such cells are for."""
        chosen_otherwise = self.aim != self.cell.aim
        return f"{self.cell.id}-to-{self.aim}" if chosen_otherwise else self.cell.id

    @property
    def confidence(self) -> float:
        """Of the interval, or of a one-sided bound, shared among the comparisons."""
        return 1 - (1 - CONFIDENCE) / self.comparisons

    def expect(self, kind: type[Settings]) -> Settings:
        """The settings, known to be those of this claim."""
        return cast("Settings", self.settings)

    def other(self, claim: str, kind: type[Settings]) -> Settings:
        """Settings of another claim of the level, or its defaults."""
        return cast("Settings", self.claims.get(claim) or CLAIM_SETTINGS[claim]())

    def about(self, claim: str, cell: Cell, comparisons: int = 1) -> Question:
        """The same table asked another claim about a cell."""
        return replace(
            self,
            claim=claim,
            settings=self.other(claim, ClaimSettings),
            layer=cell.layer,
            intervention=cell.intervention,
            alpha=cell.alpha,
            comparisons=comparisons,
            goal=None,
        )

    def pair(
        self, column: str, split: str, unseen: bool = False, style: str | None = None
    ) -> tuple[Floats, Floats]:
        """Per-prompt values of the steered cell and of the unsteered model, ``[n]`` each."""
        cells = (self.cell, self.cell.baseline)
        after, before = self.table.aligned(cells, column, (split,), unseen, style)
        return after, before

    def verdict(
        self,
        target: str,
        outcome: Outcome,
        estimate: Estimate,
        sentence: str,
        settle: Callable[[], int | None] | None = None,
        settles: str = "",
        unsettled: str = "",
        details: Mapping[str, Detail] | None = None,
    ) -> Verdict:
        """The verdict, its message put together from the parts.

        Args:
            sentence: what was found, with estimate, interval and n.
            settle: prompts that would settle it; asked of inconclusive claims alone.
            settles: what the prompts would settle, such as ``an effect of .10``.
            unsettled: what to do where no number of prompts settles it, in place of prompts.
            details: further numbers; the cell's are added.
        """
        message = f"{self.claim} [{target}]: {sentence}: {outcome}"
        prompts_to_settle = None
        if outcome == "inconclusive" and unsettled:
            message += f"; {unsettled}"
        elif outcome == "inconclusive" and settle is not None:
            prompts_to_settle = settle()
            message += _settling(prompts_to_settle, estimate.n, settles)
        where: dict[str, Detail] = {
            name: value
            for name, value in (
                ("layer", self.layer),
                ("intervention", self.intervention),
                ("alpha", self.alpha),
                ("why", self.settings.why),
            )
            if value is not None and value != ""
        }
        return Verdict(
            claim=self.claim,
            target=target,
            outcome=outcome,
            estimate=estimate.value,
            low=estimate.low,
            high=estimate.high,
            confidence=estimate.confidence,
            n=estimate.n,
            p_value=estimate.p_value,
            message=message,
            required=self.settings.required,
            prompts_to_settle=prompts_to_settle,
            details={**where, **(details or {})},
        )

    def unanswered(self, target: str, outcome: Outcome, reason: str, n: int = 0) -> Verdict:
        """A verdict without an estimate: missing data, or a claim that does not apply here."""
        return self.verdict(
            target, outcome, Estimate.missing(reason, n), reason, details={"reason": reason}
        )


def _settling(prompts: int | None, n: int, settles: str) -> str:
    if prompts is None:
        return f"; no number of prompts up to {MOST_PROMPTS:,} would settle {settles}"
    if prompts > n:
        return f"; about {prompts} prompts would settle {settles} at 80% power"
    return f"; {n} prompts have 80% power for {settles} already, so the truth lies near the bound"


def coherence_gate(table: ScoreTable, cell: Cell, settings: Coherence) -> tuple[bool, float]:
    """Whether a cell counts as coherent, and its rise of the degenerate share (point estimate).

    Raises:
        MissingScoresError: the cell or its baseline has no scores.
    """
    after, before = degenerate_pair(table, cell, settings)
    rise = float(after.mean() - before.mean())
    return rise <= settings.gate + 1e-9, rise


def degenerate_pair(table: ScoreTable, cell: Cell, settings: Coherence) -> tuple[Floats, Floats]:
    """Per-prompt degenerate shares of a cell and of the unsteered model, all splits together."""
    splits = [split for split in settings.splits if table.has(cell, split)]
    if not splits:
        raise MissingScoresError(f"no completions of {cell.id} on {', '.join(settings.splits)}")
    after, before = table.aligned((cell, cell.baseline), "is_degenerate", splits)
    return after, before
