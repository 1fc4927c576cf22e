"""Conditions other than the level's own, by the name that a cell carries. No model here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from steering_reliability.config import LevelConfig

PROMPT_BASELINE = "system-prompt-baseline"


@dataclass(frozen=True)
class Condition:
    """What differs from the level; None leaves it as it is.

    Attributes:
        meaning: what differs, in words.
        system_prompt: in place of the profile's.
        temperature: in place of the level's.
        seed: in place of the level's.
        half: what the direction is learned from every second one of.
    """

    meaning: str
    system_prompt: str | None = None
    temperature: float | None = None
    seed: int | None = None
    half: Literal["pairs", "prompts"] | None = None

    @property
    def is_of_direction(self) -> bool:
        """Whether the unsteered model is not concerned."""
        return self.half is not None


def conditions_of(config: LevelConfig) -> dict[str, Condition]:
    """All conditions of a level by name, the prompt baseline first."""
    found: dict[str, Condition] = {}
    if config.prompt_baseline is not None:
        found[PROMPT_BASELINE] = Condition(
            "the unsteered model under another system prompt",
            system_prompt=config.prompt_baseline.system_prompt,
        )
    return found | sanity_conditions(config)


def sanity_conditions(config: LevelConfig) -> dict[str, Condition]:
    """Conditions under which the effect of an operating point is measured again."""
    sanity = config.sanity
    if sanity is None:
        return {}
    found: dict[str, Condition] = {}
    # A saved direction does not tell what could be halved.
    if config.direction.file is None:
        found["half-pairs"] = Condition("every second pair of prefixes", half="pairs")
        found["half-prompts"] = Condition("every second learning prompt", half="prompts")
    found["other-system-prompt"] = Condition(
        "another system prompt", system_prompt=sanity.system_prompt
    )
    for seed in sanity.seeds:
        found[f"sampled-{seed}"] = Condition(
            f"sampled at temperature {sanity.temperature:g}, seed {seed}",
            temperature=sanity.temperature,
            seed=seed,
        )
    return found
