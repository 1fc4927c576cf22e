"""The state of a run in one process: plans, the model, levels at work, what tests found.

It hangs on the pytest config. The controller of a distributed run never loads the model; it
collects verdicts and timings, and writes the run folders.
"""

from __future__ import annotations

import os
import secrets
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from steering_reliability.errors import SteeringError
from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import LevelPlan, plan_level
from steering_reliability.pytest_plugin import collection, options, transport
from steering_reliability.pytest_plugin.loading import loading
from steering_reliability.pytest_plugin.unchecked import Selection, unchecked

if TYPE_CHECKING:
    from steering_reliability.cells import Cell
    from steering_reliability.expectations import Verdict
    from steering_reliability.ladder.judge import Scorer
    from steering_reliability.ladder.work import LevelWork, Progress
    from steering_reliability.models.loaded import LoadedModel
    from steering_reliability.results.run import RunData

SESSION: pytest.StashKey[SteeringSession] = pytest.StashKey()
VERDICTS: pytest.StashKey[list[Any]] = pytest.StashKey()

# Characters of an error that is told again.
_SHORTENED = 80

_Made = TypeVar("_Made")


class SteeringSession:
    """One process's part in a run.

    Attributes:
        levels: every level known so far, by name.
        run_id: the same in all processes of a run.
        cut_short: levels that this run leaves tests out of.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.overrides = options.overrides(config)
        self.artifacts = options.artifacts_folder(config)
        worker_input: dict[str, Any] = getattr(config, "workerinput", {})
        self.is_worker = bool(worker_input)
        self.run_id = worker_input.get(transport.RUN_ID) or secrets.token_hex(8)
        self.levels: dict[str, Path] = {}
        self.timings: dict[str, float] = {}
        self.reported: dict[str, list[Verdict]] = {}
        self.expected: dict[str, set[Cell]] = {}
        self.finished: dict[str, RunData] = {}
        self.problems: list[str] = []
        self.selection = Selection(config)
        self.cut_short: set[str] = set()
        # The terminal takes these over where there is one.
        self.on_progress: Callable[[Progress], None] = lambda _progress: None
        self.on_report: Callable[[], None] = lambda: None
        self.on_pause: Callable[[], None] = lambda: None
        self.announce: Callable[[str], None] = lambda _line: None
        self._started = time.time()
        self._folders: set[Path] = set()
        self._plans: dict[str, LevelPlan] = {}
        self._works: dict[str, LevelWork] = {}
        self._scorers: dict[str, Scorer] = {}
        self._model: LoadedModel | None = None
        self._failures: dict[str, str] = {}
        self._told: dict[str, str] = {}

    @property
    def is_distributed(self) -> bool:
        """Whether tests run in other processes than the controller's."""
        return self.is_worker or bool(self.config.getoption("dist", "no") != "no")

    def learn_levels(self, folder: Path) -> None:
        """Make the levels of a folder of tests known, and their markers.

        Raises:
            SteeringError: another folder has a level of that name.
        """
        if folder in self._folders:
            return
        self._folders.add(folder)
        levels = collection.levels_beside(folder)
        for name, path in levels.items():
            if self.levels.setdefault(name, path).resolve() != path.resolve():
                raise SteeringError(
                    f"{path}: level: found {name!r} as in {self.levels[name]}, expected each "
                    "level once in a run; rename one or run the folders apart"
                )
        collection.register_markers(self.config, levels)

    def plan(self, level: str) -> LevelPlan:
        """A level's plan, made once.

        Raises:
            SteeringError: its file, prompts or model are wrong.
        """
        if level not in self._plans:
            decisions = ArtifactPaths(self.artifacts).decisions
            self._plans[level] = plan_level(self.levels[level], self.overrides, decisions)
        return self._plans[level]

    def selected_plans(self) -> list[LevelPlan]:
        """Plans of the levels that this run chose."""
        chosen = collection.selected_levels(self.config, self.levels)
        return [self.plan(level) for level in chosen]

    def is_working(self, level: str) -> bool:
        """Whether this process has the level at work."""
        return level in self._works

    @loading()
    def prepare(self) -> None:
        """Check what can be checked before any test or worker starts.

        Raises:
            SteeringError: a level, its prompts, the model or the artifacts folder is unusable.
        """
        collection.check_marker_names(self.config, self.levels)
        plans = self.selected_plans()
        if self.config.getoption("collectonly") or not plans:
            return
        from steering_reliability.ladder.judged import level_judge
        from steering_reliability.models.sources import resolve_source

        if self.overrides.device not in ("auto", "cpu"):
            from steering_reliability.models.loaded import resolve_device

            resolve_device(self.overrides.device, "--steer-device")
        for plan in plans:
            level_judge(plan.config)
            resolve_source(plan.profile.source, self.announce)
            self._tell_replaced(plan)
        self._check_store()

    def model(self) -> LoadedModel:
        """The model, loaded at first use."""
        if self._model is None:
            started = time.monotonic()
            self._model = self._once("model", self._load_model)
            self.add_time("model", time.monotonic() - started)
        return self._model

    @loading()
    def _load_model(self) -> LoadedModel:
        from steering_reliability.models.loaded import load_model, share_cores

        share_cores(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
        plan = next(iter(self._plans.values()))
        return load_model(
            plan.profile.source,
            self.overrides.device,
            self.overrides.dtype,
            profile=plan.profile,
            announce=self.announce,
        )

    def work(self, level: str) -> LevelWork:
        """A level at work; its model and directions are there at the first call."""
        if level not in self._works:
            self._works[level] = self._once(f"level {level}", lambda: self._new_work(level))
            self._works[level].expect(self.expected.get(level, ()))
        return self._works[level]

    def _new_work(self, level: str) -> LevelWork:
        with loading():
            from steering_reliability.ladder.work import LevelWork

        return LevelWork(
            self.plan(level),
            self.model(),
            ArtifactPaths(self.artifacts),
            self.run_id,
            fresh=self.config.getoption("steer_fresh"),
            alone=not self.is_worker,
            on_progress=lambda progress: self.on_progress(progress),
        )

    def _once(self, what: str, make: Callable[[], _Made]) -> _Made:
        """What one test could not get, the next doesn't wait for: it fails for the same reason."""
        if what in self._failures:
            raise SteeringError(self._failures[what])
        try:
            return make()
        except SteeringError as error:
            self._failures[what] = str(error)
            raise

    def scorer(self, level: str) -> Scorer:
        """A level's scorer, one for all its tests, so that each text is scored once."""
        if level not in self._scorers:
            from steering_reliability.ladder.judge import Scorer
            from steering_reliability.results.score_cache import ScoreCache

            cache = ScoreCache(ArtifactPaths(self.artifacts).scores)
            self._scorers[level] = Scorer(self.plan(level), cache)
        return self._scorers[level]

    def expect(self, items: Sequence[pytest.Item]) -> None:
        """Note which cells the selected tests will ask for."""
        from steering_reliability.pytest_plugin.fixtures import expected_cells

        for item in items:
            level = collection.level_of(item, self.levels)
            if level is not None and collection.is_selected(self.config, level, self.levels):
                cells = self.expected.setdefault(level, set())
                cells.update(expected_cells(item, self.plan(level)))

    def note_cut_short(self, left: Sequence[pytest.Item]) -> None:
        """Note which levels the selected tests are a part of."""
        selected = {collection.level_of(item, self.levels) for item in left}
        levels = {name: path for name, path in self.levels.items() if name in selected}
        self.cut_short = self.selection.cut_short(left, levels)

    def add_time(self, phase: str, seconds: float) -> None:
        """Count time towards a phase."""
        self.timings[phase] = self.timings.get(phase, 0.0) + seconds

    def stop_working(self) -> None:
        """Give leases back, and sum up the timings of this process."""
        self.on_pause()
        for work in self._works.values():
            work.close()
            for phase, seconds in work.timings.seconds.items():
                self.add_time(phase, seconds)
        self._works.clear()

    def merge_timings(self, timings: dict[str, float]) -> None:
        """Take a worker's timings; workers run side by side, so the longest counts."""
        for phase, seconds in timings.items():
            self.timings[phase] = max(self.timings.get(phase, 0.0), seconds)

    def tell_once(self, report: Any) -> None:
        """Shorten an error that another test was told in full, in this process or another."""
        # An expected failure is not printed.
        if not report.failed or not getattr(report, transport.ERROR_ATTRIBUTE, False):
            return
        message = str(report.longrepr)
        first = self._told.setdefault(message, report.nodeid)
        if first != report.nodeid:
            short = textwrap.shorten(message, _SHORTENED, placeholder=" …")
            report.longrepr = f"{short} (as in {first.rpartition('::')[2]}, in full there)"

    def take_report(self, report: Any) -> None:
        """Note what a test found; the report may come from another process."""
        found = transport.verdicts_of(report)
        if found is not None:
            level, verdicts = found
            self.reported.setdefault(level, []).extend(verdicts)

    def finish(self) -> None:
        """Write the run folder of every level that ran; a problem with one is told, not raised."""
        if not self.reported:
            return
        from steering_reliability.ladder.finish import RunFacts, finish_level

        for level, verdicts in self.reported.items():
            facts = RunFacts(
                self.run_id, self.timings, verdicts, inconclusive=self._inconclusive(level)
            )
            try:
                self.finished[level] = finish_level(
                    self.plan(level),
                    ArtifactPaths(self.artifacts),
                    facts,
                    scorer=self.scorer(level),
                )
            except SteeringError as error:
                self.problems.append(str(error))

    def fails_its_test(self, level: str, verdict: Verdict) -> bool:
        """Whether a verdict fails the test that asks for it; an exploratory fail is expected."""
        if verdict.outcome == "inconclusive":
            return verdict.required and self._inconclusive(level) == "fail"
        return verdict.outcome == "error" or (verdict.outcome == "fail" and verdict.required)

    def _inconclusive(self, level: str) -> str:
        """``pass`` or ``fail``: what a required claim does to its test that stays open."""
        option = self.config.getoption("steer_inconclusive")
        return str(option or self.plan(level).config.inconclusive)

    def tell_unchecked(self) -> None:
        """Make a problem of every required claim that goes wrong and that no test asked for.

        Only where all tests of a level ran: whoever runs a part of it, as with ``-k`` or ``--lf``,
        asks how that part does, and the claim's own test may be among those left out.
        """
        for level in self.finished.keys() - self.cut_short:
            verdicts = self.finished[level].verdicts
            failing = [verdict for verdict in verdicts if self.fails_its_test(level, verdict)]
            self.problems += unchecked(self.plan(level), failing, self.reported[level])

    def under_way(self) -> list[tuple[str, int, int]]:
        """Levels that this run generated for, how many of their completions are stored, and all.

        Any process of the run may have done so; each writes the level's index as it begins.
        """
        from steering_reliability.ladder.index import count_stored

        paths = ArtifactPaths(self.artifacts)
        found = []
        for plan in self.selected_plans():
            index = paths.index(plan)
            if index.exists() and index.stat().st_mtime >= self._started:
                found.append((plan.level, *count_stored(index, paths.store)))
        return found

    def _tell_replaced(self, plan: LevelPlan) -> None:
        """Say that a run folder is another model's, whose name is the same."""
        from steering_reliability.ladder.index import read_index
        from steering_reliability.models.sources import is_same_source

        paths = ArtifactPaths(self.artifacts)
        try:
            former = str(read_index(paths.index(plan)).model["source"])
        except (SteeringError, KeyError):
            return
        if paths.run(plan).exists() and not is_same_source(former, plan.profile.source):
            self.announce(
                f"{paths.run(plan)}: found results of another model of that name, {former}, which "
                "this run replaces; to keep both, write a profile with a name of its own into "
                "configs/models/ or choose --steer-artifacts"
            )

    def _check_store(self) -> None:
        from steering_reliability.results.mending import mend_store

        fresh = self.config.getoption("steer_fresh")
        mended = mend_store(ArtifactPaths(self.artifacts).store, fresh=fresh)
        if mended is not None:
            self.announce(mended)
