"""A level at work: it generates the cells that are asked for, and shares the work.

Completions that the store holds are taken from it; of the rest a process leases what it needs
and nobody else has, generates it, and waits for what others hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from steering_reliability.cells import Cell
from steering_reliability.completions import Completion, mark_prefixes
from steering_reliability.directions import Direction
from steering_reliability.engine import make_engine
from steering_reliability.engine.requests import Engine, GenerationSettings
from steering_reliability.errors import SteeringError
from steering_reliability.ladder.index import LevelIndex, write_index
from steering_reliability.ladder.level_directions import find_directions
from steering_reliability.ladder.likelihood import weigh
from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import LevelPlan
from steering_reliability.ladder.probed import LevelProbes
from steering_reliability.ladder.requested import EngineKey, LevelRequests
from steering_reliability.models.loaded import LoadedModel
from steering_reliability.models.sources import weights_name
from steering_reliability.results.owners import new_owner
from steering_reliability.results.records import StoredCompletion
from steering_reliability.results.store import CompletionStore

_LEASE_S = 120.0
_RENEW_S = 20.0
_POLL_S = 0.2
_FLUSH_S = 1.0


@dataclass(frozen=True)
class Progress:
    """How far a process is with the completions that its tests need and the store lacked.

    Attributes:
        total: completions that were to be generated, by this process or another.
        done: of those, finished.
    """

    total: int
    done: int


@dataclass
class Timings:
    """Seconds per phase of this process."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, phase: str, seconds: float) -> None:
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds


class LevelWork:
    """Generates a level's cells on demand.

    Args:
        plan: the level.
        model: the model in memory.
        paths: where store, directions and index are.
        run_id: marks what this run generated.
        fresh: leave what other runs stored out of account.
        alone: whether free slots take rows of all expected cells; where several processes
            share the level, of the same layer only.
        on_progress: called now and then while generating.
    """

    def __init__(
        self,
        plan: LevelPlan,
        model: LoadedModel,
        paths: ArtifactPaths,
        run_id: str,
        *,
        fresh: bool = False,
        alone: bool = True,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.plan = plan
        self.model = model
        self.timings = Timings()
        self._store = CompletionStore(paths.store)
        self._owner = new_owner()
        self._run = {"run_id": run_id, "level": plan.level}
        self._fresh = fresh
        self._alone = alone
        self._on_progress = on_progress
        _check_decided_on(plan, model)
        self._done: dict[str, StoredCompletion] = {}
        self._expected: list[Cell] = []
        self._to_generate: set[str] = set()
        self._unsaved: list[StoredCompletion] = []
        self._last_flush = self._last_renewal = time.monotonic()
        self.settings = _settings(plan, model)
        started = time.monotonic()
        self._directions = find_directions(plan, model, paths)
        self.timings.add("directions", time.monotonic() - started)
        self._probes = LevelProbes(plan, model, self._directions, paths.probes, run_id, fresh=fresh)
        self._requests = LevelRequests(plan, model, self._directions, self.settings)
        self._in_flight: set[str] = set()
        self._engines: dict[EngineKey, Engine] = {}
        self.index = self._write_index(paths.index(plan))

    @property
    def directions(self) -> dict[int, Direction]:
        """The learned direction by layer."""
        return self._directions.learned

    @property
    def described_directions(self) -> list[dict[str, Any]]:
        """What the report tells of each learned direction."""
        return self._directions.describe()

    def expect(self, cells: Iterable[Cell]) -> None:
        """Say which cells will be asked for, so that they fill the slots that are free."""
        known = {*self._expected, *cells}
        self._expected = [cell for cell in self.plan.splits_of if cell in known]
        keys = self._requests.keys(self._expected)
        self._recall(keys)
        self._to_generate.update(key for key in keys if key not in self._done)

    def ensure(self, cells: Sequence[Cell]) -> None:
        """Return once every completion of these cells is stored."""
        started = time.monotonic()
        wanted = self._requests.keys(cells)
        if any(key not in self._done for key in wanted):
            self.expect(cells)
        while missing := [key for key in wanted if key not in self._done]:
            self._take_on(missing, cells)
            at_work = [engine for engine in self._engines.values() if engine.pending]
            for engine in at_work:
                self._keep(engine.pump(), engine.slots)
            if not at_work:
                # Who waits for others must not let them wait for what it has finished.
                self._flush()
                time.sleep(_POLL_S)
                self._recall(missing)
            self._report()
        self._flush()
        self.timings.add("generation", time.monotonic() - started)
        self._probe(cells)

    def completions(self, cells: Iterable[Cell]) -> list[tuple[str, Completion]]:
        """(split, completion) of complete cells, in the order of the cells and prompts."""
        return [
            (split, self._done[key].labelled(prompt_id, cell, sample))
            for cell in cells
            for split, prompt_id, sample, key in self.index.rows(cell)
        ]

    def close(self) -> None:
        """Store what is finished, and give the leases back."""
        self._flush()
        self._store.release(self._owner)
        self._store.close()

    def _probe(self, cells: Sequence[Cell]) -> None:
        """Probe cells, with those of their layers that will be asked for: one batch is cheaper."""
        started = time.monotonic()
        lacking = self._probes.lacking(cells)
        if lacking:
            layers = {cell.layer for cell in lacking}
            ahead = [c for c in self._expected if c.layer in layers and c not in lacking]
            self._probes.read([*lacking, *self._probes.lacking(ahead)])
        endpoints = self._probes.lacking_endpoints(cells)
        for cell in endpoints:
            self._probes.read_endpoint(cell)
        weighed = weigh(self.plan, self.model, self.index, self._requests.by_key, self._done, cells)
        if weighed:
            self._store.amend(weighed)
            self._done.update((record.key, record) for record in weighed)
        if lacking or endpoints or weighed:
            self.timings.add("probes", time.monotonic() - started)

    def _write_index(self, path: Path) -> LevelIndex:
        model = self.model
        index = LevelIndex(
            model={
                "source": self.plan.profile.source,
                "name": self.plan.profile.name,
                "weights": weights_name(self.plan.profile.source),
                "fingerprint": model.fingerprint,
                "device": str(model.device),
                "dtype": str(model.dtype).removeprefix("torch."),
                "n_layers": model.n_layers,
                "d_model": model.d_model,
                "slots": self.settings.slots,
            },
            directions=self._directions.describe(),
            controls=self._directions.describe_others(),
            keys={cell: [r.key for r in made] for cell, made in self._requests.by_cell.items()},
            splits=self.plan.splits_of,
            prompts={
                split: [prompt.id for prompt in prompts]
                for split, prompts in self.plan.prompts.items()
            },
            samples=self.settings.samples,
            screen=self._directions.screen,
            probes=self._probes.digests,
            endpoints=self._probes.endpoints,
            limits={
                cell: tuple(len(self.plan.prompts_of(cell, split)) for split in splits)
                for cell, splits in self.plan.splits_of.items()
            },
        )
        write_index(path, index)
        return index

    def _recall(self, keys: Sequence[str]) -> None:
        """Take over what is stored by now."""
        found = self._store.get_many(key for key in keys if key not in self._done)
        if self._fresh:
            mine = self._run["run_id"]
            stale = [key for key, stored in found.items() if stored.run.get("run_id") != mine]
            self._store.delete(stale)
            for key in stale:
                del found[key]
        self._done.update(found)

    def _take_on(self, missing: Sequence[str], cells: Sequence[Cell]) -> None:
        """Lease rows for free slots: first of the wanted cells, then of those still to come."""
        free = self.settings.slots - sum(engine.pending for engine in self._engines.values())
        if free <= 0:
            return
        candidates = (
            key
            for key in chain(missing, self._ahead(cells))
            if key not in self._done and key not in self._in_flight
        )
        granted = self._store.lease(candidates, self._owner, _LEASE_S, limit=free)
        if granted:
            self._in_flight.update(granted)
            for key in granted:
                engine = self._engine_for(self._requests.engine_of[key])
                engine.submit([self._requests.by_key[key]])

    def _ahead(self, cells: Sequence[Cell]) -> Iterator[str]:
        """Keys of cells that will be asked for later.

        Where several processes share the level, only of layers that this one works on: its
        tests complete them. Rows taken on for others would wait here, leased and unfinished,
        once its tests are done.
        """
        layers = {cell.layer for cell in cells if not cell.is_baseline}
        conditions = {cell.condition for cell in cells}
        for cell in self._expected:
            # In another order, rows begin together in an engine of their own, not by ones and twos.
            if self._requests.is_reordered(cell) and cell.condition not in conditions:
                continue
            if self._alone or cell.layer in layers:
                yield from self._requests.keys([cell])

    def _engine_for(self, wanted: EngineKey) -> Engine:
        if wanted not in self._engines:
            # An engine holds a whole batch in memory; one that is idle is made again when needed.
            self._engines = {known: e for known, e in self._engines.items() if e.pending}
            self._engines[wanted] = make_engine(
                self.model, wanted[0], self._requests.longest, self.plan.overrides.backend
            )
        return self._engines[wanted]

    def _keep(self, completions: Sequence[Completion], slots: int) -> None:
        run = self._run
        if slots != self.settings.slots:
            run = {**run, "slots": str(slots)}
        stored = [
            StoredCompletion.of(mark_prefixes(completion, self._decode), run)
            for completion in completions
        ]
        self._unsaved += stored
        self._done.update((record.key, record) for record in stored)
        self._in_flight.difference_update(record.key for record in stored)
        now = time.monotonic()
        if now - self._last_flush > _FLUSH_S:
            self._flush()
        if now - self._last_renewal > _RENEW_S:
            self._store.renew(self._owner, _LEASE_S)
            self._last_renewal = now

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.model.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _flush(self) -> None:
        if self._unsaved:
            self._store.put_many(self._unsaved)
            self._unsaved = []
        self._last_flush = time.monotonic()

    def _report(self) -> None:
        done = sum(key in self._done for key in self._to_generate)
        self._on_progress(Progress(len(self._to_generate), done))


def _check_decided_on(plan: LevelPlan, model: LoadedModel) -> None:
    """Refuse a decision that was made on other weights, which only the loaded model shows."""
    others = plan.decided_on - {model.fingerprint}
    if others:
        raise SteeringError(
            f"level {plan.level}: it goes on from a decision that was made on other weights "
            f"(fingerprint {min(others)[:12]}, this model's is {model.fingerprint[:12]}); run the "
            "earlier levels again on this model, or name a layer with --steer-layers"
        )


def _settings(plan: LevelPlan, model: LoadedModel) -> GenerationSettings:
    given = plan.config.generation
    return GenerationSettings(
        max_new_tokens=given.max_new_tokens,
        temperature=given.temperature,
        top_p=given.top_p,
        samples=given.samples,
        seed=given.seed,
        positions=given.positions,
        slots=given.slots or plan.profile.slots.on(str(model.device)),
    )
