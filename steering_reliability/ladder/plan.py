"""What a level consists of: its grid, prompts and claims. No model and no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from steering_reliability.cells import Cell, Intervention, expand_grid
from steering_reliability.claims import ClaimSettings
from steering_reliability.config import LevelConfig, ModelProfile, load_level, load_profile
from steering_reliability.config import resolve_layers as layers_in_model
from steering_reliability.directions.formats import check_direction
from steering_reliability.errors import SteeringError
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
        prompts: the prompts that are evaluated, by split.
        learning: the prompts that the direction is learned from.
        direction_files: saved directions by layer, where none is learned.
        seen: ids of the prompts that the direction has seen.
        notes: lines to be told to the user, such as near-duplicate prompts.
    """

    config: LevelConfig
    profile: ModelProfile
    facts: ModelFacts
    overrides: Overrides
    layers: tuple[int, ...]
    alphas: tuple[float, ...]
    prompts: dict[str, list[Prompt]]
    learning: list[Prompt]
    direction_files: dict[int, Path]
    seen: frozenset[str]
    notes: tuple[str, ...] = field(default=())

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
    def n_prompts(self) -> int:
        return sum(len(prompts) for prompts in self.prompts.values())

    @property
    def n_completions(self) -> int:
        """Distinct completions of the grid: the unsteered ones are generated once."""
        return (len(self.steered_cells) + 1) * self.n_prompts * self.config.generation.samples

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


def plan_level(path: Path, overrides: Overrides) -> LevelPlan:
    """Read a level's file, its prompts and its model's facts.

    Raises:
        SteeringError: any of them is wrong, or they don't fit each other.
    """
    config = load_level(path)
    profile = load_profile(overrides.model, path.parent)
    facts = read_facts(profile.source)
    if overrides.layers is None:
        layers = config.resolve_layers(facts.n_layers)
    else:
        layers = layers_in_model(overrides.layers, facts.n_layers, where="--steer-layers")
    alphas = config.alphas if overrides.alphas is None else [0.0, *overrides.alphas]
    everything = config.load_prompts()
    notes = check_prompts(everything)
    files = _direction_files(config, layers)
    learning = [] if files else _learning(config, everything)
    seen = {prompt.id for prompt in learning}
    for layer, file in files.items():
        seen.update(check_direction(file, facts, layer=layer)["prompt_ids"])
    return LevelPlan(
        config=config,
        profile=profile,
        facts=facts,
        overrides=overrides,
        layers=tuple(layers),
        alphas=tuple(sorted({float(alpha) for alpha in alphas})),
        prompts=_evaluated(config, everything),
        learning=learning,
        direction_files=files,
        seen=frozenset(seen),
        notes=tuple(notes),
    )


def _direction_files(config: LevelConfig, layers: Sequence[int]) -> dict[int, Path]:
    if config.direction.file is None:
        return {}
    folder = config.path.parent if config.path else Path()
    return {
        layer: folder / config.direction.file.replace("{layer}", str(layer)) for layer in layers
    }


def _evaluated(config: LevelConfig, everything: dict[str, list[Prompt]]) -> dict[str, list[Prompt]]:
    count = config.prompts.per_split
    return {
        split: prompts if count == "all" else prompts[:count]
        for split, prompts in everything.items()
    }


def _learning(config: LevelConfig, everything: dict[str, list[Prompt]]) -> list[Prompt]:
    wanted = config.direction.learn_from
    prompts: Sequence[Prompt] = everything[wanted.split]
    if len(prompts) < wanted.last:
        raise SteeringError(
            f"{config.path}: direction.learn_from.last: found {wanted.last}, expected at most "
            f"{len(prompts)}, the prompts of {wanted.split}"
        )
    return list(prompts[-wanted.last :])
