"""Runs that end before their end: nothing stored is lost, and what is known is written."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from projects import N_PROMPTS, Project, counts, finished, stored

ALL = 3 * N_PROMPTS
LAST_CELL = "test_cell_is_complete[layer2-add-alpha2]"


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "n2"])
def test_a_killed_run_is_gone_on_with(shared: Project, workers: tuple[str, ...]) -> None:
    artifacts = shared.root / f"killed{len(workers)}"
    killed = shared.run(
        "experiments",
        *workers,
        artifacts=artifacts,
        environment={"TEST_DISASTER": f"kill {LAST_CELL}"},
    )
    assert killed.ret == -signal.SIGKILL
    before = stored(artifacts)
    assert 0 < len(before) < ALL
    assert not (artifacts / "tables").exists()

    again = shared.run("experiments", artifacts=artifacts)
    after = stored(artifacts)
    assert {key: after[key] for key in before} == before
    assert len(after) == ALL
    # The store would keep the first of two; what was made is in the progress line.
    again.stdout.fnmatch_lines([f"*steering: {ALL - len(before)} completions in *"])
    assert counts(again) == (ALL - len(before), len(before))
    expected = (shared.folder() / "summary.csv").read_bytes()
    assert (artifacts / "tables" / "summary.csv").read_bytes() == expected


@pytest.mark.usefixtures("undisturbed")
def test_a_worker_that_dies_costs_its_test_alone(shared: Project) -> None:
    artifacts = shared.with_store_of(shared.artifacts, "crashed")
    result = shared.run(
        "experiments",
        "-n2",
        artifacts=artifacts,
        environment={"TEST_DISASTER": f"exit {LAST_CELL}"},
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*worker 'gw?' crashed while running*{LAST_CELL}*"])
    assert result.parseoutcomes() == {"failed": 1, "passed": 5, "xfailed": 2, "inconclusive": 1}
    assert_whole(shared, artifacts)


@pytest.mark.usefixtures("undisturbed")
def test_stopping_at_the_first_failure_writes_results(shared: Project) -> None:
    artifacts = shared.with_store_of(shared.artifacts, "first_failure")
    result = shared.run("experiments", "-x", "--steer-inconclusive=fail", artifacts=artifacts)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    # Four cells and two coherence claims before it, two claims after it that aren't reached.
    assert result.parseoutcomes() == {"failed": 1, "passed": 6}
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])
    assert_whole(shared, artifacts)
    # The report tells what the command line asked for, which no file of the level does.
    report, lenient = (
        (shared.folder(artifacts=one) / "report.html").read_text(encoding="utf-8")
        for one in (artifacts, None)
    )
    assert "1 required claim fails the run: 1 inconclusive, which counts as failed" in report
    assert "fails the run: 1 inconclusive" not in lenient


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "n2"])
def test_interrupting_writes_results(
    shared: Project, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    artifacts = shared.with_store_of(shared.artifacts, f"interrupted{len(workers)}")
    reached = tmp_path / "reached"
    process = shared.start(
        "experiments",
        *workers,
        artifacts=artifacts,
        environment={"TEST_DISASTER": f"{reached} {LAST_CELL}"},
    )
    while not reached.exists() and process.poll() is None:
        time.sleep(0.05)
    # With workers, let the one that isn't stuck come to results.
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    result = finished(process)
    assert result.ret == pytest.ExitCode.INTERRUPTED, f"{result.stdout}{result.stderr}"
    assert "INTERNALERROR" not in result.stdout.str()
    assert_whole(shared, artifacts)


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize("options", [(), ("--steer-fresh",), ("-n2",)], ids=["", "fresh", "n2"])
def test_a_store_damaged_in_the_middle_is_got_over(
    shared: Project, options: tuple[str, ...]
) -> None:
    artifacts = shared.with_store_of(shared.artifacts, f"damaged{'-'.join(options)}")
    store = artifacts / "store.sqlite"
    content = bytearray(store.read_bytes())
    middle = content.index(b'"token_ids"')
    page = middle - middle % 4096
    content[page : page + 4096] = bytes(4096)
    store.write_bytes(content)

    result = shared.run("experiments", *options, artifacts=artifacts)
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    told = [line for line in result.outlines if "damaged completion store" in line]
    assert len(told) == 1
    assert "it is kept as store.sqlite.aside-1, and the" in told[0]
    assert (artifacts / "store.sqlite.aside-1").read_bytes() == content
    generated, reused = counts(result)
    assert generated + reused == ALL
    assert reused == 0 if "--steer-fresh" in options else 0 < reused < ALL
    assert_whole(shared, artifacts)


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "n2"])
def test_interrupting_tells_what_is_kept(
    shared: Project, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    artifacts = shared.root / f"kept{len(workers)}"
    reached = tmp_path / "reached"
    disaster = {"TEST_DISASTER": f"{reached} {LAST_CELL}"}
    process = shared.start("experiments", *workers, artifacts=artifacts, environment=disaster)
    while not reached.exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    result = finished(process)
    assert result.ret == pytest.ExitCode.INTERRUPTED, f"{result.stdout}{result.stderr}"
    kept = len(stored(artifacts))
    assert kept < ALL
    result.stdout.fnmatch_lines(
        [
            f"steering: smoke interrupted: {kept} of {ALL} completions are stored; the same "
            "command goes on from there"
        ]
    )


def test_interrupting_before_a_level_is_at_work_tells_nothing(
    shared: Project, tmp_path: Path
) -> None:
    reached = tmp_path / "reached"
    disaster = {"TEST_DISASTER": f"{reached} test_cell_is_complete[layer1-add-alpha0]"}
    artifacts = shared.root / "untouched"
    process = shared.start("experiments", artifacts=artifacts, environment=disaster)
    while not reached.exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    result = finished(process)
    assert result.ret == pytest.ExitCode.INTERRUPTED, f"{result.stdout}{result.stderr}"
    result.stdout.no_fnmatch_line("steering: smoke interrupted*")


def assert_whole(project: Project, artifacts: Path) -> None:
    """The run folder is written, from everything that the store holds."""
    expected = (project.folder() / "summary.csv").read_bytes()
    assert (artifacts / "tables" / "summary.csv").read_bytes() == expected
    folder = project.folder(artifacts=artifacts)
    assert (folder / "summary.csv").read_bytes() == expected
    assert (folder / "report.html").stat().st_size > 0
    assert (folder / "directions" / "layer2.safetensors").exists()
