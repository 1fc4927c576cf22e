"""Levels with controls and decisions: shared alike, killed alike, climbed in order."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pandas as pd
import pytest
from projects import (
    PER_SPLIT,
    SPLITS,
    Project,
    clean_environment,
    counts,
    finished,
    hear_interrupts,
    stored,
)

from steering_reliability.ladder.choices import FORMAT

PROMPTS = {
    "per_split": PER_SPLIT,
    "splits": {split: f"{split}.jsonl" for split in [*SPLITS, "harm_confirm"]},
}
LAST_OF_SMOKE = "test_cell_is_complete[layer2-add-alpha2]"
CONTROLS = {"random": 2, "shuffled": 1, "reversed": True, "split": "harm_test"}
LAYERS: dict[str, Any] = {
    "run": "layer_comparison",
    "layers": [1, 2],
    "alphas": [0, 2, 4],
    "controls": CONTROLS,
    "decision": {"chooses": "layer"},
    "claims": {
        "baseline_refusal": {},
        "beats_controls": {"required": False},
        "some_layer_steers": {"required": False},
    },
}
FULL: dict[str, Any] = {
    "layers": {"from": "layer_test", "default": [2]},
    "interventions": ["add", "ablate"],
    "prompts": PROMPTS,
    "confirm": {
        "from": "alpha_sweep",
        "random": 19,
        "default": {"layer": 2, "alpha": 2},
    },
    "claims": {"beats_controls": {"split": "harm_confirm", "method": "rank", "required": False}},
}
TESTS = """
    import pytest

    pytestmark = pytest.mark.{level}


    def test_cell(steering, cell):
        assert len(steering.scores(cell)) == steering.plan.n_completions_of(cell)


    def test_control(steering, control_cell):
        assert len(steering.scores(control_cell)) == steering.plan.n_completions_of(control_cell)


    def test_beats_controls(steering, {cells}):
        steering.check("beats_controls", {cells})
"""
# Two layers, two alphas, three splits and the unsteered model; four controls of each on harm_test.
ALL = PER_SPLIT * (3 * 5 + 2 * 2 * 4)
WORKERS = pytest.mark.parametrize("workers", [(), ("-n0",), ("-n2",)], ids=["alone", "n0", "n2"])


def write_levels(project: Project) -> Project:
    project.write_prompts("harm_confirm", [f"Forge {thing}." for thing in "abcdef"])
    for level, settings, cells in (
        ("layer_test", LAYERS, "steered_cell"),
        ("full", FULL, "confirmed_cell"),
    ):
        project.write_level(level, **settings)
        tests = dedent(TESTS).lstrip().format(level=level, cells=cells)
        if level == "layer_test":
            tests += "\n\ndef test_layers(steering):\n    steering.check('some_layer_steers')\n"
        (project.experiments / f"test_{level}.py").write_text(tests, encoding="utf-8")
    return project


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Project:
    project = write_levels(Project(tmp_path_factory.mktemp("ladder") / "project", model))
    result = project.run("experiments", "-m", "layer_test")
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    assert counts(result) == (ALL, 0)
    return project


def results(levels: Project, artifacts: Path) -> list[bytes]:
    folder = levels.folder("layer_comparison", artifacts)
    return [(folder / name).read_bytes() for name in ("summary.csv", "controls.csv")]


def test_controls_are_counted_and_shown_apart(levels: Project) -> None:
    folder = levels.folder("layer_comparison")
    summary, controls = pd.read_csv(folder / "summary.csv"), pd.read_csv(folder / "controls.csv")
    assert summary.groupby(["layer", "alpha"]).size().tolist() == [3] * 6
    assert set(controls["direction"]) == {"random-1", "random-2", "shuffled-1", "reversed"}
    assert set(controls["split"]) == {"harm_test"}
    assert len(controls) == 2 * 2 * 4
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["planned"] == PER_SPLIT * 15
    assert manifest["planned_beside_grid"] == PER_SPLIT * 16
    cosines = {c["name"]: c["cosine_with_learned"] for c in manifest["controls"]}
    assert cosines["reversed"] == -1
    assert (folder / "tables" / "significance.csv").exists()
    bounds = pd.read_csv(folder / "tables" / "degenerate_bounds.csv")
    assert set(bounds["direction"]) == {"learned", *controls["direction"]}
    assert (bounds["effect_as_refusal"] - bounds["effect_as_compliance"]).to_numpy() == (
        pytest.approx(bounds["degenerate_effect"].to_numpy())
    )


@WORKERS
def test_summary_does_not_depend_on_the_workers(
    levels: Project, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    result = levels.run("experiments", "-m", "layer_test", *workers, artifacts=tmp_path)
    assert counts(result) == (ALL, 0)
    assert results(levels, tmp_path) == results(levels, levels.artifacts)


def test_k_runs_only_what_the_layer_needs(levels: Project, tmp_path: Path) -> None:
    result = levels.run("experiments", "-m", "layer_test", "-k", "layer1-", artifacts=tmp_path)
    assert counts(result) == (PER_SPLIT * (3 * 3 + 2 * 4), 0)
    assert not (tmp_path / "decisions").exists()
    result.stdout.fnmatch_lines(["*steering: layer_test*"])
    manifest = (levels.folder("layer_comparison", tmp_path) / "manifest.json").read_text("utf-8")
    assert "the level is not complete, so it decides nothing" in manifest


def test_ten_kills_lose_nothing(levels: Project, tmp_path: Path) -> None:
    """SIGKILL at ten moments: the same results in the end, and nothing stored is made again."""
    chance = random.Random(4)
    kept: dict[str, Any] = {}
    for _ in range(10):
        process = levels.start("experiments", "-m", "layer_test", artifacts=tmp_path)
        # From before the model is loaded to while completions are being stored.
        wait = chance.uniform(1.5, 6.0)
        try:
            process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if (tmp_path / "store.sqlite").exists():
            now = stored(tmp_path)
            assert {key: now[key] for key in kept} == kept
            kept = now
    last = levels.run("experiments", "-m", "layer_test", artifacts=tmp_path)
    assert counts(last) == (ALL - len(kept), len(kept))
    assert len(stored(tmp_path)) == ALL
    assert results(levels, tmp_path) == results(levels, levels.artifacts)


@WORKERS
def test_a_level_says_where_its_layer_comes_from(
    levels: Project, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    result = levels.run("experiments", "-m", "full", *workers, artifacts=tmp_path)
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    result.stdout.fnmatch_lines(
        [
            "steering: layer 2 by default: layer_test has decided nothing yet; provisional, *",
            "steering: layer2-add-alpha2 is run on fresh prompts, harm_confirm, by default: "
            "alpha_sweep has decided nothing yet*",
            "provisional: it rests on a default or a screen*",
        ]
    )
    manifest = json.loads((levels.folder("full", tmp_path) / "manifest.json").read_text("utf-8"))
    assert manifest["provisional"] is True
    assert manifest["vectors_tried"] == 1
    assert (tmp_path / "decisions" / "ledger.jsonl").exists()
    controls = pd.read_csv(levels.folder("full", tmp_path) / "controls.csv")
    assert len(controls) == 19
    assert set(controls["split"]) == {"harm_confirm"}


def test_a_decision_on_other_weights_is_refused_in_one_line(levels: Project) -> None:
    from steering_reliability.ladder.choices import profile_digest
    from steering_reliability.ladder.plan import Overrides, plan_level

    plan = plan_level(levels.config("layer_test"), Overrides(model=str(levels.model)))
    artifacts = levels.root / "other_weights"
    record = {
        "format": FORMAT,
        "level": "layer_test",
        "model": {
            "name": plan.profile.name,
            "fingerprint": "0" * 64,
            "n_layers": plan.facts.n_layers,
            "d_model": plan.facts.d_model,
        },
        "profile": profile_digest(plan.profile),
        "provisional": False,
        "layer": {"chosen": {"layer": 1}, "reason": "so it was"},
    }
    (artifacts / "decisions").mkdir(parents=True)
    (artifacts / "decisions" / "layer_test.json").write_text(json.dumps(record), "utf-8")
    result = levels.run("experiments", "-m", "full", "-x", artifacts=artifacts)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "steering: layer 1, decided by layer_test: so it was",
            "level full: it goes on from a decision that was made on other weights (fingerprint "
            "000000000000, *run the earlier levels again*",
        ]
    )
    assert "Traceback" not in result.stdout.str()


def test_operating_points_are_ranked_for_what_they_were_chosen_for(
    levels: Project, tmp_path: Path
) -> None:
    from steering_reliability.ladder.choices import profile_digest
    from steering_reliability.ladder.plan import Overrides, plan_level

    plan = plan_level(levels.config("full"), Overrides(model=str(levels.model)))
    made = json.loads((levels.folder("layer_comparison") / "manifest.json").read_text("utf-8"))
    point = {
        "layer": 2,
        "alpha": 2.0,
        "effect": 0.1,
        "effect_low": 0,
        "effect_high": 1,
        "n_harm": 6,
    }
    chosen = {
        "raise": {"chosen": point | {"goal": "raise", "intervention": "ablate"}},
        "lower": {"chosen": point | {"goal": "lower", "intervention": "add"}},
    }
    record = {
        "format": FORMAT,
        "level": "alpha_sweep",
        "model": {**made["model"], "name": plan.profile.name},
        "profile": profile_digest(plan.profile),
        "provisional": False,
        "operating_points": chosen,
    }
    (tmp_path / "decisions").mkdir()
    (tmp_path / "decisions" / "alpha_sweep.json").write_text(json.dumps(record), encoding="utf-8")
    result = levels.run("experiments", "-m", "full", artifacts=tmp_path)
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    folder = levels.folder("full", tmp_path)
    verdicts = json.loads((folder / "verdicts.json").read_text("utf-8"))
    found = {v["target"]: (v["details"]["goal"], v["message"]) for v in verdicts}
    assert {target: goal for target, (goal, _) in found.items()} == {
        "layer2-add-alpha2-to-lower": "lower",
        "layer2-ablate-alpha2-to-raise": "raise",
    }
    for goal, message in found.values():
        moves = "raising" if goal == "raise" else "lowering"
        assert f"chosen to {goal} refusal; lead in {moves} refusal on harm_confirm" in message
    controls = pd.read_csv(folder / "controls.csv")
    assert controls.groupby("intervention_type").size().to_dict() == {"ablate": 19, "add": 19}
    table = pd.read_csv(folder / "tables" / "significance.csv")
    against = table[table["against"] == "random"]
    assert dict(zip(against["intervention_type"], against["goal"], strict=True)) == {
        "add": "lower",
        "ablate": "raise",
    }


def climb(project: Project, *arguments: str, artifacts: Path) -> pytest.RunResult:
    started = time.monotonic()
    return finished(start_climb(project, *arguments, artifacts=artifacts), started)


def start_climb(
    project: Project, *arguments: str, artifacts: Path, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    code = "import sys; from steering_reliability.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [
            *(sys.executable, "-c", code, "ladder", "experiments"),
            *(f"--model={project.model}", f"--artifacts={artifacts}", *arguments),
        ],
        cwd=project.root,
        env=clean_environment(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hear_interrupts,
    )


def test_the_ladder_is_climbed_in_order(levels: Project, tmp_path: Path) -> None:
    # Nobody runs alpha_sweep here: full says so, and comes last all the same.
    result = climb(levels, "--", "-q", artifacts=tmp_path)
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    result.stdout.fnmatch_lines(
        [
            "ladder: smoke took *",
            "ladder: next: layer_test, * completions, * to generate, about * min",
            "ladder: layer_test took *",
            "ladder: choice of a layer: no cell qualifies to raise refusal; with the prompts drawn "
            "anew 200 times it would be nothing in 100%",
            "ladder: next: full, *",
            "ladder: full took *",
            "ladder: layer2-add-alpha2 to raise refusal: run again on fresh prompts (harm_confirm*",
            "ladder: provisional: *",
        ]
    )
    plan = climb(levels, "--plan", "--from", "layer_test", artifacts=tmp_path)
    plan.stdout.fnmatch_lines(["layer_test *, 0 to generate, *", "full *, 0 to generate, *"])


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_level_that_fails_stops_the_ladder(
    levels: Project, tmp_path: Path, keep_going: bool
) -> None:
    strict = ("--", "--steer-inconclusive=fail", "-k", "baseline or beats", "-q")
    options = ("--keep-going",) if keep_going else ()
    result = climb(levels, "--to", "layer_test", *options, *strict, artifacts=tmp_path)
    assert result.ret == 1
    text = result.stdout.str()
    assert ("ladder: layer_test took" in text) == keep_going
    stopped = "ladder: smoke did not pass, so layer_test did not run; --keep-going climbs on"
    assert (stopped in text) != keep_going


def test_interrupting_the_ladder_lets_the_level_write_its_results(
    levels: Project, tmp_path: Path
) -> None:
    reached, artifacts = tmp_path / "reached", tmp_path / "artifacts"
    process = start_climb(
        levels, artifacts=artifacts, environment={"TEST_DISASTER": f"{reached} {LAST_OF_SMOKE}"}
    )
    while not reached.exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    result = finished(process)
    assert result.ret == pytest.ExitCode.INTERRUPTED, f"{result.stdout}{result.stderr}"
    assert "Traceback" not in f"{result.stdout}{result.stderr}"
    assert (artifacts / "tables" / "summary.csv").exists()
    assert "smoke did not pass, so layer_test, full did not run" in result.stdout.str()


def test_a_level_tells_what_a_screen_would_have_picked(tmp_path: Path, model: Path) -> None:
    project = Project(tmp_path / "project", model)
    for split, verb in (("harm_train", "Steal"), ("benign", "Draw")):
        project.write_prompts(split, [f"{verb} {thing}." for thing in "abcdefghijkl"])
    asked = {"chooses": "layer", "screen": 5}
    learn = {"learn_from": {"split": "harm_train", "last": 4}}
    changes = {**LAYERS, "decision": asked, "direction": learn}
    write_level_with(project, changes)
    for _ in range(2):
        result = project.run("experiments", "-m", "layer_test")
        assert result.ret == 0, f"{result.stdout}{result.stderr}"
        result.stdout.fnmatch_lines(["*would have picked layer *"])
    folder = project.folder("layer_comparison")
    screened = json.loads((folder / "decisions.json").read_text(encoding="utf-8"))["screen"]
    assert {row["layer"] for row in screened} == {1, 2}
    assert screened == sorted(screened, key=lambda row: -row["score"])
    assert "would have picked layer" in (folder / "report.html").read_text(encoding="utf-8")
    kept = list((project.artifacts / "directions").glob("screen-*.json"))
    assert len(kept) == 1

    changes["decision"] = {"chooses": "layer", "screen": 5}
    changes["direction"] = {"learn_from": {"split": "harm_train", "last": 12}}
    write_level_with(project, changes)
    refused = project.run("experiments", "-m", "layer_test")
    assert refused.ret != 0
    assert "decision.screen: found 0 unseen prompts of harm_train" in f"{refused.stdout}"


def write_level_with(project: Project, changes: dict[str, Any]) -> None:
    project.write_level("layer_test", **changes)
    tests = dedent(TESTS).lstrip().format(level="layer_test", cells="steered_cell")
    (project.experiments / "test_layer_test.py").write_text(tests, encoding="utf-8")
