"""Experiments to start from are levels that load, and never replace what somebody wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from steering_reliability.cli import main
from steering_reliability.config import find_levels, load_level

LADDER = ["alpha_sweep", "full", "layer_test", "smoke"]


def files_in(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8")
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_the_ladder_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "experiments"
    assert main(["init", str(folder)]) == 0
    levels = find_levels(folder)
    assert sorted(levels) == LADDER
    assert all((folder / f"test_{name}.py").exists() for name in levels)
    for path in levels.values():
        assert load_level(path).load_prompts()
    *written, advice = capsys.readouterr().out.splitlines()
    assert sorted(written) == sorted(str(folder / name) for name in files_in(folder))
    assert advice == f"run it: pytest {folder} -m smoke"


def test_a_level_of_ones_own_bears_no_other_name(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path), "--level", "mine"]) == 0
    files = files_in(tmp_path)
    assert sorted(files) == [
        "configs/mine.yaml",
        "prompts/benign.jsonl",
        "prompts/harm_test.jsonl",
        "prompts/harm_train.jsonl",
        "test_mine.py",
    ]
    level = load_level(tmp_path / "configs" / "mine.yaml")
    assert (level.level, level.run) == ("mine", "mine")
    assert "pytestmark = pytest.mark.mine\n" in files["test_mine.py"]
    for name in ("configs/mine.yaml", "test_mine.py"):
        assert "smoke" not in files[name]
        assert "Level 1" not in files[name]


def test_nothing_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path), "--level", "mine"]) == 0
    (tmp_path / "configs" / "mine.yaml").unlink()
    (tmp_path / "test_mine.py").write_text("# of mine\n", encoding="utf-8")
    (tmp_path / "prompts" / "benign.jsonl").write_text("{}\n", encoding="utf-8")
    before = files_in(tmp_path)
    assert main(["init", str(tmp_path), "--level", "mine"]) == 2
    assert files_in(tmp_path) == before
    assert f"{tmp_path / 'test_mine.py'}: found a file" in capsys.readouterr().err
    assert main(["init", str(tmp_path), "--level", "other"]) == 0
    after = files_in(tmp_path)
    assert after.keys() - before.keys() == {"configs/other.yaml", "test_other.py"}
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("name", ["", "a b", "1st", "a-b"])
def test_a_name_that_no_marker_has_is_refused(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path), "--level", name]) == 2
    assert not files_in(tmp_path)
    assert f"--level: found {name!r}, expected a marker's name" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["init", str(tmp_path / "file")]) == 2
    assert "could not be written (Not a directory)" in capsys.readouterr().err
