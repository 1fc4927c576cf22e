"""The ladder from the cheapest level to the dearest, each a pytest session of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steering_reliability.cells import Cell
from steering_reliability.config import find_levels
from steering_reliability.errors import SteeringError
from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import LevelPlan, Overrides, plan_level

Part = tuple[Cell | None, str]

PASSED, FAILED = 0, 1


@dataclass(frozen=True)
class Ladder:
    """Which levels are climbed, and where.

    Attributes:
        folder: tests of the levels, with ``configs/`` in it.
        paths: the artifacts folder.
        model: as ``--steer-model``.
        first: level to begin with; the cheapest by default.
        last: level to end with; the dearest by default.
        keep_going: climb on where a level fails.
        pytest_arguments: handed to every session.
    """

    folder: Path
    paths: ArtifactPaths
    model: str = "embedded"
    first: str | None = None
    last: str | None = None
    keep_going: bool = False
    pytest_arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cost:
    """What is left of a level.

    Attributes:
        completions: distinct completions of the level, controls and confirmations included.
        missing: of those, what neither the store nor an earlier level of the climb has.
        seconds: to generate them; ``None`` where nothing was generated here yet.
    """

    completions: int
    missing: int
    seconds: float | None


def climb(ladder: Ladder, say: Callable[[str], object]) -> int:
    """Run the levels in order, and say after each what was decided and what the next will cost.

    Returns:
        0, or the exit code of the first session that did not pass.

    Raises:
        SteeringError: a level is unknown, or its file is wrong.
    """
    levels = _levels(ladder)
    worst = PASSED
    for position, level in enumerate(levels):
        started = time.monotonic()
        code = _ended(_command(ladder, level))
        _tell(ladder, level, time.monotonic() - started, say)
        worst = worst or code
        rest = levels[position + 1 :]
        if code not in (PASSED, FAILED) or (code == FAILED and not ladder.keep_going):
            if rest:
                say(f"{level} did not pass, so {', '.join(rest)} did not run" + _how(code))
            return worst
        if rest:
            cost = costs(ladder, levels[: position + 2])[rest[0]]
            say(f"next: {rest[0]}, {_cost_text(cost)}")
    return worst


def _ended(command: Sequence[str]) -> int:
    """The exit code of a session, which Ctrl-C reaches too: it is left to write its results."""
    with subprocess.Popen(command) as session:
        while True:
            try:
                return session.wait()
            except KeyboardInterrupt:
                continue


def timeline(ladder: Ladder) -> list[str]:
    """What a climb would cost, level by level, as lines of a table."""
    levels = _levels(ladder)
    found = costs(ladder, levels)
    width = max(map(len, levels))
    lines = [f"{level:<{width}}  {_cost_text(found[level])}" for level in levels]
    missing = sum(cost.missing for cost in found.values())
    rate = measured_rate(ladder.paths)
    seconds = None if rate is None else missing / rate
    lines.append(f"{'in all':<{width}}  {missing:,} to generate{_minutes(seconds)}")
    if rate is None:
        lines.append("no level has generated here yet, so no time can be told: run smoke first")
    return lines


def costs(ladder: Ladder, levels: Sequence[str]) -> dict[str, Cost]:
    """What is left of each level, given the store and the levels before it in the list."""
    files = find_levels(ladder.folder)
    rate = measured_rate(ladder.paths)
    known: dict[Part, int] = {}
    found = {}
    for level in levels:
        plan = _plan(ladder, files[level])
        missing = _missing(plan, ladder.paths, known)
        seconds = None if rate is None else missing / rate
        found[level] = Cost(plan.n_completions + plan.n_beside_grid, missing, seconds)
        for part, size in plan.parts.items():
            known[part] = max(known.get(part, 0), size)
    return found


def measured_rate(paths: ArtifactPaths) -> float | None:
    """Completions per second of the last run that generated enough to tell."""
    from steering_reliability.results.store import CompletionStore

    if not paths.store.exists():
        return None
    with CompletionStore(paths.store) as store:
        return store.pace()


def _levels(ladder: Ladder) -> list[str]:
    files = find_levels(ladder.folder)
    if not files:
        raise SteeringError(
            f"{ladder.folder}: found no levels, expected YAML files in configs/ below it; name "
            "the folder of your experiments"
        )
    plans = {level: _plan(ladder, path) for level, path in files.items()}
    levels = sorted(files, key=lambda level: _rung(plans, level))
    for option, name in (("--from", ladder.first), ("--to", ladder.last)):
        if name is not None and name not in levels:
            raise SteeringError(f"{option}: found {name!r}, expected one of {', '.join(levels)}")
    first = levels.index(ladder.first) if ladder.first else 0
    last = levels.index(ladder.last) if ladder.last else len(levels) - 1
    if last < first:
        raise SteeringError(
            f"--to: found {ladder.last!r}, which comes before {ladder.first!r}; expected one of "
            f"{', '.join(levels[first:])}"
        )
    return levels[first : last + 1]


def _rung(plans: Mapping[str, LevelPlan], level: str) -> tuple[int, int]:
    """A level comes after those whose decisions it reads, else after cheaper ones."""
    height, seen = 0, {level}
    below = plans[level].config.reads
    while below := {name for name in below if name in plans} - seen:
        height += 1
        seen |= below
        below = {name for one in below for name in plans[one].config.reads}
    return height, plans[level].n_completions + plans[level].n_beside_grid


def _plan(ladder: Ladder, path: Path) -> LevelPlan:
    return plan_level(path, Overrides(model=ladder.model), ladder.paths.decisions)


def _missing(plan: LevelPlan, paths: ArtifactPaths, known: Mapping[Part, int]) -> int:
    from steering_reliability.ladder.index import read_index
    from steering_reliability.results.store import CompletionStore

    try:
        index = read_index(paths.index(plan))
    except SteeringError:
        index = None
    same = index is not None and list(index.keys) == list(plan.splits_of)
    if index is not None and same and paths.store.exists():
        keys = {key for keys in index.keys.values() for key in keys}
        with CompletionStore(paths.store) as store:
            return len(keys) - len(store.get_many(keys))
    samples = plan.config.generation.samples
    return samples * sum(max(0, size - known.get(part, 0)) for part, size in plan.parts.items())


def _command(ladder: Ladder, level: str) -> list[str]:
    return [
        *(sys.executable, "-m", "pytest", str(ladder.folder), "-m", level),
        f"--steer-artifacts={ladder.paths.root}",
        f"--steer-model={ladder.model}",
        *ladder.pytest_arguments,
    ]


def _tell(ladder: Ladder, level: str, seconds: float, say: Callable[[str], object]) -> None:
    from steering_reliability.report.decided import decision_lines
    from steering_reliability.results.run import read_run

    say(f"{level} took {_duration(seconds)}")
    plan = _plan(ladder, find_levels(ladder.folder)[level])
    try:
        run = read_run(ladder.paths.run(plan))
    except SteeringError as error:
        say(str(error))
        return
    for line in decision_lines(run):
        say(line)


def _how(code: int) -> str:
    return "; --keep-going climbs on" if code == FAILED else ""


def _cost_text(cost: Cost) -> str:
    text = f"{cost.completions:,} completions, {cost.missing:,} to generate"
    return text + _minutes(cost.seconds)


def _minutes(seconds: float | None) -> str:
    return "" if seconds is None else f", about {seconds / 60:.1f} min"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min"
