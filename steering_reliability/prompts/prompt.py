"""One prompt, and the fingerprint of several. Knows nothing about files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from steering_reliability.errors import SteeringError


@dataclass(frozen=True)
class Prompt:
    """One request to a model.

    Attributes:
        id: unique within a level, over all its splits; stable, because sampling is keyed by it.
        text: the user's turn, before any system prompt or chat template.
        split: ``harm_train``, ``harm_test``, ``harm_confirm``, ``benign`` or a level's own.
        category: subject, e.g. ``"fraud"``.
        style: phrasing, e.g. ``"direct"``, ``"role-play"``.

    Raises:
        ValueError: the id is empty or the text is blank.
    """

    id: str
    text: str
    split: str = ""
    category: str = ""
    style: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("id: found '', expected text")
        if not self.text.strip():
            raise ValueError(f"text of prompt {self.id!r}: found {self.text!r}, expected text")


def check_are_prompts(prompts: Iterable[object], where: str = "prompts") -> None:
    """Refuse bare texts, which have no id.

    Raises:
        SteeringError: one of them is no prompt.
    """
    for prompt in prompts:
        if not isinstance(prompt, Prompt):
            raise SteeringError(
                f"{where}: found {short(prompt)}, expected a list of Prompt; load_prompts reads "
                "one, Prompt(id, text) makes one"
            )


def prompts_hash(prompts: Iterable[Prompt]) -> str:
    """SHA-256 (hex) of the ids and texts, in order; a direction keeps that of its prompts."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(json.dumps([prompt.id, prompt.text]).encode() + b"\n")
    return digest.hexdigest()


def short(value: object) -> str:
    return cut(repr(value))


def cut(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
