"""The probes of a level's cells: read once, kept by everything that they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steering_reliability.cells import DEFAULT_CONDITION, LEARNED, Cell
from steering_reliability.claims import AlphaRaisesRefusal
from steering_reliability.directions import Contrasts
from steering_reliability.engine.requests import checked_steering
from steering_reliability.errors import SteeringError
from steering_reliability.interventions import Directions
from steering_reliability.ladder.level_directions import LevelDirections
from steering_reliability.ladder.plan import LevelPlan
from steering_reliability.log_odds import (
    COMPLIANCE_TEXTS,
    REFITS,
    REFUSAL_TEXTS,
    log_odds_of,
    redrawn_directions,
)
from steering_reliability.models.loaded import LoadedModel
from steering_reliability.probes import BENIGN_TEXTS, TEXT_PROMPT, probe
from steering_reliability.prompts import Prompt
from steering_reliability.results.endpoint import Endpoint, read_endpoint, write_endpoint
from steering_reliability.results.probes import read_readings, write_readings
from steering_reliability.screening import MIN_PROMPTS

VERSION = 1


class LevelProbes:
    """Reads cells off as they are asked for; what is stored is not read again.

    Args:
        plan: the level.
        model: the model in memory.
        directions: what the level steers with.
        folder: where readings are kept, a file per cell.
        run_id: marks what this run reads.
        fresh: leave what other runs read out of account.

    Attributes:
        digests: by steered cell of the grid and operating point; empty where the level asks for
            no probes.
        endpoints: by cell whose log-odds are also refitted and held against random directions.

    Raises:
        SteeringError: the level has too few prompts for them.
    """

    def __init__(
        self,
        plan: LevelPlan,
        model: LoadedModel,
        directions: LevelDirections,
        folder: Path,
        run_id: str = "",
        *,
        fresh: bool = False,
    ) -> None:
        self._plan, self._model, self._folder, self._run_id = plan, model, folder, run_id
        self._only = run_id if fresh else None
        self._directions: Directions = directions.under(DEFAULT_CONDITION)
        self._contrasts: Mapping[int, Contrasts] = directions.contrasts
        self._harmful: Sequence[Prompt] = ()
        self._unseen: Sequence[Prompt] = ()
        self._benign: Sequence[Prompt] = ()
        self._known: set[Cell] = set()
        self._known_endpoints: set[Cell] = set()
        self.digests: dict[Cell, str] = {}
        self.endpoints: dict[Cell, str] = {}
        settings = plan.config.probes
        if settings is None:
            return
        self._harmful = self._prompts(settings.split, settings.prompts)
        self._benign = self._prompts(settings.benign_split, settings.prompts)
        self._texts = tuple(settings.texts or BENIGN_TEXTS)
        self._benign_tokens = settings.benign_tokens
        probed = dict.fromkeys([*plan.steered_cells, *plan.confirmed_cells])
        self.digests = {cell: self._digest(cell) for cell in probed}
        unseen = [prompt for prompt in plan.prompts[settings.split] if prompt.id not in plan.seen]
        self._unseen = unseen[: settings.prompts]
        # On prompts that the direction was learned from, the interval would say too little.
        if len(self._unseen) >= MIN_PROMPTS:
            self.endpoints = {cell: self._endpoint_digest(cell) for cell in endpoint_cells(plan)}

    def lacking(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those of the cells that are to be probed and were not; a stored one is looked up once."""
        return self._lacking(cells, self.digests, self._known, read_readings)

    def lacking_endpoints(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those of the cells whose log-odds are to be refitted and were not."""
        return self._lacking(cells, self.endpoints, self._known_endpoints, read_endpoint)

    def _lacking(
        self,
        cells: Iterable[Cell],
        digests: Mapping[Cell, str],
        known: set[Cell],
        read: Callable[[Path, str, str | None], object],
    ) -> list[Cell]:
        wanted = [cell for cell in cells if cell in digests and cell not in known]
        known.update(c for c in wanted if read(self._folder, digests[c], self._only) is not None)
        return [cell for cell in wanted if cell not in known]

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
            write_readings(self._folder, self.digests[cell], readings, self._run_id)
        self._known.update(found)

    def read_endpoint(self, cell: Cell) -> None:
        """Take log-odds with the learned direction, its refits and its rivals, and keep them."""
        rivals = rivals_of(self._plan, cell)
        contrasts = self._contrasts.get(cell.layer)
        try:
            refits = [] if contrasts is None else redrawn_directions(contrasts)
        except SteeringError:
            # Prompts drawn anew give rounding noise; a description must not stop the level.
            refits = []
        where = (LEARNED, cell.layer)
        by_steering = [(cell, self._directions)]
        by_steering += [(cell, {**self._directions, where: refit}) for refit in refits]
        by_steering += [(replace(cell, direction=name), self._directions) for name in rivals]
        steerings = [
            checked_steering(self._model, one, directions, self._plan.alpha_unit)
            for one, directions in by_steering
        ]
        odds = log_odds_of(self._model, self._unseen, [None, *steerings]).T.tolist()
        first_rival = 2 + len(refits)
        endpoint = Endpoint(
            unsteered=tuple(odds[0]),
            steered=tuple(odds[1]),
            refits=tuple(map(tuple, odds[2:first_rival])),
            rivals=dict(zip(rivals, map(tuple, odds[first_rival:]), strict=True)),
        )
        write_endpoint(self._folder, self.endpoints[cell], endpoint, self._run_id)
        self._known_endpoints.add(cell)

    def _prompts(self, split: str, wanted: int) -> list[Prompt]:
        prompts = self._plan.prompts[split]
        if len(prompts) < MIN_PROMPTS:
            raise SteeringError(
                f"{self._plan.config.path}: probes: found {len(prompts)} prompts of {split}, "
                f"expected at least {MIN_PROMPTS}; raise prompts.per_split or leave probes out"
            )
        return prompts[:wanted]

    def _digest(self, cell: Cell) -> str:
        texts = [[prompt.text for prompt in prompts] for prompts in (self._harmful, self._benign)]
        return _hashed(
            [*self._identity(cell), texts, [TEXT_PROMPT, *self._texts], self._benign_tokens]
        )

    def _endpoint_digest(self, cell: Cell) -> str:
        contrasts = self._contrasts.get(cell.layer)
        rivals = rivals_of(self._plan, cell)
        return _hashed(
            [
                "endpoint",
                *self._identity(cell),
                [prompt.text for prompt in self._unseen],
                [*REFUSAL_TEXTS, *COMPLIANCE_TEXTS],
                None if contrasts is None else [contrasts.prompts_hash, contrasts.pairs, REFITS],
                [[name, self._directions[name, cell.layer].hash] for name in rivals],
            ]
        )

    def _identity(self, cell: Cell) -> list[Any]:
        return [
            VERSION,
            self._model.fingerprint,
            self._model.format.template_hash,
            str(self._model.dtype),
            self._directions[cell.direction, cell.layer].hash,
            [cell.layer, cell.intervention, cell.alpha, self._plan.alpha_unit],
        ]


def endpoint_cells(plan: LevelPlan) -> list[Cell]:
    """Where log-odds are refitted: the operating points, or what the level compares.

    Without operating points that is, of each layer and intervention, the greatest alpha that
    random directions are run beside; where there are none either, the greatest that is claimed to
    raise refusal.
    """
    if plan.confirmed_cells:
        return plan.confirmed_cells
    controlled = [cell for cell in plan.steered_cells if rivals_of(plan, cell)]
    claim = plan.config.claims.get("alpha_raises_refusal")
    if not controlled and isinstance(claim, AlphaRaisesRefusal):
        raising = [cell for cell in plan.steered_cells if cell.aim == "raise"]
        controlled = [cell for cell in raising if claim.covers(cell.alpha)]
    greatest: dict[tuple[int, str], Cell] = {}
    for cell in sorted(controlled, key=lambda cell: cell.alpha):
        greatest[cell.layer, cell.intervention] = cell
    return list(greatest.values())


def rivals_of(plan: LevelPlan, cell: Cell) -> list[str]:
    """Names of the random directions that are run like a cell, on whatever split."""
    return [
        other.direction
        for other in plan.splits_of
        if other.direction.startswith("random-") and replace(other, direction=LEARNED) == cell
    ]


def _hashed(identity: list[Any]) -> str:
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
