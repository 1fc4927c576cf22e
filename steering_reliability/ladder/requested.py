"""A level's requests by cell: what is asked under which condition, and in which order."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

from steering_reliability.cells import Cell
from steering_reliability.engine.requests import GenerationSettings, Request, plan_requests
from steering_reliability.ladder.level_directions import LevelDirections
from steering_reliability.ladder.plan import LevelPlan
from steering_reliability.models.loaded import LoadedModel

EngineKey = tuple[GenerationSettings, str]
"""How an engine generates, and the condition that it serves alone, if any."""


class LevelRequests:
    """All requests of a level.

    Args:
        plan: the level.
        model: the model in memory.
        directions: what the level steers with.
        settings: how the level itself generates.

    Attributes:
        by_cell: in the order of the cell's splits and prompts.
        by_key: the same; cells that share a completion share its key.
        engine_of: by key, what engine it needs.
        longest: tokens of the longest prompt.
    """

    def __init__(
        self,
        plan: LevelPlan,
        model: LoadedModel,
        directions: LevelDirections,
        settings: GenerationSettings,
    ) -> None:
        self._plan, self._model, self._settings = plan, model, settings
        self.by_cell: dict[Cell, list[Request]] = {cell: [] for cell in plan.splits_of}
        self.engine_of: dict[str, EngineKey] = {}
        self._enter(directions)
        self.by_key = {r.key: r for group in self.by_cell.values() for r in group}
        self.longest = max(len(request.tokens) for request in self.by_key.values())

    def keys(self, cells: Iterable[Cell]) -> list[str]:
        """Keys of these cells, each once, in the order in which they are to be generated."""
        return list(dict.fromkeys(r.key for cell in cells for r in self._in_order(cell)))

    def is_reordered(self, cell: Cell) -> bool:
        """Whether the cell generates anew, in another order, what another cell has."""
        condition = self._plan.conditions.get(cell.condition)
        return condition is not None and condition.reordered

    def _in_order(self, cell: Cell) -> list[Request]:
        requests = self.by_cell[cell]
        if not self.is_reordered(cell):
            return requests
        return random.Random(self._settings.seed).sample(requests, len(requests))

    def _enter(self, directions: LevelDirections) -> None:
        plan = self._plan
        together: dict[tuple[tuple[str, ...], tuple[int, ...], str], list[Cell]] = {}
        for cell, splits in plan.splits_of.items():
            sizes = tuple(len(plan.prompts_of(cell, split)) for split in splits)
            together.setdefault((splits, sizes, cell.condition), []).append(cell)
        for (splits, _, name), cells in together.items():
            model, settings = self._under(name)
            again = name if self.is_reordered(cells[0]) else ""
            requests = plan_requests(
                model,
                [prompt for split in splits for prompt in plan.prompts_of(cells[0], split)],
                cells,
                directions.under(name),
                settings,
                alpha_unit=plan.alpha_unit,
                backend=plan.overrides.backend,
                again=again,
            )
            for request in requests:
                self.by_cell[request.cell].append(request)
                self.engine_of[request.key] = (settings, again)

    def _under(self, name: str) -> tuple[LoadedModel, GenerationSettings]:
        """How the model is spoken to and generates under a condition."""
        condition = self._plan.conditions.get(name)
        model, settings = self._model, self._settings
        if condition is not None and condition.system_prompt is not None:
            model = model.with_system_prompt(condition.system_prompt)
        if condition is not None and condition.temperature is not None:
            seed = settings.seed if condition.seed is None else condition.seed
            settings = replace(settings, temperature=condition.temperature, seed=seed)
        return model, settings
