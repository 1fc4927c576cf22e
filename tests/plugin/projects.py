"""A user's project on a tiny random model: levels, prompts and tests, run in processes of its own.

The plugin is loaded from its entry point, as a user's pytest does; other plugins of this
environment are left out, since importing them would take longer than a run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

PER_SPLIT = 6
SPLITS = {"harm_train": "Break", "harm_test": "Sell", "benign": "Paint"}
N_PROMPTS = PER_SPLIT * len(SPLITS)
_THINGS = ["kettles", "maps", "boats", "pianos", "gardens", "comets", "bridges", "violins"]
OTHER_PLUGINS = ("cacheprovider", "hypothesispytest", "typeguard", "jaxtyping", "anyio")
_WRITTEN_OTHERWISE = {"CI", "BUILD_NUMBER", "FORCE_COLOR", "NO_COLOR", "PY_COLORS"}
_TIMEOUT_S = 300

SMOKE: dict[str, Any] = {
    "level": "smoke",
    "question": "Does it run?",
    "run": "smoke_test",
    "layers": [1, 2],
    "interventions": ["add"],
    "alphas": [0, 2],
    "prompts": {
        "per_split": PER_SPLIT,
        "splits": {split: f"{split}.jsonl" for split in SPLITS},
    },
    "direction": {"learn_from": {"split": "harm_train", "last": 4}},
    "generation": {"max_new_tokens": 8, "slots": 8},
    # Random weights never refuse, so what the claims say follows from their margins alone.
    "claims": {
        "coherence": {"margin": 0.95},
        "baseline_refusal": {},
        "alpha_raises_refusal": {"required": False, "least_effect": 0.9},
    },
}

TESTS = """
    import pytest

    pytestmark = pytest.mark.{level}


    def test_cell_is_complete(steering, cell):
        assert len(steering.scores(cell)) == steering.plan.n_prompts


    def test_coherence(steering, steered_cell):
        steering.check("coherence", steered_cell)


    def test_baseline_refusal(steering):
        steering.check("baseline_refusal")


    def test_alpha_raises_refusal(steering, steered_cell):
        steering.check("alpha_raises_refusal", steered_cell)
"""

CONFTEST = """
    import os
    import signal
    import sys
    import time
    from pathlib import Path

    WATCHED = {"torch", "transformers", "matplotlib", "pandas", "scipy"}


    def pytest_collection_modifyitems(items):
        if os.environ.get("TEST_REVERSED"):
            items.reverse()


    def pytest_runtest_call(item):
        what, _, where = os.environ.get("TEST_DISASTER", "").partition(" ")
        if not what or item.name != where:
            return
        if what == "kill":
            os.killpg(0, signal.SIGKILL)
        if what == "exit":
            os._exit(3)
        Path(what).touch()
        time.sleep(200)


    def pytest_unconfigure():
        if os.environ.get("TEST_IMPORTS"):
            print("imported:", *sorted(WATCHED & set(sys.modules)))
"""


class Stored(NamedTuple):
    """When, and by which run, a completion was stored."""

    created_at: float
    run_id: str


class Project:
    """A folder with ``experiments/`` in it.

    Args:
        root: where to write it.
        model: folder of the model that its runs use.
    """

    def __init__(self, root: Path, model: Path) -> None:
        self.root = root
        self.model = model
        self.experiments = root / "experiments"
        self.prompts = self.experiments / "prompts"
        self.artifacts = root / "artifacts"
        self.prompts.mkdir(parents=True)
        (self.experiments / "configs").mkdir()
        (root / "pytest.ini").write_text(
            "[pytest]\naddopts = --strict-markers --strict-config\n", encoding="utf-8"
        )
        (root / "conftest.py").write_text(textwrap.dedent(CONFTEST), encoding="utf-8")
        for split, verb in SPLITS.items():
            self.write_prompts(split, [f"{verb} {thing}." for thing in _THINGS])
        self.write_level()

    def write_level(self, level: str = "smoke", **changes: Any) -> None:
        """Write a level like smoke, but for top-level keys, and the file of its tests."""
        run = {} if level == "smoke" else {"run": level}
        settings = {**SMOKE, "level": level, **run, **changes}
        path = self.config(level)
        path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        tests = textwrap.dedent(TESTS).lstrip().format(level=level)
        (self.experiments / f"test_{level}.py").write_text(tests, encoding="utf-8")

    def write_prompts(self, split: str, texts: Sequence[str]) -> None:
        """Write a split's prompts, ``<split>-1`` and so on."""
        rows = [{"id": f"{split}-{n}", "prompt": text} for n, text in enumerate(texts, start=1)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (self.prompts / f"{split}.jsonl").write_text(lines, encoding="utf-8")

    def config(self, level: str = "smoke") -> Path:
        return self.experiments / "configs" / f"{level}.yaml"

    def folder(self, level_run: str = "smoke_test", artifacts: Path | None = None) -> Path:
        """A level's run folder on the project's model."""
        return (artifacts or self.artifacts) / "runs" / f"{level_run}_{self.model.name}"

    def with_store_of(self, other: Path, name: str) -> Path:
        """A new artifacts folder that holds another one's completions, and nothing else."""
        folder = self.root / name
        folder.mkdir()
        shutil.copy(other / "store.sqlite", folder)
        return folder

    def run(
        self,
        *arguments: str,
        artifacts: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> pytest.RunResult:
        """Run pytest in the project's folder to its end."""
        started = time.monotonic()
        process = self.start(*arguments, artifacts=artifacts, environment=environment)
        return finished(process, started)

    def start(
        self,
        *arguments: str,
        artifacts: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start pytest in the project's folder, in a process group of its own."""
        command = [sys.executable, "-m", "pytest"]
        command += [part for name in OTHER_PLUGINS for part in ("-p", f"no:{name}")]
        # Written with "=": pytest takes a path that stands alone for a hint at the root folder.
        command += [f"--steer-model={self.model}", "--steer-device=cpu"]
        if artifacts is not None:
            command += [f"--steer-artifacts={artifacts}"]
        # Last, so that a test's own options win.
        command += arguments
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=clean_environment(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=hear_interrupts,
        )


def hear_interrupts() -> None:
    # A process started in the background ignores Ctrl-C, and so would everything below it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def clean_environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a process that isn't part of this test session.

    What makes pytest write otherwise (whole summaries in CI, colours, widths) is left out, so that
    a test reads the same lines wherever it runs; one that is about it sets it.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTEST_") and name not in _WRITTEN_OTHERWISE
    }
    return {**inherited, "OMP_NUM_THREADS": "1", "COLUMNS": "100", **(changes or {})}


def finished(process: subprocess.Popen[str], started: float | None = None) -> pytest.RunResult:
    """What a process left, as pytester gives it; it is killed if it doesn't end."""
    started = time.monotonic() if started is None else started
    try:
        out, error = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, error = process.communicate()
        pytest.fail(f"no end after {_TIMEOUT_S} s:\n{out}{error}")
    return pytest.RunResult(
        process.returncode, out.splitlines(), error.splitlines(), time.monotonic() - started
    )


def counts(result: pytest.RunResult) -> tuple[int, int]:
    """Completions generated, and taken from the store, as the last level of a run says."""
    found = re.findall(
        r"([\d,]+) completions generated, ([\d,]+) from the store", result.stdout.str()
    )
    assert found, result.stdout.str()
    generated, reused = (int(number.replace(",", "")) for number in found[-1])
    return generated, reused


def stored(artifacts: Path) -> dict[str, Stored]:
    """Everything in a store, by key, past the package's own reader."""
    with sqlite3.connect(artifacts / "store.sqlite") as db:
        rows = db.execute("SELECT key, created_at, run FROM completions").fetchall()
    db.close()
    return {key: Stored(created, json.loads(run)["run_id"]) for key, created, run in rows}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
