"""Which levels there are and which are run; tests made of cells; one worker per layer."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.expression import Expression

from steering_reliability.config import find_levels
from steering_reliability.errors import SteeringError

DEFAULT_LEVEL = "smoke"
_LAYER_IN_ID = re.compile(r"\[layer(\d+)-")
_MARK = re.compile(r"\bmark\.(\w+)")


def levels_beside(folder: Path) -> dict[str, Path]:
    """Levels by name: the YAML files in ``configs/`` beside tests that ask for ``steering``.

    Many a suite has a folder of that name, and means something else by it.
    """
    if not (folder / "configs").is_dir():
        return {}
    asks = any("steering" in _text(path) for path in folder.glob("*.py"))
    return find_levels(folder) if asks else {}


def folders_of_arguments(config: pytest.Config) -> Iterator[Path]:
    """The folders that tests are collected from, which the controller of workers never does."""
    for path in _argument_paths(config):
        if path.is_dir():
            yield from folders_below(path, config)
        else:
            yield path.parent


def folders_below(path: Path, config: pytest.Config) -> Iterator[Path]:
    """A folder and those in it that pytest looks for tests in."""
    skipped = config.getini("norecursedirs")
    for folder, below, _ in os.walk(path):
        below[:] = sorted(
            name
            for name in below
            if not any(fnmatch(name, pattern) for pattern in skipped)
            and not Path(folder, name, "pyvenv.cfg").exists()
        )
        yield Path(folder)


def _argument_paths(config: pytest.Config) -> list[Path]:
    """Files and folders that pytest was called with."""
    paths = [Path(str(argument).partition("::")[0]) for argument in config.args]
    return [Path(os.path.normpath(config.invocation_params.dir / path)) for path in paths]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def runs_smoke_only(config: pytest.Config, levels: dict[str, Path]) -> bool:
    """Whether nothing was chosen, so that only the cheapest level runs."""
    chosen = config.getoption("markexpr") or any(
        "::" in str(argument) or str(argument).endswith(".py") for argument in config.args
    )
    return not chosen and DEFAULT_LEVEL in levels


def is_selected(config: pytest.Config, level: str, levels: dict[str, Path]) -> bool:
    """Whether tests of a level may run: ``-m`` leaves it, or it is what runs without a choice."""
    if runs_smoke_only(config, levels):
        return level == DEFAULT_LEVEL
    expression = config.getoption("markexpr")
    try:
        compiled = Expression.compile(expression or level)
    except SyntaxError:
        # Pytest says so itself when it selects by it.
        return False

    def may_be(others: bool) -> bool:
        # Marks that are no levels may or may not stand at the level's tests.
        def has_mark(mark: str, /, **_: object) -> bool:
            return mark == level or (others and mark not in levels)

        return compiled.evaluate(has_mark)

    return may_be(False) or may_be(True)


def selected_levels(config: pytest.Config, levels: dict[str, Path]) -> dict[str, Path]:
    """The levels that this run chose, as far as can be told before tests are collected.

    Only those whose marker a test file names: whatever else is in ``configs/`` is no reason to
    stop.
    """
    files: set[Path] = set()
    for path in _argument_paths(config):
        if path.is_file():
            files.add(path)
        else:
            files.update(file for yaml in levels.values() for file in yaml.parents[1].glob("*.py"))
    named = {mark for file in files for mark in marks_named_in(file)}
    return {
        name: path
        for name, path in levels.items()
        if name in named and is_selected(config, name, levels)
    }


def marks_named_in(file: Path) -> set[str]:
    """The marks that a test file's text names, before it is imported."""
    return set(_MARK.findall(_text(file)))


def check_marker_names(config: pytest.Config, levels: dict[str, Path]) -> None:
    """Say which levels there are where ``-m`` names a marker that looks like one and is none.

    Only where pytest would refuse the name anyway, with ``--strict-markers``, which it does after
    everything is collected and without a word of levels.

    Raises:
        SteeringError: the name is near a level's, and no marker.
    """
    strict = config.getini("strict_markers")
    if not (config.getini("strict") if strict is None else strict):
        return
    try:
        names = Expression.compile(config.getoption("markexpr") or "True").idents()
    except SyntaxError:
        # Pytest says so itself when it selects by it.
        return
    known = {re.split(r"[:(]", line)[0].strip() for line in config.getini("markers")}
    for name in sorted(names - known - levels.keys()):
        near = difflib.get_close_matches(name, levels, n=1)
        if near:
            raise SteeringError(
                f"-m: found {name!r}, expected a level ({', '.join(levels)}) or another marker; "
                f"did you mean {near[0]!r}?"
            )


def level_of(node: pytest.Item | Any, levels: dict[str, Path]) -> str | None:
    """Name of the level whose marker a test carries, in or below the level's own folder.

    Raises:
        pytest.UsageError: it carries two.
    """
    names = {
        mark.name
        for mark in node.iter_markers()
        if mark.name in levels and _is_below(node.path, levels[mark.name].parents[1])
    }
    if len(names) > 1:
        raise pytest.UsageError(
            f"{node.nodeid}: found the markers of {', '.join(sorted(names))}, expected one level"
        )
    return names.pop() if names else None


def _is_below(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder) or path.resolve().is_relative_to(folder.resolve())


def register_markers(config: pytest.Config, levels: dict[str, Path]) -> None:
    """Make every level a marker, so that ``-m`` and ``--strict-markers`` know it."""
    known = {line.partition(":")[0] for line in config.getini("markers")}
    for name, path in levels.items():
        if name not in known:
            config.addinivalue_line("markers", f"{name}: steering level of {path.name}")


def deselect_other_levels(
    config: pytest.Config, items: list[pytest.Item], levels: dict[str, Path]
) -> None:
    """Without a choice, leave the smoke level's tests and those of no level."""
    if not runs_smoke_only(config, levels):
        return
    others = [item for item in items if level_of(item, levels) not in (None, DEFAULT_LEVEL)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def make_scheduler(config: pytest.Config, log: Any, levels: dict[str, Path]) -> Any:
    """A scheduler that keeps all tests of one layer of one level on one worker.

    Tests in folders without levels are handed out one by one.
    """
    from xdist.scheduler import LoadScopeScheduling

    folders = {path.parents[1].resolve() for path in levels.values()}

    class LayerScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            if (config.rootpath / module).parent.resolve() not in folders:
                return nodeid
            layer = _LAYER_IN_ID.search(nodeid)
            return f"{module}::layer{layer[1]}" if layer else f"{module}::level"

        def remove_node(self, node: Any) -> str | None:
            # The base class hands the test that a worker died of to the next one, and so on.
            for unit in self.assigned_work[node].values():
                for nodeid, completed in unit.items():
                    if not completed:
                        unit[nodeid] = True
                        super().remove_node(node)
                        return nodeid
            return super().remove_node(node)

    return LayerScheduling(config, log)


def as_usage_error(error: SteeringError) -> pytest.UsageError:
    """The same line, as pytest shows bad usage: no traceback, exit code 4."""
    return pytest.UsageError(str(error))
