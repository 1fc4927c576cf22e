"""Required claims that no test asked for, though the level says that they decide.

A test that is skipped asks for nothing: a claim that fails must not pass for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from steering_reliability.ladder.targets import call_of, is_of_level
from steering_reliability.pytest_plugin import collection

if TYPE_CHECKING:
    from steering_reliability.expectations import Verdict
    from steering_reliability.ladder.plan import LevelPlan

_SAID = {"fail": "fails", "inconclusive": "is inconclusive", "error": "can't be evaluated"}


class Selection:
    """What a process collected, and what of it was left to run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._files: set[Path] = set()
        self._found: Sequence[pytest.Item] = ()

    def saw(self, path: Path) -> None:
        """Note a file that tests are collected from."""
        self._files.add(path.resolve())

    def found(self, items: Sequence[pytest.Item]) -> None:
        """Note the tests before any is deselected."""
        self._found = list(items)

    def cut_short(self, left: Iterable[pytest.Item], levels: dict[str, Path]) -> set[str]:
        """The levels that some tests are left out of: by ``-k``, ``--lf``, a file or ``::``."""
        some = any("::" in str(argument) for argument in self._config.args)
        if some or self._reruns_failures():
            return set(levels)
        remaining = set(left)
        missing = [item for item in self._found if item not in remaining]
        cut = {mark.name for item in missing for mark in item.iter_markers()} & levels.keys()
        return cut | {name for name, path in levels.items() if self._lacks_files(name, path)}

    def _reruns_failures(self) -> bool:
        # ``--lf`` takes tests out of files without deselecting them, but only where some failed.
        last = self._config.pluginmanager.get_plugin("lfplugin")
        return self._config.getoption("lf", False) and bool(getattr(last, "lastfailed", None))

    def _lacks_files(self, level: str, path: Path) -> bool:
        """Whether a file that names the level's mark is not collected from.

        Nobody is told where that is for good: a ``collect_ignore`` over such a file, in a
        conftest, takes the level for cut short in every run.
        """
        patterns = self._config.getini("python_files")
        return any(
            file.resolve() not in self._files
            for folder in collection.folders_below(path.parents[1], self._config)
            for file in folder.glob("*.py")
            if any(fnmatch(file.name, pattern) for pattern in patterns)
            and level in collection.marks_named_in(file)
        )


def unchecked(plan: LevelPlan, failing: Iterable[Verdict], asked: Iterable[Verdict]) -> list[str]:
    """A line per required claim that goes wrong without a test that says so.

    Args:
        plan: the level.
        failing: the level's verdicts that fail a test which asks for them.
        asked: the verdicts that tests came to.
    """
    known = {(verdict.claim, verdict.target) for verdict in asked}
    places: dict[tuple[str, str], list[str]] = {}
    for verdict in failing:
        if verdict.required and (verdict.claim, verdict.target) not in known:
            places.setdefault((verdict.claim, verdict.outcome), []).append(verdict.target)
    lines = []
    for (claim, outcome), of in places.items():
        at, there = ("", "") if is_of_level(plan, claim) else (f" at {', '.join(of)}", " there")
        lines.append(
            f"{plan.level}: required claim {claim} {_SAID[outcome]}{at} and no test that "
            f"ran checks it{there}: add or unskip one that calls {call_of(plan, claim)}"
        )
    return lines
