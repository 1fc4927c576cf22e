"""What a choice among layers costs a rank: the best of several is ahead by luck alone.

A direction's effect is its own, so fresh prompts do not undo the choice. But a direction that
means nothing has an effect of its own at every layer, so the layers that were not chosen tell
luck from more. With m layers tried, the p of the rank at the chosen one stands as it is where the
direction is among the strongest 1/2m of the random ones at the others too, and is multiplied by
2m where it is not. A lucky direction leads at a layer with chance p, the others back it up with
chance 1/2m, and there are m layers for it to happen at: p/2; the other p/2 is for leading 2m
times as many. That is for layers that have nothing in common. Where a direction's effects are
alike at all layers there is nothing to choose, and it is p; in between, with three layers, at
most 1.2 p (``tests/unit/test_layer_choice.py`` simulates it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from steering_reliability import statistics
from steering_reliability.cells import LEARNED, Cell, Goal
from steering_reliability.expectations.rules import ROUNDING
from steering_reliability.expectations.tables import ScoreTable
from steering_reliability.expectations.verdicts import number, p_text


@dataclass(frozen=True)
class LayerChoice:
    """How the layer of an operating point was come by.

    Attributes:
        tried: layers that it is the best of; 1 where it was named beforehand.
        elsewhere_p: rank p of the direction at the other layers, all together; None where it is
            not known, since nothing was chosen or too few random ones were run at them.
    """

    tried: int = 1
    elsewhere_p: float | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> LayerChoice:
        """From what a decision says of its chosen cell; empty of one that nothing chose."""
        return cls(int(record.get("layers_tried", 1)), record.get("elsewhere_p"))

    def to_dict(self) -> dict[str, int | float | None]:
        """For the decision that chose the layer."""
        return {"layers_tried": self.tried, "elsewhere_p": self.elsewhere_p}

    @property
    def needed(self) -> float:
        """Largest rank p at the other layers that backs up the chosen one."""
        return 1 / (2 * self.tried)

    @property
    def backed(self) -> bool:
        """Whether the direction leads at the other layers too."""
        return self.elsewhere_p is not None and self.elsewhere_p <= self.needed + ROUNDING

    @property
    def times(self) -> int:
        """What the rank's p is multiplied by (Bonferroni), where the other layers are no help."""
        if self.tried == 1:
            return 1
        if self.elsewhere_p is None:
            return self.tried
        return 1 if self.backed else 2 * self.tried

    @property
    def sentence(self) -> str:
        """What it means for the rank, for the verdict; empty where nothing was chosen."""
        if self.tried == 1:
            return ""
        best = f"; its layer is the best of {self.tried}"
        if self.elsewhere_p is None:
            told = f"{best}, with too few random directions at the others for them to back it up"
        else:
            told = (
                f"{best} and the others {'back' if self.backed else 'do not back'} it up (there "
                f"the rank is {p_text(self.elsewhere_p)}, at most {number(self.needed)} is needed)"
            )
        return told if self.times == 1 else f"{told}, so the rank's p is taken {self.times} times"


NAMED = LayerChoice()
"""The layer was named beforehand."""


def layer_choice(
    table: ScoreTable, chosen: Cell, tried: Iterable[int], goal: Goal, split: str
) -> LayerChoice:
    """How the layer of a cell was chosen among several, by the scores that it was chosen on.

    Args:
        table: scores of the level that chose.
        chosen: the cell.
        tried: the layers that it was chosen among.
        goal: what it was chosen for.
        split: whose prompts the effect was measured on.
    """
    others = set(tried) - {chosen.layer}
    if not others:
        return NAMED
    rivals = {
        cell: controls
        for cell in table.cells
        if cell.layer in others
        and cell == Cell(cell.layer, chosen.intervention, cell.alpha)
        and cell.alpha * chosen.alpha > 0
        and (controls := table.controls(cell, ("random-",), split))
    }
    alone = LayerChoice(len(others) + 1)
    names = [{control.direction for control in controls} for controls in rivals.values()]
    shared = sorted(set.intersection(*names)) if names else []
    if {cell.layer for cell in rivals} != others or 1 / (len(shared) + 1) > alone.needed + ROUNDING:
        return alone
    sign = 1 if goal == "raise" else -1

    def strength(direction: str) -> float:
        rates = [
            table.values(
                Cell(cell.layer, cell.intervention, cell.alpha, direction), "is_refusal", (split,)
            )[1].mean()
            for cell in rivals
        ]
        return sign * float(np.mean(rates))

    return LayerChoice(
        alone.tried, statistics.rank_test(strength(LEARNED), [strength(name) for name in shared])
    )
