"""The command line, on a run folder and a store that the tests make."""

from __future__ import annotations

from pathlib import Path

import pytest

from steering_reliability.cells import Cell
from steering_reliability.cli import main
from steering_reliability.completions import Completion
from steering_reliability.results.records import StoredCompletion
from steering_reliability.results.run import write_run
from steering_reliability.results.store import CompletionStore
from tests.unit.report_runs import make_run


def stored(key: str, level: str) -> StoredCompletion:
    completion = Completion("p-1", Cell(1, "add", 0), "Hello.", (5, 6), "stop", key=key)
    return StoredCompletion.of(completion, {"level": level, "run_id": "r"})


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    with CompletionStore(tmp_path / "store.sqlite") as store:
        store.put_many([stored("a", "smoke"), stored("b", "smoke"), stored("c", "full")])
    return tmp_path


def test_report_is_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_run(tmp_path / "run")
    write_run(data)
    assert main(["report", str(data.folder)]) == 0
    assert capsys.readouterr().out.strip() == str(data.folder / "report.html")
    assert (data.folder / "report.html").stat().st_size > 0
    assert list((data.folder / "plots").glob("*.png"))


def test_a_folder_that_is_no_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(tmp_path) in error


def test_store_stats(artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "stats", "--artifacts", str(artifacts)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("3 completions, 0 being made")
    assert "2  smoke, run r" in out


def test_store_verify_and_prune(artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "verify", "--artifacts", str(artifacts)]) == 0
    assert main(["store", "prune", "--artifacts", str(artifacts), "--level", "smoke"]) == 0
    assert "2 completions forgotten" in capsys.readouterr().out
    with CompletionStore(artifacts / "store.sqlite") as store:
        assert set(store.get_many(["a", "b", "c"])) == {"c"}


def test_a_store_damaged_in_the_middle_is_told_and_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "store.sqlite"
    with CompletionStore(path) as store:
        store.put_many(stored(f"{n:064x}", "smoke") for n in range(500))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8192] = bytes(8192)
    path.write_bytes(content)

    assert main(["store", "verify", "--artifacts", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "damaged completion store" in told or "database" in told
    assert "`steering-reliability store prune` does now" in told
    assert path.read_bytes() == content

    assert main(["store", "prune", "--artifacts", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "it is kept as store.sqlite.aside-1, and the 4" in told
    assert main(["store", "verify", "--artifacts", str(tmp_path)]) == 0


def test_a_store_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "stats", "--artifacts", str(tmp_path)]) == 2
    assert "store.sqlite" in capsys.readouterr().err
