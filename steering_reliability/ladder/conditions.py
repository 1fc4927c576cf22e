"""Conditions other than the level's own, by the name that a cell carries. No model here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from steering_reliability.config import LevelConfig

PROMPT_BASELINE = "system-prompt-baseline"
PROMPT_ORDER = "prompt-order"


@dataclass(frozen=True)
class Condition:
    """What differs from the level; None leaves it as it is.

    Attributes:
        meaning: what differs, in words.
        system_prompt: in place of the profile's.
        temperature: in place of the level's.
        seed: in place of the level's.
        half: what the direction is learned from every second one of.
        other_pairs: whether the direction is learned from prefix pairs in other words.
        reordered: whether the prompts are generated anew, in another order.
        prompts: prompts of the split that it is run on, the first ones; None for all.
    """

    meaning: str
    system_prompt: str | None = None
    temperature: float | None = None
    seed: int | None = None
    half: Literal["pairs", "prompts"] | None = None
    other_pairs: bool = False
    reordered: bool = False
    prompts: int | None = None

    @property
    def is_of_direction(self) -> bool:
        """Whether the unsteered model is not concerned."""
        return self.half is not None or self.other_pairs


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
    # A saved direction does not tell what could be halved, or learned in other words.
    if config.direction.file is None:
        found["other-pairs"] = Condition(
            "a direction learned from prefix pairs in other words", other_pairs=True
        )
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
    n = None if sanity.prompts == "all" else sanity.prompts
    limited = {name: replace(condition, prompts=n) for name, condition in found.items()}
    if sanity.reordered:
        few = sanity.reordered if n is None else min(n, sanity.reordered)
        limited[PROMPT_ORDER] = Condition(
            "prompts generated anew, in another order", reordered=True, prompts=few
        )
    return limited
