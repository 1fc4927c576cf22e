"""A run's folder: what a level leaves behind, written once and read whole.

    <run>/  completions.parquet  summary.csv  controls.csv  verdicts.json  decisions.json
            manifest.json

``manifest.json`` is written last and lists the others with their hashes, so a folder whose
writing was cut short is recognised. What is drawn from a run (``plots/``, ``examples.md``,
``report.html``) is written after it, by others, and can be drawn again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from steering_reliability.errors import SteeringError
from steering_reliability.expectations import Verdict
from steering_reliability.results.atomic import (
    csv_text,
    json_bytes,
    parquet_bytes,
    text_bytes,
    write_together,
)
from steering_reliability.results.summary import check_scores, controls_table

RUN_FORMAT = 1
COMPLETIONS, SUMMARY, CONTROLS = "completions.parquet", "summary.csv", "controls.csv"
VERDICTS, DECISIONS, MANIFEST = "verdicts.json", "decisions.json", "manifest.json"

PACKAGES = (
    "steering-reliability",
    "torch",
    "transformers",
    "transformer-lens",
    "tokenizers",
    "safetensors",
    "gguf",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "pydantic",
    "pytest",
    "pytest-xdist",
)
_GIT_TIMEOUT_S = 10


@dataclass
class RunData:
    """One run of one level.

    Attributes:
        folder: the run's folder, ``artifacts/runs/<run>``.
        scores: one row per prompt, cell and sample, columns `summary.SCORE_COLUMNS`.
        summary: the grid, from `summary.summarize`.
        verdicts: one per claim and target, in the level's order.
        manifest: level, model, versions, config, seeds, timings, counts, warnings; builtins.
        decisions: what the next level reads, None if the level decides nothing.
    """

    folder: Path
    scores: pd.DataFrame
    summary: pd.DataFrame
    verdicts: list[Verdict]
    manifest: dict[str, Any]
    decisions: dict[str, Any] | None = field(default=None)

    @property
    def controls(self) -> pd.DataFrame:
        """Controls and other conditions, from `summary.controls_table`; empty if there are none."""
        return controls_table(self.scores)


def write_run(data: RunData) -> None:
    """Writes a run's tables and records; what a former run of that name left is replaced.

    All of it is on disk before the first file is replaced, so an error or a kill before that
    leaves the former run as it was. A file that this run does not have is removed.

    Raises:
        SteeringError: the folder cannot be written, or the scores are no scores frame.
    """
    controls = data.controls
    contents: dict[str, bytes | None] = {
        COMPLETIONS: parquet_bytes(data.scores),
        SUMMARY: text_bytes(csv_text(data.summary)),
        CONTROLS: None if controls.empty else text_bytes(csv_text(controls)),
        VERDICTS: json_bytes([verdict.to_dict() for verdict in data.verdicts]),
        DECISIONS: None if data.decisions is None else json_bytes(data.decisions),
    }
    hashes = {name: _hash(content) for name, content in contents.items() if content is not None}
    manifest = {**data.manifest, "run_format": RUN_FORMAT, "files": hashes}
    contents[MANIFEST] = json_bytes(manifest)
    write_together({data.folder / name: content for name, content in contents.items()})


def read_run(folder: str | os.PathLike[str]) -> RunData:
    """The run that `write_run` wrote into a folder.

    Raises:
        SteeringError: the folder is no run, is another version's, or one of its files is
            missing, damaged or not of this run.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    hashes = manifest.pop("files")
    contents = {name: _read_file(folder / name, digest) for name, digest in hashes.items()}
    try:
        scores = pd.read_parquet(BytesIO(contents[COMPLETIONS]))
        summary = pd.read_csv(BytesIO(contents[SUMMARY]))
        verdicts = [Verdict.from_dict(record) for record in json.loads(contents[VERDICTS])]
        decisions = json.loads(contents[DECISIONS]) if DECISIONS in contents else None
    except (KeyError, TypeError, ValueError, OSError) as error:
        # The bytes are those that were written: the writer was not this version's.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise _not_this_run(folder, reason) from error
    check_scores(scores, str(folder / COMPLETIONS))
    return RunData(folder, scores, summary, verdicts, manifest, decisions)


def environment_manifest() -> dict[str, Any]:
    """What the results may depend on: Python, platform, package versions, git commit, CPU count.

    Holds no host name and no path. A package that is not installed is left out; ``git`` is None
    outside a repository or where git is missing, ``dirty`` whether there are changes that the
    commit does not hold.
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "versions": versions,
        "git": _git_state(),
    }


def _git_state() -> dict[str, Any] | None:
    commit = _git("rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    changes = _git("status", "--porcelain")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    # Without optional locks, looking does not disturb a git command that runs meanwhile.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        answer = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_GIT_TIMEOUT_S,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def read_manifest(folder: Path) -> dict[str, Any]:
    """A run's manifest with the hashes of its files, which are not looked at.

    Raises:
        SteeringError: the folder is no run, or is another version's.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise SteeringError(
            f"{folder}: found no readable {MANIFEST} ({error.strerror}), expected a run's folder"
            " such as artifacts/runs/smoke_test: name another folder or run the level"
        ) from error
    except ValueError as error:
        raise _not_this_run(path, f"damaged JSON ({error})") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), Mapping):
        raise _not_this_run(path, "no list of files")
    found = manifest.pop("run_format", None)
    if found != RUN_FORMAT:
        raise SteeringError(
            f"{path}: run_format: found {found}, expected {RUN_FORMAT}: the run was written by"
            " another version of steering_reliability; run the level again"
        )
    return manifest


def _read_file(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _not_this_run(path, f"no readable file ({error.strerror})") from error
    if _hash(content) != digest:
        raise _not_this_run(path, "other content than its manifest lists")
    return content


def _not_this_run(path: Path, found: str) -> SteeringError:
    return SteeringError(
        f"{path}: found {found}, expected what the run wrote; it was damaged, edited or cut short"
        " while being written: run the level again, stored completions are reused"
    )


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
