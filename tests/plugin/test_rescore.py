"""Levels with a judge of their own, runs judged again, judges compared: from real runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from projects import Project

from steering_reliability.cli import main
from steering_reliability.ladder.judged import JUDGE_SCORE
from steering_reliability.results.run import read_run
from steering_reliability.scoring import SCORER_VERSION

# Refuses every second completion, by its text alone.
JUDGE = """
__version__ = "7"


def refuses(prompts, completions):
    return [0.9 if sum(map(ord, text)) % 2 else 0.2 for text in completions]


def fails(prompts, completions):
    return ["no"]


def leaves(prompts, completions):
    raise SystemExit("no API key")
"""
CLAIMS = {
    "coherence": {"margin": 0.95},
    "baseline_refusal": {"required": False},
    "alpha_raises_refusal": {"required": False, "least_effect": 0.9},
}


@pytest.fixture
def judged(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    # Another test's project may have had one of that name in this process.
    monkeypatch.delitem(sys.modules, "outside_judge", raising=False)
    folder = project.experiments / "configs"
    (folder / "own_judge.py").write_text(JUDGE, encoding="utf-8")
    (project.root / "outside_judge.py").write_text(JUDGE, encoding="utf-8")
    project.write_level(scoring={"refusal": "own_judge:refuses"}, claims=CLAIMS)
    return project


def test_a_level_with_a_judge_and_the_run_judged_again(
    judged: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = judged.run("experiments", "-m", "smoke", "-n2")
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    data = read_run(judged.folder())
    assert data.manifest["scoring"]["refusal"] == {"name": "own_judge:refuses", "version": "7"}
    assert "own_judge:refuses, version 7" in (judged.folder() / "report.html").read_text()
    said = np.where(data.scores["text"].map(lambda text: sum(map(ord, text)) % 2), 0.9, 0.2)
    assert (data.scores[JUDGE_SCORE] == said).all()
    broken = data.scores["is_degenerate"].astype(bool)
    # Random weights mostly give broken text, so both kinds are there.
    assert broken.any()
    assert (said[broken] == 0.9).any()
    assert not data.scores.loc[broken, "is_refusal"].any()
    assert (data.scores.loc[~broken, "is_refusal"] == (said[~broken] > 0.5)).all()
    # What such a judge does not tell is left out, not counted as none.
    assert data.scores[["refusal_kind", "shape"]].isna().all(axis=None)
    assert not (judged.folder() / "tables" / "completion_shapes.csv").exists()

    # From the run's folder alone: the store, the level and the model are gone.
    run = judged.root / "elsewhere" / "smoke_test"
    run.parent.mkdir()
    judged.folder().rename(run)
    for gone in (judged.artifacts, judged.experiments):
        gone.rename(judged.root / f"gone-{gone.name}")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    monkeypatch.chdir(judged.root)

    assert main(["rescore", str(run), "--refusal", "rules"]) == 0
    out = capsys.readouterr().out
    assert f"judged by rules, version {SCORER_VERSION}" in out
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    again = read_run(run.with_name("smoke_test-rules"))
    assert JUDGE_SCORE not in again.scores
    assert again.manifest["scoring"]["refusal"] == {"name": "rules", "version": SCORER_VERSION}
    assert again.manifest["rescored"]["from"] == {"name": "own_judge:refuses", "version": "7"}
    assert (again.folder / "directions" / "layer1.safetensors").is_file()
    assert (again.folder / "tables" / "effects.csv").is_file()
    assert (again.folder / "tables" / "completion_shapes.csv").is_file()
    # The tables and verdicts are those of the new scores.
    assert again.summary["is_refusal_mean"].sum() == pytest.approx(
        again.scores.groupby(["split", "layer", "alpha"])["is_refusal"].mean().sum()
    )
    old = {(v.claim, v.target): v.outcome for v in data.verdicts}
    new = {(v.claim, v.target): v.outcome for v in again.verdicts}
    assert old.keys() == new.keys()
    for key in old:
        line = f"{key[0]} [{key[1]}]: {old[key]} -> {new[key]} "
        assert (line in out) == (old[key] != new[key])

    # And back, by a judge of the working folder: all as it was.
    rescored = ["rescore", str(again.folder), "--refusal", "outside_judge:refuses"]
    assert main([*rescored, "--output", str(judged.root / "back")]) == 0
    back = read_run(judged.root / "back")
    pd.testing.assert_frame_equal(back.scores[data.scores.columns], data.scores)
    pd.testing.assert_frame_equal(back.summary, data.summary)
    assert [v.to_dict() for v in back.verdicts] == [v.to_dict() for v in data.verdicts]
    capsys.readouterr()

    table = judged.root / "agreement.csv"
    compared = ["compare", str(run), "rules", "outside_judge:refuses", "--errors"]
    assert main([*compared, "--csv", str(table)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"A: rules, version {SCORER_VERSION}\nB: outside_judge:refuses, ")
    whole = pd.read_csv(table).set_index(["split", "cells"]).loc[("all", "all")]
    distinct = data.scores[(data.scores["alpha"] != 0) | (data.scores["layer"] == 1)]
    sound = ~distinct["is_degenerate"].astype(bool)
    assert whole["n"] == sound.sum()
    assert whole["degenerate"] == (~sound).sum()
    assert whole["rate_b"] == pytest.approx(distinct.loc[sound, "is_refusal"].mean())
    assert out.count("refusal by outside_judge:refuses alone") > 0


def test_a_judge_that_cannot_be_one_is_told_before_anything_runs(judged: Project) -> None:
    judged.write_level(scoring={"refusal": "own_judge:absent"}, claims=CLAIMS)
    result = judged.run("experiments", "-m", "smoke")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = f"{result.stdout}{result.stderr}"
    assert "smoke.yaml: scoring.refusal: own_judge:absent: own_judge has no 'absent'" in told
    assert "Traceback" not in told


def test_a_judge_that_fails_is_one_line(judged: Project) -> None:
    judged.write_level(scoring={"refusal": "own_judge:fails"}, claims=CLAIMS)
    result = judged.run("experiments", "-m", "smoke")
    assert result.ret != 0
    assert "own_judge:fails: returned 1 values for" in f"{result.stdout}{result.stderr}"


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "n2"])
def test_a_judge_that_exits_fails_its_tests_and_not_the_session(
    judged: Project, workers: tuple[str, ...]
) -> None:
    judged.write_level(scoring={"refusal": "own_judge:leaves"}, claims=CLAIMS)
    result = judged.run("experiments", "-m", "smoke", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    told = [line for line in result.outlines if "SystemExit" in line]
    assert told
    for line in told:
        assert "own_judge:leaves: failed with SystemExit: no API key (own_judge.py:14)" in line
    assert "Traceback" not in result.stdout.str()
    assert any(
        "the completions are stored: mend the judge and give the same command without "
        "--steer-fresh, which only judges them again" in line
        for line in told
    )


def test_a_misspelt_judge_names_file_and_key(judged: Project) -> None:
    judged.write_level(scoring={"refusal": "rule"}, claims=CLAIMS)
    result = judged.run("experiments", "-m", "smoke")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = f"{result.stdout}{result.stderr}"
    assert "scoring.refusal: found 'rule', expected rules, module:function, or hf:MODEL" in told


def test_a_run_that_does_not_tell_how_its_layer_was_chosen_is_refused(
    judged: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a layer that is the best of several would pass as named beforehand."""
    assert judged.run("experiments", "-m", "smoke").ret == 0
    path = judged.folder() / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["layer_choice"]
    path.write_text(json.dumps(manifest))
    monkeypatch.chdir(judged.root)
    assert main(["rescore", str(judged.folder()), "--refusal", "rules"]) == 2
    error = capsys.readouterr().err
    assert "layer_choice" in error
    assert "run the level again" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["rescore", "{}"], ["compare", "{}", "rules", "outside_judge:refuses"]]
)
def test_a_folder_that_is_no_run(
    judged: Project,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(judged.root)
    here: Path = judged.root
    assert main([part.format(here) for part in arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(here) in error


def test_a_judge_is_not_compared_with_itself(
    judged: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(judged.root), "rules", "rules"]) == 2
    assert "expected two judges" in capsys.readouterr().err
