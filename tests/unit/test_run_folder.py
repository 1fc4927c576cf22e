"""Run folders and the files in them: whole or not there, read back as they were written."""

from __future__ import annotations

import io
import json
import math
import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steering_reliability.errors import SteeringError
from steering_reliability.expectations import Verdict
from steering_reliability.results import atomic, run
from steering_reliability.results.atomic import (
    csv_text,
    json_bytes,
    parquet_bytes,
    text_bytes,
    well_formed,
    write_csv,
    write_json,
    write_parquet,
    write_text,
    write_together,
)
from steering_reliability.results.run import (
    RunData,
    environment_manifest,
    read_run,
    write_run,
)
from steering_reliability.results.summary import SCORE_COLUMNS, summarize


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def score(prompt_id: str, alpha: float, direction: str = "learned") -> dict[str, object]:
    return {
        "prompt_id": prompt_id,
        "split": "harm_test",
        "category": "fraud",
        "style": "direct",
        "prompt": 'Say "ü", please,\nnow',
        "seen": False,
        "layer": 12,
        "intervention": "add",
        "alpha": alpha,
        "direction": direction,
        "condition": "default",
        "sample": 0,
        "text": "I can't\0 say.",
        "finish_reason": "stop",
        "refusal_score": alpha / 3,
        "is_refusal": alpha > 1,
        "helpfulness_score": 0.5,
        "is_helpful": True,
        "is_degenerate": False,
        "char_length": 14,
        "mean_logprob": math.nan,
        "mean_entropy": 0.1,
        "refusal_log_odds": -1.0,
    }


def verdict(claim: str = "alpha_raises_refusal") -> Verdict:
    return Verdict(
        claim=claim,
        target="layer12-add-alpha2",
        outcome="pass",
        estimate=0.25,
        low=0.1,
        high=0.4,
        confidence=0.95,
        n=2,
        p_value=0.125,
        message="refusal rises by .25 [.10, .40], n = 2",
        required=True,
        details={"layer": 12, "note": "≥ .10"},
    )


def data(folder: Path, *, controls: bool = False, decide: bool = False) -> RunData:
    rows = [score(prompt, alpha) for prompt in ("a", "b") for alpha in (0.0, 2.0)]
    if controls:
        rows += [score(prompt, 2.0, "random-1") for prompt in ("a", "b")]
    scores = pd.DataFrame(rows)
    return RunData(
        folder=folder,
        scores=scores,
        summary=summarize(scores),
        verdicts=[verdict(), verdict("coherence")],
        manifest={"level": "smoke", "seeds": [0], "timings": {"generate": 1.5}},
        decisions={"best_layer": 12} if decide else None,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "artifacts" / "runs" / "smoke_test"


class TestAtomic:
    def test_files_and_folders_are_made(self, tmp_path: Path) -> None:
        inner = tmp_path / "a" / "b"
        frame = pd.DataFrame({"alpha": [0.0, 4.0], "text": ["x", "ü"]})
        write_text(inner / "t.md", "α ≥ 1\n")
        write_json(inner / "j.json", {"α": [1, (2.5, None)]})
        write_csv(inner / "c.csv", frame)
        write_parquet(inner / "p.parquet", frame)
        assert names(inner) == {"t.md", "j.json", "c.csv", "p.parquet"}
        assert (inner / "t.md").read_bytes() == "α ≥ 1\n".encode()
        assert json.loads((inner / "j.json").read_bytes()) == {"α": [1, [2.5, None]]}
        pd.testing.assert_frame_equal(pd.read_csv(inner / "c.csv"), frame)
        pd.testing.assert_frame_equal(pd.read_parquet(inner / "p.parquet"), frame)

    def test_files_get_the_usual_permissions(self, tmp_path: Path) -> None:
        (tmp_path / "usual").write_text("x")
        write_text(tmp_path / "atomic", "x")
        assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "usual").stat().st_mode

    @pytest.mark.parametrize("failing", ["fsync", "open"])
    def test_failure_while_staging_leaves_every_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
    ) -> None:
        first, second, gone = (tmp_path / name for name in ("first", "second", "gone"))
        for path in (first, second, gone):
            path.write_text("former")
        whole = atomic._write_through

        def fail_at_second(path: Path, content: bytes) -> None:
            if "second" in path.name:
                if failing == "fsync":
                    whole(path, content[:1])
                raise OSError(28, "No space left on device")
            whole(path, content)

        monkeypatch.setattr(atomic, "_write_through", fail_at_second)
        with pytest.raises(SteeringError, match=r"second: found a folder that cannot .*No space"):
            write_together({first: b"new", gone: None, second: b"new"})
        assert names(tmp_path) == {"first", "second", "gone"}
        assert {path.read_text() for path in (first, second, gone)} == {"former"}

    def test_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(SteeringError, match="cannot be written") as caught:
            write_text(tmp_path / "file" / "t.md", "x")
        assert "\n" not in str(caught.value)

    @given(st.text(st.characters()))
    @example("a\ud83d\ude00b\udfff\0")
    def test_any_text_can_be_written(self, text: str) -> None:
        assert json.loads(json_bytes({"text": text})) == {"text": well_joined(text)}
        assert len(text_bytes(text).decode("utf-8")) >= len(text)
        frame = pd.DataFrame({"text": pd.Series([text], dtype=object)})
        read = pd.read_parquet(io.BytesIO(parquet_bytes(frame)))
        assert read["text"][0] == well_formed(text)
        assert len(well_formed(text)) == len(text)

    def test_json_is_strict_and_plain(self) -> None:
        value = {
            "nan": math.nan,
            "infinite": -np.inf,
            "float": np.float32(0.5),
            "int": np.int64(3),
            "bool": np.bool_(True),
            "path": Path("a/b"),
            12: "key",
        }
        assert json.loads(json_bytes(value)) == {
            "nan": None,
            "infinite": None,
            "float": 0.5,
            "int": 3,
            "bool": True,
            "path": "a/b",
            "12": "key",
        }
        with pytest.raises(TypeError):
            json_bytes({"set": {1}})

    def test_csv_numbers(self) -> None:
        frame = pd.DataFrame(
            {
                "alpha": [0.0, -2.0, 4 / 3, 8.0],
                "value": [-0.0, 1e-9 / 3, math.nan, 123456789.0],
                "count": [1, 20, 300, 4000],
                "flag": [True, False, True, True],
                "name": ["a", "b,c", 'd"e', "ü"],
            }
        )
        assert csv_text(frame) == (
            "alpha,value,count,flag,name\n"
            "0.0,0.0,1,True,a\n"
            '-2.0,3.33333e-10,20,False,"b,c"\n'
            '1.3333333333333333,,300,True,"d""e"\n'
            "8.0,123457000.0,4000,True,ü\n"
        )
        assert list(frame["alpha"]) == [0.0, -2.0, 4 / 3, 8.0]

    @given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
    def test_csv_floats_keep_six_digits(self, values: list[float]) -> None:
        lines = csv_text(pd.DataFrame({"x": values, "alpha": values})).splitlines()[1:]
        for line, value in zip(lines, values, strict=True):
            rounded, exact = map(float, line.split(","))
            assert rounded == pytest.approx(value, rel=1e-5, abs=0)
            assert exact == value


def well_joined(text: str) -> str:
    """What JSON makes of surrogates: those that stand as a pair become one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


class TestRunFolder:
    @pytest.mark.parametrize("controls", [False, True])
    @pytest.mark.parametrize("decide", [False, True])
    def test_round_trip(self, folder: Path, controls: bool, decide: bool) -> None:
        written = data(folder, controls=controls, decide=decide)
        write_run(written)
        found = read_run(folder)
        pd.testing.assert_frame_equal(found.scores, written.scores)
        pd.testing.assert_frame_equal(found.summary, written.summary, rtol=1e-5)
        assert found.verdicts == written.verdicts
        assert found.manifest == written.manifest
        assert found.decisions == written.decisions
        assert found.controls.empty is not controls
        expected = {"completions.parquet", "summary.csv", "verdicts.json", "manifest.json"}
        expected |= {"controls.csv"} if controls else set()
        expected |= {"decisions.json"} if decide else set()
        assert names(folder) == expected
        assert tuple(found.scores.columns) == SCORE_COLUMNS

    def test_same_run_same_bytes(self, folder: Path, tmp_path: Path) -> None:
        write_run(data(folder))
        write_run(data(tmp_path / "other"))
        for name in names(folder):
            assert (folder / name).read_bytes() == (tmp_path / "other" / name).read_bytes()

    def test_what_a_former_run_had_and_this_one_has_not_is_removed(self, folder: Path) -> None:
        write_run(data(folder, controls=True, decide=True))
        (folder / "report.html").write_text("drawn by others")
        write_run(data(folder))
        assert read_run(folder).decisions is None
        assert {"controls.csv", "decisions.json"}.isdisjoint(names(folder))
        assert (folder / "report.html").exists()

    def test_crash_before_the_renames_leaves_the_former_run(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        former = data(folder, decide=True)
        write_run(former)
        monkeypatch.setattr(atomic, "_write_through", fail)
        with pytest.raises(SteeringError, match="former files are as they were"):
            write_run(data(folder, controls=True))
        found = read_run(folder)
        assert found.decisions == former.decisions
        pd.testing.assert_frame_equal(found.scores, former.scores)

    def test_crash_amid_the_renames_is_recognised(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_run(data(folder))
        rename, renamed = Path.replace, []

        def fail_third(source: Path, target: Path) -> Path:
            renamed.append(target.name)
            if len(renamed) == 3:
                raise KeyboardInterrupt
            return rename(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", fail_third)
            with pytest.raises(KeyboardInterrupt):
                write_run(data(folder, controls=True))
        assert "manifest.json" not in renamed
        with pytest.raises(SteeringError, match=r"completions.parquet: found other content"):
            read_run(folder)
        write_run(data(folder))
        assert len(read_run(folder).verdicts) == 2

    def test_manifest_is_the_last_file(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        order: list[Path] = []
        monkeypatch.setattr(run, "write_together", lambda files: order.extend(files))
        write_run(data(folder, controls=True, decide=True))
        assert order[-1] == folder / "manifest.json"
        assert len(order) == 6


def fail(path: Path, content: bytes) -> None:
    raise OSError(28, "No space left on device")


class TestBadRunFolders:
    def refused(self, folder: Path) -> str:
        with pytest.raises(SteeringError) as caught:
            read_run(folder)
        message = str(caught.value)
        assert "\n" not in message
        assert "expected" in message
        return message

    def test_no_folder(self, folder: Path) -> None:
        assert self.refused(folder).startswith(f"{folder}: found no readable manifest.json")

    def test_folder_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "manifest.json").write_text('{"name": "a web application"}')
        assert "manifest.json: found no list of files" in self.refused(tmp_path)

    def test_damaged_manifest(self, folder: Path) -> None:
        write_run(data(folder))
        content = (folder / "manifest.json").read_text()
        (folder / "manifest.json").write_text(content[: len(content) // 2])
        assert "manifest.json: found damaged JSON" in self.refused(folder)

    def test_another_version(self, folder: Path) -> None:
        write_run(data(folder))
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"run_format": 99}))
        assert "run_format: found 99, expected 1" in self.refused(folder)

    @pytest.mark.parametrize("name", ["completions.parquet", "summary.csv", "verdicts.json"])
    def test_missing_or_truncated_file(self, folder: Path, name: str) -> None:
        write_run(data(folder))
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-7])
        assert f"{name}: found other content than its manifest lists" in self.refused(folder)
        (folder / name).unlink()
        assert f"{name}: found no readable file" in self.refused(folder)

    @pytest.mark.parametrize("name", ["completions.parquet", "verdicts.json"])
    def test_file_of_another_writer(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        def other(files: dict[Path, bytes]) -> None:
            manifest = json.loads(files[folder / "manifest.json"])
            manifest["files"][name] = run._hash(b"[1]")
            write_together(
                files | {folder / name: b"[1]", folder / "manifest.json": json_bytes(manifest)}
            )

        monkeypatch.setattr(run, "write_together", other)
        write_run(data(folder))
        assert f"{folder}: found " in self.refused(folder)

    def test_scores_that_are_none(self, folder: Path) -> None:
        broken = data(folder)
        broken.scores = broken.scores.drop(columns="is_refusal")
        with pytest.raises(SteeringError, match="found no column is_refusal"):
            write_run(broken)
        assert not folder.exists()


class TestEnvironment:
    def test_versions_and_machine(self) -> None:
        manifest = environment_manifest()
        assert manifest["python"] == platform.python_version()
        assert manifest["versions"]["pandas"] == pd.__version__
        assert manifest["cpu_count"] == os.cpu_count()
        words = (platform.system(), platform.release(), platform.machine())
        assert manifest["platform"] == " ".join(words)
        assert set(manifest) == {"python", "platform", "cpu_count", "versions", "git"}
        assert str(Path.cwd()) not in json_bytes(manifest).decode()

    def test_git_state(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        assert environment_manifest()["git"] is None

        def git(*arguments: str) -> str:
            who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
            command = ["git", *who, *arguments]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout

        git("init", "-q")
        assert environment_manifest()["git"] is None
        git("commit", "-q", "--allow-empty", "-m", "first")
        commit = git("rev-parse", "HEAD").strip()
        assert environment_manifest()["git"] == {"commit": commit, "dirty": False}
        (tmp_path / "new.txt").write_text("x")
        assert environment_manifest()["git"] == {"commit": commit, "dirty": True}

    def test_without_git(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        assert environment_manifest()["git"] is None
