"""What a level consists of: its grid, prompts and claims. No model and no torch here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from steering_reliability.cells import LEARNED, Cell, Goal, Intervention, expand_grid
from steering_reliability.claims import ClaimSettings
from steering_reliability.config import LevelConfig, ModelProfile, load_level, load_profile
from steering_reliability.config import resolve_layers as layers_in_model
from steering_reliability.errors import SteeringError
from steering_reliability.ladder.choices import (
    Confirmation,
    Layers,
    choose_confirmations,
    choose_layers,
)
from steering_reliability.ladder.conditions import (
    PROMPT_BASELINE,
    Condition,
    conditions_of,
    sanity_conditions,
)
from steering_reliability.ladder.direction_source import direction_source
from steering_reliability.ladder.sizes import Part, prompt_limits
from steering_reliability.layer_choices import NAMED, LayerChoice
from steering_reliability.models.sources import ModelFacts, read_facts
from steering_reliability.prompts import Prompt, check_prompts


@dataclass(frozen=True)
class Overrides:
    """What the command line changes of every level.

    Attributes:
        model: a profile's name, a folder or a hub id.
        layers: layer indices or depths in place of the level's.
        alphas: alphas in place of the level's; 0 is added.
        device: where the model runs.
        dtype: in place of the profile's.
        backend: the engine.
    """

    model: str = "embedded"
    layers: tuple[int | float, ...] | None = None
    alphas: tuple[float, ...] | None = None
    device: str = "auto"
    dtype: str | None = None
    backend: str = "slots"


@dataclass(frozen=True)
class LevelPlan:
    """A level on a model, with everything resolved that needs no model in memory.

    Attributes:
        config: the level as its YAML file says.
        profile: the model's settings.
        facts: the model's number of layers and width.
        overrides: what the command line changed.
        layers: layer indices of the grid.
        alphas: alphas of the grid, ascending.
        confirmations: operating points that are run on the split kept for them.
        provisional: layers or operating points are defaults, since no level has chosen them.
        decided_on: fingerprints of the models that the decisions taken over were made on.
        prompts: the prompts that are evaluated, by split.
        learning: the prompts that the direction is learned from.
        direction_files: saved directions by layer, where none is learned.
        seen: ids of the prompts that the direction has seen.
        notes: lines to be told to the user, such as near-duplicate prompts.
        placebo: prompts that placebo pairs are read on; none where no claim asks for them.
        benign_contrast: benign prompts that the prefixes are read on too.
        layer_choice: how the one layer was come by, where a decision named it.
    """

    config: LevelConfig
    profile: ModelProfile
    facts: ModelFacts
    overrides: Overrides
    layers: tuple[int, ...]
    alphas: tuple[float, ...]
    confirmations: tuple[Confirmation, ...]
    provisional: bool
    decided_on: frozenset[str]
    prompts: dict[str, list[Prompt]]
    learning: list[Prompt]
    direction_files: dict[int, Path]
    seen: frozenset[str]
    notes: tuple[str, ...] = field(default=())
    placebo: tuple[Prompt, ...] = ()
    benign_contrast: tuple[Prompt, ...] = ()
    layer_choice: LayerChoice = NAMED

    @property
    def level(self) -> str:
        return self.config.level

    @property
    def run_name(self) -> str:
        """Name of the run folder."""
        return self.config.run_name(self.profile.name)

    @cached_property
    def cells(self) -> list[Cell]:
        """The grid, baselines included: layer by layer, then by intervention and alpha."""
        return expand_grid(self.layers, self.config.interventions, self.alphas)

    @property
    def steered_cells(self) -> list[Cell]:
        return [cell for cell in self.cells if not cell.is_baseline]

    @property
    def series(self) -> list[tuple[int, Intervention]]:
        """The (layer, intervention) pairs of the grid, each with all alphas."""
        return [(layer, kind) for layer in self.layers for kind in self.config.interventions]

    @property
    def control_cells(self) -> list[Cell]:
        """Directions that should not work, beside the grid's cells or an operating point."""
        return [cell for cell in self.splits_of if cell.direction != LEARNED]

    @property
    def confirmed_cells(self) -> list[Cell]:
        """The operating points that are run on the split kept for confirming."""
        return list(dict.fromkeys(point.cell for point in self.confirmations))

    @cached_property
    def goals(self) -> dict[tuple[str, Cell], list[Goal]]:
        """What the operating points were chosen for, by the split that confirms them and cell."""
        goals: dict[tuple[str, Cell], list[Goal]] = {}
        for point in self.confirmations:
            assert self.config.confirm is not None
            goals.setdefault((self.config.confirm.split, point.cell), []).append(point.goal)
        return goals

    @cached_property
    def splits_of(self) -> dict[Cell, tuple[str, ...]]:
        """Every cell of the level, the grid's first, with the splits that it is run on."""
        splits = {cell: tuple(self.config.grid_splits) for cell in self.cells}
        for cell in self._grid_controls():
            splits[cell] = (self.config.controls.split,)
        for cell in self._on_kept_split():
            assert self.config.confirm is not None
            splits[cell] = (*splits.get(cell, ()), self.config.confirm.split)
        for cell in self.prompted_cells:
            assert self.config.prompt_baseline is not None
            splits[cell] = tuple(self.config.prompt_baseline.splits)
        for cell in self.sanity_cells:
            assert self.config.sanity is not None
            had = splits.get(cell, ())
            splits[cell] = tuple(dict.fromkeys([*had, self.config.sanity.split]))
        return splits

    @cached_property
    def conditions(self) -> dict[str, Condition]:
        """Conditions other than the level's own, by the name that cells carry."""
        return conditions_of(self.config)

    @property
    def prompted_cells(self) -> list[Cell]:
        """The unsteered model under the system prompt that steering is compared with."""
        if self.config.prompt_baseline is None:
            return []
        return [replace(self.cells[0].baseline, condition=PROMPT_BASELINE)]

    @property
    def checked_cell(self) -> Cell | None:
        """The operating point whose effect is checked under other conditions."""
        if self.config.sanity is None:
            return None
        adding = (cell for cell in self.confirmed_cells if cell.aim == "raise")
        return next(adding, None)

    @property
    def sanity_cells(self) -> list[Cell]:
        """The checked operating point and its baseline, then both under every other condition."""
        if self.checked_cell is None:
            return []
        steered = [self.checked_cell]
        steered += [replace(steered[0], condition=name) for name in sanity_conditions(self.config)]
        return [one for cell in steered for one in (cell.baseline, cell)]

    def _grid_controls(self) -> list[Cell]:
        controls = self.config.controls
        return [
            Cell(layer, kind, alpha, name)
            for layer, kind in self.series
            for alpha in self.alphas
            for name in controls.names_at(kind, alpha)
        ]

    def _on_kept_split(self) -> list[Cell]:
        """Operating points, their baselines, and the random directions they are ranked among."""
        cells = []
        for cell in self.confirmed_cells:
            assert self.config.confirm is not None
            cells += [cell.baseline, cell]
            rivals = range(1, self.config.confirm.random + 1)
            cells += [replace(cell, direction=f"random-{number}") for number in rivals]
        return list(dict.fromkeys(cells))

    def controls_of(self, cell: Cell, split: str) -> list[Cell]:
        """Random and shuffled directions that are run like this cell on a split."""
        return [
            other
            for other, splits in self.splits_of.items()
            if split in splits
            and other.direction.startswith(("random-", "shuffled-"))
            and replace(other, direction=LEARNED) == cell
        ]

    @cached_property
    def _limits(self) -> dict[tuple[Cell, str], int]:
        return prompt_limits(self.config, self.conditions, self.sanity_cells, self.cells)

    def prompts_of(self, cell: Cell, split: str) -> list[Prompt]:
        """The prompts that a cell is run on: the first ones of the split where they are few."""
        return self.prompts[split][: self._limits.get((cell, split))]

    def n_completions_of(self, cell: Cell) -> int:
        """Completions of one cell, on all splits that it is run on."""
        prompts = sum(len(self.prompts_of(cell, split)) for split in self.splits_of[cell])
        return prompts * self.config.generation.samples

    @cached_property
    def parts(self) -> dict[Part, int]:
        """All distinct (cell, split) of the level, with the number of their prompts."""
        parts: dict[Part, int] = {}
        for cell, splits in self.splits_of.items():
            for split in splits:
                part = (self._as_generated(cell), split)
                parts[part] = max(parts.get(part, 0), len(self.prompts_of(cell, split)))
        return parts

    def _as_generated(self, cell: Cell) -> Cell | None:
        """The same for cells that are the same completions; None is the unsteered model."""
        if not cell.is_baseline:
            return cell
        condition = self.conditions.get(cell.condition)
        if condition is None or condition.is_of_direction:
            return None
        return Cell(0, "add", 0.0, condition=cell.condition)

    @property
    def n_prompts(self) -> int:
        """Prompts that every cell of the grid is run on."""
        return sum(len(self.prompts[split]) for split in self.config.grid_splits)

    @property
    def n_completions(self) -> int:
        """Distinct completions of the grid: the unsteered ones are generated once."""
        steered = len(self.steered_cells) + any(cell.is_baseline for cell in self.cells)
        return steered * self.n_prompts * self.config.generation.samples

    @property
    def n_beside_grid(self) -> int:
        """Distinct completions of controls, confirmations and other conditions."""
        return sum(self.parts.values()) * self.config.generation.samples - self.n_completions

    @property
    def n_unsteered_shared(self) -> int:
        """Rows of the grid that reuse the unsteered completions of another cell."""
        rows = len(self.cells) * self.n_prompts * self.config.generation.samples
        return rows - self.n_completions

    @property
    def alpha_unit(self) -> float:
        """One unit of alpha, as a fraction of the median residual norm."""
        return self.config.direction.alpha_unit or self.profile.alpha_unit

    def claim(self, name: str) -> ClaimSettings:
        """Settings of one of the level's claims.

        Raises:
            SteeringError: the level makes no such claim.
        """
        settings = self.config.claims.get(name)
        if not isinstance(settings, ClaimSettings):
            made = ", ".join(self.config.claims) or "none"
            raise SteeringError(
                f"{self.config.path or self.level}: claims: {name!r} is checked by a test but "
                f"not among the level's claims ({made}); add it to the file"
            )
        return settings


def plan_level(path: Path, overrides: Overrides, decisions: Path | None = None) -> LevelPlan:
    """Read a level's file, its prompts, its model's facts and what earlier levels decided.

    Args:
        path: the level's YAML file.
        overrides: what the command line changes.
        decisions: folder of the earlier levels' decisions, if there is one.

    Raises:
        SteeringError: any of them is wrong, or they don't fit each other; a decision that can't
            be used is no error, but makes the plan provisional.
    """
    config = load_level(path)
    profile = load_profile(overrides.model, path.parent)
    facts = read_facts(profile.source)
    if overrides.layers is None:
        layers = choose_layers(config, profile, facts, decisions)
    else:
        named = layers_in_model(overrides.layers, facts.n_layers, where="--steer-layers")
        layers = Layers(tuple(named), f"layer {', '.join(map(str, named))}: from --steer-layers")
    confirmed = choose_confirmations(config, profile, facts, decisions)
    alphas = config.alphas if overrides.alphas is None else [0.0, *overrides.alphas]
    everything = config.load_prompts()
    notes = check_prompts(everything)
    used = {*layers.indices, *(point.cell.layer for point in confirmed.points)}
    source = direction_source(config, facts, sorted(used), everything)
    return LevelPlan(
        config=config,
        profile=profile,
        facts=facts,
        overrides=overrides,
        layers=layers.indices,
        alphas=tuple(sorted({float(alpha) for alpha in alphas})),
        confirmations=confirmed.points,
        provisional=layers.provisional or confirmed.provisional,
        decided_on=frozenset({layers.fingerprint, confirmed.fingerprint} - {""}),
        prompts=_evaluated(config, everything),
        learning=source.learning,
        direction_files=source.files,
        seen=source.seen,
        notes=tuple(note for note in (layers.note, confirmed.note, *notes) if note),
        placebo=source.placebo,
        benign_contrast=source.benign_contrast,
        layer_choice=layers.choice,
    )


def _evaluated(config: LevelConfig, everything: dict[str, list[Prompt]]) -> dict[str, list[Prompt]]:
    count = config.prompts.per_split
    return {
        split: prompts if count == "all" else prompts[:count]
        for split, prompts in everything.items()
    }
