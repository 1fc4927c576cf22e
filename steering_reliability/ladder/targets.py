"""What a level's claims are made about, and which cells they need. No model, no scores here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from steering_reliability.cells import LEARNED, Cell, Goal, Intervention
from steering_reliability.claims import (
    LEAST_TREND,
    AblationEffect,
    AlphaMonotonicity,
    BaselineRefusal,
    BeatsControls,
    BenignSideEffect,
    ClaimSettings,
    Coherence,
    DirectionIsReal,
    SomeLayerSteers,
)
from steering_reliability.config import LayersFrom, resolve_layers
from steering_reliability.errors import SteeringError
from steering_reliability.ladder.plan import LevelPlan


@dataclass(frozen=True, order=True)
class Target:
    """What a claim is about: the level (all None), a series of alphas, or a cell.

    Attributes:
        goal: what the cell was chosen for, where an earlier level chose it.
    """

    layer: int | None = None
    intervention: Intervention | None = None
    alpha: float | None = None
    goal: Goal | None = None

    @classmethod
    def of(cls, cell: Cell, goal: Goal | None = None) -> Target:
        return cls(cell.layer, cell.intervention, cell.alpha, goal)

    @property
    def id(self) -> str:
        """As in a test's name: ``layer12-add-alpha2``, ``layer12-add``; ``the level`` for all."""
        if self.layer is None or self.intervention is None:
            return "the level"
        if self.alpha is None:
            return f"layer{self.layer}-{self.intervention}"
        return Cell(self.layer, self.intervention, self.alpha).id


def call_of(plan: LevelPlan, claim: str) -> str:
    """How a test asks for a claim: ``steering.check("coherence", cell)``.

    Raises:
        SteeringError: the level makes no such claim.
    """
    argument = {"level": "", "series": ", series=series", "cell": ", cell"}
    return f'steering.check("{claim}"{argument[_subject(plan.claim(claim))]})'


def is_of_level(plan: LevelPlan, claim: str) -> bool:
    """Whether a claim is made once, of the level as a whole.

    Raises:
        SteeringError: the level makes no such claim.
    """
    return _subject(plan.claim(claim)) == "level"


def _subject(settings: ClaimSettings) -> Literal["level", "series", "cell"]:
    if isinstance(settings, BaselineRefusal | SomeLayerSteers):
        return "level"
    return "series" if isinstance(settings, AlphaMonotonicity | DirectionIsReal) else "cell"


def asked_target(plan: LevelPlan, claim: str, cell: Any, series: Any) -> Target:
    """What a test asks a claim of.

    Args:
        plan: the level.
        claim: the claim's name.
        cell: the cell that the test gives, if any.
        series: the (layer, intervention) that it gives, if any.

    Raises:
        SteeringError: the level makes no such claim, the claim is about something else, the level
            has no such cell or series, or the cell is a control's or another condition's.
    """
    subject = _subject(plan.claim(claim))
    given = {"cell": cell, "series": series}
    found = [f"{name} {_shown(one)}" for name, one in given.items() if one is not None]
    fits = {
        "level": not found,
        "series": cell is None and series is not None,
        "cell": isinstance(cell, Cell) and series is None,
    }
    if not fits[subject]:
        about = {"level": "the level", "series": "a series of alphas", "cell": "a cell"}
        raise SteeringError(
            f"{claim}: found {' and '.join(found) or 'no cell and no series'}, expected "
            f"{about[subject]}, which is what it is claimed of; call {call_of(plan, claim)}"
        )
    if subject == "level":
        return Target()
    return _series_target(plan, series) if subject == "series" else _cell_target(plan, claim, cell)


def _cell_target(plan: LevelPlan, claim: str, cell: Cell) -> Target:
    if not cell.in_grid:
        raise SteeringError(
            f"{claim}: found cell {cell.id}, expected one of the learned direction under the "
            "level's own conditions, which claims are made of; steering.scores(cell) gives the "
            "scores of this one"
        )
    target = Target.of(cell)
    if cell not in plan.splits_of and not _left_out_by(plan, target):
        known = ", ".join(known.id for known in plan.cells)
        raise SteeringError(f"{claim}: found cell {cell.id}, expected one of the level's: {known}")
    return target


def _series_target(plan: LevelPlan, series: Any) -> Target:
    named = tuple(series) if isinstance(series, list | tuple) else (series,)
    target = Target(*named) if len(named) == 2 else Target()
    if named not in plan.series and not _left_out_by(plan, target):
        known = ", ".join(map(str, plan.series))
        raise SteeringError(f"series: found {_shown(series)}, expected one of the level's: {known}")
    return target


def _shown(given: Any) -> str:
    return given.id if isinstance(given, Cell) else repr(given)


def claimed_targets(plan: LevelPlan, claim: str, asked: Target) -> list[Target]:
    """The claim's targets that a test asks for: one cell may have been chosen for two goals."""
    return [one for one in claim_targets(plan, claim) if replace(one, goal=None) == asked]


def why_not_claimed(plan: LevelPlan, claim: str, asked: Target) -> str:
    """Why a claim of the level is not made of what a test asks it of, in one line."""
    option = _left_out_by(plan, asked)
    if option:
        return f"{option} leaves out {asked.id}"
    if not claim_targets(plan, claim) and claim_targets(_as_in_file(plan), claim):
        return f"{_alphas_option(plan)} leaves out the alphas that {claim} is claimed of"
    return f"{claim} is not claimed of {asked.id}"


def left_out_claims(plan: LevelPlan) -> list[str]:
    """A line on the required claims that alphas from the command line leave nothing of, if any."""
    if plan.overrides.alphas is None:
        return []
    whole = _as_in_file(plan)
    claims = [
        claim
        for claim in plan.config.claims
        if plan.claim(claim).required
        and claim_targets(whole, claim)
        and not claim_targets(plan, claim)
    ]
    noun = "claim" if len(claims) == 1 else "claims"
    told = f"{_alphas_option(plan)} leaves out the required {noun} {', '.join(claims)}"
    return [told] if claims else []


def _left_out_by(plan: LevelPlan, target: Target) -> str:
    """The option that takes a cell or series out of the level; empty where it never was in it."""
    alphas = (None, *plan.alphas, *plan.config.alphas)
    if target.intervention not in plan.config.interventions or target.alpha not in alphas:
        return ""
    if target.layer not in plan.layers:
        cut = plan.overrides.layers is not None and target.layer in _layers_without_option(plan)
        return _option("--steer-layers", plan.overrides.layers or ()) if cut else ""
    cut = plan.overrides.alphas is not None and target.alpha not in (None, *plan.alphas)
    return _alphas_option(plan) if cut else ""


def _layers_without_option(plan: LevelPlan) -> Sequence[int]:
    """The layers that the level may have: any of the model where a decision names them."""
    n_layers = plan.facts.n_layers
    if isinstance(plan.config.layers, LayersFrom):
        return range(n_layers)
    # A file that names layers of a larger model is what the option may be given for.
    fitting = [layer for layer in plan.config.layers if layer < n_layers]
    return resolve_layers(fitting, n_layers, where="layers")


def _alphas_option(plan: LevelPlan) -> str:
    return _option("--steer-alphas", plan.overrides.alphas or ())


def _option(name: str, values: Iterable[float]) -> str:
    return f"{name} {','.join(f'{value:g}' for value in values)}"


def _as_in_file(plan: LevelPlan) -> LevelPlan:
    """The level with the alphas of its file."""
    return replace(plan, alphas=tuple(sorted(map(float, plan.config.alphas))))


def claim_targets(plan: LevelPlan, claim: str) -> list[Target]:
    """Everything in the level's grid that a claim is made about.

    Nothing where the command line leaves out alphas without which it says nothing.
    """
    settings = plan.claim(claim)
    if not _has_its_alphas(plan, settings) and _has_its_alphas(_as_in_file(plan), settings):
        return []
    if isinstance(settings, BaselineRefusal | SomeLayerSteers):
        return [Target()]
    if isinstance(settings, AlphaMonotonicity):
        return [Target(layer, kind) for layer, kind in plan.series if kind == "add"]
    if isinstance(settings, DirectionIsReal):
        return [Target(layer, plan.config.interventions[0]) for layer in plan.layers]
    if isinstance(settings, BeatsControls):
        return _controlled(plan, settings)
    if isinstance(settings, AblationEffect):
        cells = [Cell(layer, kind, settings.alpha) for layer, kind in plan.series]
        return [Target.of(cell) for cell in cells if cell.intervention == "ablate"]
    any_intervention = isinstance(settings, Coherence | BenignSideEffect)
    return [
        Target.of(cell)
        for cell in plan.steered_cells
        if (any_intervention or cell.intervention == "add") and settings.covers(cell.alpha)
    ]


def _has_its_alphas(plan: LevelPlan, settings: ClaimSettings) -> bool:
    """Whether the grid has the alphas without which a claim is no more than missing data."""
    if isinstance(settings, AblationEffect):
        return settings.alpha in plan.alphas
    if isinstance(settings, AlphaMonotonicity):
        rising = [one for one in plan.alphas if one == 0 or (one > 0 and settings.covers(one))]
        return len(rising) >= LEAST_TREND
    if isinstance(settings, BeatsControls):
        return bool(_with_controls(plan, settings))
    if isinstance(settings, SomeLayerSteers):
        controls = plan.config.claims.get("beats_controls", BeatsControls())
        assert isinstance(controls, BeatsControls)
        beaten = controls.model_copy(update={"alphas": settings.alphas})
        return any(cell.intervention == "add" for cell in _with_controls(plan, beaten))
    return True


def _claimed(plan: LevelPlan, settings: BeatsControls) -> list[Cell]:
    return [
        cell
        for cell in plan.splits_of
        if cell.direction == LEARNED and cell.alpha > 0 and settings.covers(cell.alpha)
    ]


def _with_controls(plan: LevelPlan, settings: BeatsControls) -> list[Cell]:
    claimed = _claimed(plan, settings)
    return [cell for cell in claimed if plan.controls_of(cell, settings.split)]


def _controlled(plan: LevelPlan, settings: BeatsControls) -> list[Target]:
    """Cells that have controls, by goal where one was chosen.

    Where none has, all that add, which is an error to be shown.
    """
    adding = [cell for cell in _claimed(plan, settings) if cell.intervention == "add"]
    targets: list[Target] = []
    for cell in _with_controls(plan, settings) or adding:
        chosen = [Target.of(cell, goal) for goal in plan.goals.get((settings.split, cell), [])]
        targets += chosen or [Target.of(cell)]
    return targets


def control_targets(plan: LevelPlan, layer: int | None) -> list[Target]:
    """Where the level claims ``beats_controls`` at a layer, and has the controls for it."""
    settings = plan.config.claims.get("beats_controls")
    if not isinstance(settings, BeatsControls):
        return []
    return [
        target
        for target in _controlled(plan, settings)
        if target.layer == layer and len(required_cells(plan, settings, target)) > 2
    ]


def required_cells(plan: LevelPlan, settings: ClaimSettings, target: Target) -> list[Cell]:
    """The cells whose scores a claim needs."""
    if isinstance(settings, SomeLayerSteers):
        return [*plan.cells, *plan.control_cells]
    if isinstance(settings, DirectionIsReal):
        return _needed_of_layer(plan, target)
    if target.layer is None or target.intervention is None:
        return [next(cell for cell in plan.cells if cell.is_baseline)]
    if target.alpha is None:
        series = (target.layer, target.intervention)
        return [cell for cell in plan.cells if (cell.layer, cell.intervention) == series]
    cell = Cell(target.layer, target.intervention, target.alpha)
    controls = []
    if isinstance(settings, BeatsControls):
        controls = plan.controls_of(cell, settings.split)
    return [cell.baseline, cell, *controls]


def _needed_of_layer(plan: LevelPlan, target: Target) -> list[Cell]:
    baseline = next(cell for cell in plan.cells if cell.is_baseline and cell.layer == target.layer)
    controlled = [
        cell
        for wanted in control_targets(plan, target.layer)
        for cell in required_cells(plan, plan.claim("beats_controls"), wanted)
    ]
    return list(dict.fromkeys([baseline, *controlled]))
