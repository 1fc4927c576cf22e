"""The probes of a level's cells: read once, kept by everything that they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from steering_reliability.cells import Cell
from steering_reliability.errors import SteeringError
from steering_reliability.interventions import Directions
from steering_reliability.ladder.plan import LevelPlan
from steering_reliability.models.loaded import LoadedModel
from steering_reliability.probes import BENIGN_TEXTS, TEXT_PROMPT, probe
from steering_reliability.prompts import Prompt
from steering_reliability.results.probes import read_readings, write_readings
from steering_reliability.screening import MIN_PROMPTS

VERSION = 1


class LevelProbes:
    """Reads cells off as they are asked for; what is stored is not read again.

    Args:
        plan: the level.
        model: the model in memory.
        directions: by (name, layer).
        folder: where readings are kept, a file per cell.

    Attributes:
        digests: by steered cell of the grid; empty where the level asks for no probes.

    Raises:
        SteeringError: the level has too few prompts for them.
    """

    def __init__(
        self, plan: LevelPlan, model: LoadedModel, directions: Directions, folder: Path
    ) -> None:
        self._plan, self._model, self._directions, self._folder = plan, model, directions, folder
        self._harmful: Sequence[Prompt] = ()
        self._benign: Sequence[Prompt] = ()
        self.digests: dict[Cell, str] = {}
        settings = plan.config.probes
        if settings is None:
            return
        self._harmful = self._prompts(settings.split, settings.prompts)
        self._benign = self._prompts(settings.benign_split, settings.prompts)
        self._texts = tuple(settings.texts or BENIGN_TEXTS)
        self._benign_tokens = settings.benign_tokens
        self.digests = {cell: self._digest(cell) for cell in plan.steered_cells}

    def lacking(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those of the cells that are to be probed and were not."""
        return [
            cell
            for cell in cells
            if cell in self.digests and read_readings(self._folder, self.digests[cell]) is None
        ]

    def read(self, cells: Sequence[Cell]) -> None:
        """Probe cells, all in one batch, and keep what is found."""
        found = probe(
            self._model,
            cells,
            self._directions,
            self._harmful,
            self._benign,
            texts=self._texts,
            benign_tokens=self._benign_tokens,
            alpha_unit=self._plan.alpha_unit,
        )
        for cell, readings in found.items():
            write_readings(self._folder, self.digests[cell], readings)

    def _prompts(self, split: str, wanted: int) -> list[Prompt]:
        prompts = self._plan.prompts[split]
        if len(prompts) < MIN_PROMPTS:
            raise SteeringError(
                f"{self._plan.config.path}: probes: found {len(prompts)} prompts of {split}, "
                f"expected at least {MIN_PROMPTS}; raise prompts.per_split or leave probes out"
            )
        return prompts[:wanted]

    def _digest(self, cell: Cell) -> str:
        identity = [
            VERSION,
            self._model.fingerprint,
            self._model.format.template_hash,
            str(self._model.dtype),
            self._directions[cell.direction, cell.layer].hash,
            [cell.layer, cell.intervention, cell.alpha, self._plan.alpha_unit],
            [[prompt.text for prompt in prompts] for prompts in (self._harmful, self._benign)],
            [TEXT_PROMPT, *self._texts],
            self._benign_tokens,
        ]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
