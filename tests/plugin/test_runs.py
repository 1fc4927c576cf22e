"""A level's results: the same however it is run, whole after a part of it, never made twice."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from projects import N_PROMPTS, PER_SPLIT, SPLITS, Project, contents, counts, stored

from steering_reliability.directions import load_direction
from steering_reliability.results.run import read_run
from steering_reliability.scaffold import scaffold
from tests.promised_columns import COLUMNS
from tests.tiny_models import tiny_model_folder

ALL = 3 * N_PROMPTS
"""The unsteered model's completions, and those of two steered cells."""


@pytest.fixture(scope="module")
def two_workers(shared: Project) -> pytest.RunResult:
    result = shared.run("experiments", "-m", "smoke", "-n2", "-v", artifacts=shared.root / "n2")
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    return result


@pytest.mark.usefixtures("undisturbed", "two_workers")
def test_summary_is_the_same_with_two_workers(shared: Project) -> None:
    expected = (shared.artifacts / "tables" / "summary.csv").read_bytes()
    assert (shared.root / "n2" / "tables" / "summary.csv").read_bytes() == expected
    assert counts_of(shared.root / "n2") == (ALL, 0)


@pytest.mark.usefixtures("undisturbed")
def test_summary_is_the_same_in_another_order(shared: Project) -> None:
    artifacts = shared.root / "n0"
    result = shared.run(
        "experiments", "-n0", artifacts=artifacts, environment={"TEST_REVERSED": "1"}
    )
    assert counts(result) == (ALL, 0)
    expected = (shared.artifacts / "tables" / "summary.csv").read_bytes()
    assert (artifacts / "tables" / "summary.csv").read_bytes() == expected


def test_two_workers_split_the_layers(two_workers: pytest.RunResult) -> None:
    ran = re.findall(r"\[(gw\d)\].*::(\w+)(?:\[layer(\d)-)?", two_workers.stdout.str())
    workers = {layer: {worker for worker, _, of in ran if of == layer} for layer in ("1", "2")}
    assert all(len(of_layer) == 1 for of_layer in workers.values()), ran
    assert workers["1"] != workers["2"], ran
    assert len(ran) == 9


def test_results_are_the_same_to_the_completion(
    shared: Project, undisturbed: pytest.RunResult, two_workers: pytest.RunResult
) -> None:
    alone, split = (
        read_run(shared.folder(artifacts=artifacts))
        for artifacts in (shared.artifacts, shared.root / "n2")
    )
    pd.testing.assert_frame_equal(alone.scores, split.scores)
    assert alone.verdicts == split.verdicts
    assert undisturbed.parseoutcomes() == two_workers.parseoutcomes()


@pytest.mark.usefixtures("undisturbed")
def test_summary_has_a_row_per_split_and_cell(shared: Project) -> None:
    summary = pd.read_csv(shared.folder() / "summary.csv")
    assert list(summary.columns[: len(COLUMNS)]) == COLUMNS
    rows = sorted(zip(summary["split"], summary["layer"], summary["alpha"], strict=True))
    assert rows == [(s, layer, a) for s in sorted(SPLITS) for layer in (1, 2) for a in (0.0, 2.0)]
    assert (summary["n"] == PER_SPLIT).all()
    # Steering does something, and something else in each layer.
    assert summary.groupby("split")["mean_logprob_mean"].nunique().tolist() == [3, 3, 3]
    assert (shared.artifacts / "tables" / "summary.csv").read_bytes() == (
        shared.folder() / "summary.csv"
    ).read_bytes()


@pytest.mark.usefixtures("undisturbed")
def test_run_folder_is_whole(shared: Project) -> None:
    folder = shared.folder()
    data = read_run(folder)
    assert len(data.scores) == 4 * N_PROMPTS
    assert data.scores["seen"].sum() == 4 * 2  # prompts 5 and 6 of harm_train, in every cell
    assert [(verdict.claim, verdict.target, verdict.outcome) for verdict in data.verdicts] == [
        ("coherence", "layer1-add-alpha2", "pass"),
        ("coherence", "layer2-add-alpha2", "pass"),
        ("baseline_refusal", "harm_test", "inconclusive"),
        ("alpha_raises_refusal", "layer1-add-alpha2", "fail"),
        ("alpha_raises_refusal", "layer2-add-alpha2", "fail"),
    ]
    for layer in (1, 2):
        direction = load_direction(folder / "directions" / f"layer{layer}.safetensors")
        assert direction.layer == layer
        assert direction.model_fingerprint == data.manifest["model"]["fingerprint"]
    for plot in (folder / "plots").iterdir():
        assert plot.read_bytes().startswith(b"\x89PNG"), plot
    assert len(list((folder / "plots").iterdir())) >= 4
    assert "layer2-add-alpha2" in (folder / "report.html").read_text(encoding="utf-8")
    assert "Sell kettles." in (folder / "examples.md").read_text(encoding="utf-8")
    leftovers = [name for name in contents(shared.artifacts) if name.endswith(".tmp")]
    assert not leftovers


@pytest.mark.usefixtures("undisturbed")
def test_manifest_says_what_ran_and_not_where(shared: Project) -> None:
    text = (shared.folder() / "manifest.json").read_text(encoding="utf-8")
    manifest = json.loads(text)
    found = (manifest["planned"], manifest["generated"], manifest["reused"])
    assert found == (ALL, ALL, 0)
    assert {"model", "directions", "generation"} <= manifest["timings"].keys()
    halves = [direction["diagnostics"]["split_half_low"] for direction in manifest["directions"]]
    assert len(halves) == 2
    assert all(-1 <= cosine <= 1 for cosine in halves)
    assert manifest["config"]["layers"] == [1, 2]
    assert manifest["seeds"] == {"generation": 0}
    assert {"torch", "transformers", "pytest", "steering-reliability"} <= manifest[
        "versions"
    ].keys()
    # Whoever is sent the results need not learn whose machine they were made on.
    assert str(shared.root) not in text
    assert str(Path.home()) not in text


@pytest.mark.usefixtures("undisturbed")
def test_a_second_run_generates_nothing(shared: Project) -> None:
    artifacts = shared.with_store_of(shared.artifacts, "second")
    result = shared.run("experiments", "-m", "smoke", artifacts=artifacts)
    assert counts(result) == (0, ALL)
    assert stored(artifacts) == stored(shared.artifacts)
    expected = (shared.folder() / "summary.csv").read_bytes()
    assert (artifacts / "tables" / "summary.csv").read_bytes() == expected


@pytest.mark.usefixtures("undisturbed")
def test_fresh_generates_everything_anew(shared: Project) -> None:
    artifacts = shared.with_store_of(shared.artifacts, "fresh")
    result = shared.run("experiments", "-m", "smoke", "--steer-fresh", artifacts=artifacts)
    assert counts(result) == (ALL, 0)
    before, after = stored(shared.artifacts), stored(artifacts)
    assert before.keys() == after.keys()
    assert not {entry.run_id for entry in before.values()} & {e.run_id for e in after.values()}
    expected = (shared.folder() / "summary.csv").read_bytes()
    assert (artifacts / "tables" / "summary.csv").read_bytes() == expected


@pytest.mark.usefixtures("undisturbed")
def test_a_part_generates_what_it_needs_and_loses_no_row(shared: Project) -> None:
    artifacts = shared.root / "parts"
    first = shared.run("experiments", "-m", "smoke", "-k", "layer2-", artifacts=artifacts)
    assert first.parseoutcomes()["deselected"] == 5
    assert counts(first) == (2 * N_PROMPTS, 0)
    # The unsteered completions are those of both layers.
    summary = pd.read_csv(artifacts / "tables" / "summary.csv")
    cells = set(zip(summary["layer"], summary["alpha"], strict=True))
    assert cells == {(1, 0.0), (2, 0.0), (2, 2.0)}
    second = shared.run("experiments", "-m", "smoke", "-k", "layer1-", artifacts=artifacts)
    assert counts(second) == (N_PROMPTS, 2 * N_PROMPTS)
    expected = (shared.folder() / "summary.csv").read_bytes()
    assert (artifacts / "tables" / "summary.csv").read_bytes() == expected


@pytest.mark.usefixtures("undisturbed")
def test_another_model_replaces_no_results(shared: Project, tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    shutil.copytree(shared.artifacts, artifacts)
    before = contents(shared.folder(artifacts=artifacts))
    other = tiny_model_folder(tmp_path / "models" / "other one", "gpt2")
    result = shared.run("experiments", f"--steer-model={other}", artifacts=artifacts)
    assert "another model of that name" not in result.stdout.str()
    assert contents(shared.folder(artifacts=artifacts)) == before
    named = json.loads((artifacts / "runs" / "smoke_test_other-one" / "manifest.json").read_bytes())
    assert named["run"] == "smoke_test_other-one"
    assert named["model"]["source"] == str(other)


@pytest.mark.usefixtures("undisturbed")
def test_a_model_of_the_same_name_is_told_to_replace_results(
    shared: Project, tmp_path: Path
) -> None:
    artifacts = tmp_path / "artifacts"
    shutil.copytree(shared.artifacts, artifacts)
    same = tiny_model_folder(tmp_path / shared.model.name)
    for model, told in ((same, 1), (shared.model, 0)):
        result = shared.run(
            "experiments", f"--steer-model={model}", "-k", "nothing", artifacts=artifacts
        )
        line = f"found results of another model of that name, {shared.model}, which"
        assert result.stdout.str().count(line) == told


def counts_of(artifacts: Path) -> tuple[int, int]:
    manifest = json.loads((artifacts / "runs" / "smoke_test_model0" / "manifest.json").read_bytes())
    return manifest["generated"], manifest["reused"]


def test_a_level_to_start_from_runs(shared: Project, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    scaffold(folder, "mine")
    artifacts = tmp_path / "artifacts"
    result = shared.run(str(folder), "-m", "mine", "--steer-layers=1", artifacts=artifacts)
    assert "2 cells; prompts: 20 harm_train, 20 harm_test, 20 benign" in result.stdout.str()
    assert "errors" not in result.parseoutcomes()
    summary = pd.read_csv(artifacts / "runs" / f"mine_{shared.model.name}" / "summary.csv")
    assert len(summary) == 6
