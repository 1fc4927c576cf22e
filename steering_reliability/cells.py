"""Cells of a level's grid: where, how and how strongly the model is steered.

This module knows nothing about prompts, models or completions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

Intervention = Literal["add", "ablate"]
INTERVENTIONS: tuple[str, ...] = get_args(Intervention)

Goal = Literal["raise", "lower"]
GOALS: tuple[Goal, ...] = get_args(Goal)

LEARNED = "learned"
DEFAULT_CONDITION = "default"

_ID = re.compile(
    rf"layer(?P<layer>\d+)-(?P<kind>{'|'.join(INTERVENTIONS)})-alpha(?P<alpha>-?[\d.]+(e[+-]\d+)?)"
)


@dataclass(frozen=True, order=True)
class Cell:
    """One point of a grid: what is done to the residual stream while a completion is generated.

    Attributes:
        layer: 0-indexed block whose output is steered.
        intervention: ``"add"`` or ``"ablate"``.
        alpha: strength; for ``add`` in alpha units (a stated fraction of the layer's median
            residual norm), for ``ablate`` the share of the component that is removed.
        direction: ``"learned"``, or the name of a control (``"random-1"``, ``"shuffled-1"``,
            ``"reversed"``).
        condition: the prompt condition, ``"default"`` unless a level compares system prompts.

    Raises:
        ValueError: the layer is no number or negative, the intervention is unknown, or alpha is no
            finite number.
    """

    layer: int
    intervention: Intervention
    alpha: float
    direction: str = LEARNED
    condition: str = DEFAULT_CONDITION

    def __post_init__(self) -> None:
        if not _is_number(self.layer) or self.layer < 0:
            raise ValueError(f"layer: found {self.layer!r}, expected a whole number from 0 on")
        if self.intervention not in INTERVENTIONS:
            known = ", ".join(INTERVENTIONS)
            raise ValueError(f"intervention: found {self.intervention!r}, expected one of {known}")
        if not _is_number(self.alpha) or not abs(self.alpha) < float("inf"):
            raise ValueError(f"alpha: found {self.alpha!r}, expected a finite number")
        # 2 and 2.0 are one cell with one id, however YAML or a user wrote it.
        object.__setattr__(self, "alpha", float(self.alpha) + 0.0)

    @property
    def is_baseline(self) -> bool:
        """Whether the model is left unsteered; such cells share one set of completions."""
        return self.alpha == 0

    @property
    def in_grid(self) -> bool:
        """Whether it is of the learned direction and under the level's own conditions."""
        return (self.direction, self.condition) == (LEARNED, DEFAULT_CONDITION)

    @property
    def id(self) -> str:
        """Stable id, as in a test's name: ``layer12-add-alpha2``."""
        parts = [f"layer{self.layer}", self.intervention, f"alpha{self.alpha:g}"]
        if self.direction != LEARNED:
            parts.append(self.direction)
        if self.condition != DEFAULT_CONDITION:
            parts.append(self.condition)
        return "-".join(parts)

    @classmethod
    def from_id(cls, text: str) -> Cell:
        """The cell of the grid with this id.

        Raises:
            ValueError: no cell of a grid has such an id.
        """
        found = _ID.fullmatch(text)
        if found is None:
            raise ValueError(f"cell: found {text!r}, expected an id such as layer12-add-alpha2")
        return cls(int(found["layer"]), cast(Intervention, found["kind"]), float(found["alpha"]))

    @property
    def aim(self) -> Goal:
        """What the cell is meant to do to refusal, unless it was chosen for another goal."""
        return "raise" if self.intervention == "add" and self.alpha > 0 else "lower"

    @property
    def baseline(self) -> Cell:
        """The unsteered cell that this one is compared with, at the same layer and intervention."""
        return Cell(self.layer, self.intervention, 0.0, LEARNED, self.condition)

    def __str__(self) -> str:
        return self.id


def _is_number(value: object) -> bool:
    # Numbers of numpy and torch are as good.
    return hasattr(value, "__float__")


def expand_grid(
    layers: Iterable[int], interventions: Iterable[Intervention], alphas: Iterable[float]
) -> list[Cell]:
    """All cells of a grid, layer by layer, then by intervention, then by ascending alpha."""
    ascending = sorted(set(map(float, alphas)))
    return [
        Cell(layer, intervention, alpha)
        for layer in dict.fromkeys(layers)
        for intervention in dict.fromkeys(interventions)
        for alpha in ascending
    ]
