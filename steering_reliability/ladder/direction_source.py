"""What a level's directions are made of and checked on: prompts, or saved files. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steering_reliability.config import LevelConfig
from steering_reliability.directions.formats import check_direction
from steering_reliability.errors import SteeringError
from steering_reliability.models.sources import ModelFacts
from steering_reliability.prompts import Prompt

# Prefixes are fixed texts, whose directions differ little from prompt to prompt: few are enough.
_DIAGNOSED = 8


@dataclass(frozen=True)
class DirectionSource:
    """Where the directions of a level come from.

    Attributes:
        learning: the prompts that they are learned from; none where they are loaded.
        files: saved directions by layer, where none is learned.
        seen: ids of the prompts that they have seen, those that a file names included.
        placebo: prompts that placebo pairs are read on; none where no claim asks for them.
        benign_contrast: benign prompts that the prefixes are read on too.
    """

    learning: list[Prompt]
    files: dict[int, Path]
    seen: frozenset[str]
    placebo: tuple[Prompt, ...]
    benign_contrast: tuple[Prompt, ...]


def direction_source(
    config: LevelConfig,
    facts: ModelFacts,
    layers: Sequence[int],
    everything: dict[str, list[Prompt]],
) -> DirectionSource:
    """Resolve what a level's file says of its directions.

    Args:
        config: the level.
        facts: number of layers and width, which saved directions must fit.
        layers: layers that a direction is needed at.
        everything: all prompts of every split.

    Raises:
        SteeringError: a split has too few prompts to learn from, or a file is not a direction
            of this model.
    """
    files = _files(config, layers)
    learning = [] if files else _learning(config, everything)
    seen = {prompt.id for prompt in learning}
    for layer, file in files.items():
        seen.update(check_direction(file, facts, layer=layer)["prompt_ids"])
    return DirectionSource(
        learning=learning,
        files=files,
        seen=frozenset(seen),
        placebo=_placebo(config, everything),
        benign_contrast=tuple(config.load_benign_contrast(_DIAGNOSED)),
    )


def _files(config: LevelConfig, layers: Sequence[int]) -> dict[int, Path]:
    if config.direction.file is None:
        return {}
    folder = config.path.parent if config.path else Path()
    return {
        layer: folder / config.direction.file.replace("{layer}", str(layer)) for layer in layers
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


def _placebo(config: LevelConfig, everything: dict[str, list[Prompt]]) -> tuple[Prompt, ...]:
    """The first learning prompts, also where a direction is loaded from a file."""
    if "direction_is_real" not in config.claims:
        return ()
    wanted = config.direction.learn_from
    return tuple(everything[wanted.split][-wanted.last :][:_DIAGNOSED])
