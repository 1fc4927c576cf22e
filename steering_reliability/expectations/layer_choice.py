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

from collections.abc import Iterable

import numpy as np

from steering_reliability import statistics
from steering_reliability.cells import LEARNED, Cell, Goal
from steering_reliability.expectations.tables import ScoreTable
from steering_reliability.expectations.verdicts import number, p_text
from steering_reliability.layer_choices import NAMED, LayerChoice


def layer_choice_text(choice: LayerChoice) -> str:
    """What a choice means for the rank, for the verdict; empty where nothing was chosen."""
    if choice.tried == 1:
        return ""
    best = f"; its layer is the best of {choice.tried}"
    if choice.elsewhere_p is None:
        told = f"{best}, with too few random directions at the others for them to back it up"
    else:
        told = (
            f"{best} and the others {'back' if choice.backed else 'do not back'} it up (there "
            f"the rank is {p_text(choice.elsewhere_p)}, at most {number(choice.needed)} is needed)"
        )
    return (
        told
        if choice.times == 1
        else f"{told}, so the rank's p told here is {choice.times} times what the rank gives"
    )


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
    if {cell.layer for cell in rivals} != others or not alone.is_enough(1 / (len(shared) + 1)):
        return alone
    sign = 1 if goal == "raise" else -1

    def strength(direction: str) -> float:
        rates = [
            table.refused(
                (Cell(cell.layer, cell.intervention, cell.alpha, direction),), goal, (split,)
            )[0].mean()
            for cell in rivals
        ]
        return sign * float(np.mean(rates))

    return LayerChoice(
        alone.tried, statistics.rank_test(strength(LEARNED), [strength(name) for name in shared])
    )
