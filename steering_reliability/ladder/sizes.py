"""How many prompts of a split each cell of a level is run on: checks may take the first few."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from steering_reliability.cells import Cell
from steering_reliability.config import LevelConfig
from steering_reliability.ladder.conditions import Condition

Part = tuple[Cell | None, str]
"""Distinct completions: a cell, or None for the unsteered model, on a split."""


def prompt_limits(
    config: LevelConfig,
    conditions: Mapping[str, Condition],
    sanity_cells: Iterable[Cell],
    grid: Iterable[Cell],
) -> dict[tuple[Cell, str], int]:
    """Prompts of a (cell, split), for those that the checks alone want and not on all prompts."""
    sanity = config.sanity
    if sanity is None:
        return {}
    everywhere = set(grid)
    kept = config.confirm.split if config.confirm else None
    limits = {}
    for cell in sanity_cells:
        condition = conditions.get(cell.condition)
        if condition is not None:
            limit = condition.prompts
        elif cell in everywhere or sanity.split == kept:
            limit = None
        else:
            limit = None if sanity.prompts == "all" else sanity.prompts
        if limit is not None:
            limits[cell, sanity.split] = limit
    return limits
