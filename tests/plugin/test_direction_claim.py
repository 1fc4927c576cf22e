"""The claim about the direction itself, in runs that learn one and in runs that load one."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import torch
from projects import Project

import steering_reliability as sr
from benchmarks.recompute import __main__ as recompute

TEST = """

def test_direction_is_real(steering, series):
    steering.check("direction_is_real", series=series)
"""
CLAIMS: dict[str, Any] = {"direction_is_real": {"required": False}, "coherence": {"margin": 0.95}}


def run(project: Project, **changes: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    project.write_level(claims={**CLAIMS, **changes.pop("claims", {})}, **changes)
    path = project.experiments / "test_smoke.py"
    kept = path.read_text(encoding="utf-8").partition("def test_baseline_refusal")[0]
    path.write_text(kept.rstrip() + "\n" + TEST, encoding="utf-8")
    result = project.run("experiments", "-m", "smoke")
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    folder = project.folder()
    verdicts = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return manifest, [v for v in verdicts if v["claim"] == "direction_is_real"]


def test_a_learned_direction_and_the_same_from_its_file(project: Project) -> None:
    project.write_prompts("benign_train", ["Bake bread.", "Plant a tree."])
    learn_from = {"split": "harm_train", "last": 4}
    learned = {"learn_from": learn_from, "benign_contrast": "benign_train.jsonl"}
    manifest, verdicts = run(project, direction=learned, interventions=["add", "ablate"])
    assert [v["target"] for v in verdicts] == ["layer1", "layer2"]
    for direction in manifest["directions"]:
        numbers = direction["diagnostics"]
        assert 0 <= numbers["benign_share"] <= 1
        assert 0 <= numbers["left_out_auc"] <= 1
        assert -1 < numbers["placebo_agreement"] < 1
    report = (project.folder() / "report.html").read_text(encoding="utf-8")
    assert "95% of placebo pairs" in report
    assert "left-out AUC" in report
    by_length = pd.read_csv(project.folder() / "tables" / "prefix_claims.csv")
    of_claim = by_length[by_length["claim"] == "direction_is_real"]
    assert of_claim.groupby("target").size().tolist() == [3, 3]
    assert not of_claim["changed"].any()

    for direction in manifest["directions"]:
        source = project.folder() / "directions" / f"layer{direction['layer']}.safetensors"
        (project.experiments / "configs" / source.name).write_bytes(source.read_bytes())
    loaded = {"file": "layer{layer}.safetensors", "learn_from": learn_from}
    _, again = run(project, direction=loaded)
    assert [v["outcome"] for v in again] == [v["outcome"] for v in verdicts]
    assert [v["estimate"] for v in again] == [v["estimate"] for v in verdicts]


def test_controls_of_the_level_have_their_part(project: Project) -> None:
    controls = {"random": 2, "split": "harm_test"}
    manifest, verdicts = run(project, controls=controls, claims={"beats_controls": {}})
    assert [v["details"]["beats_controls"] for v in verdicts] != ["unknown", "unknown"]
    assert all("placebo_agreement" in d["diagnostics"] for d in manifest["directions"])
    assert all("benign_share" not in d["diagnostics"] for d in manifest["directions"])
    # The second implementation knows of directions and controls what the run's files tell.
    assert recompute.main([str(project.folder())]) == 0


def test_an_imported_vector_is_decided_by_its_controls(project: Project) -> None:
    prompts = sr.load_prompts(project.prompts / "harm_train.jsonl")
    model = sr.load_model(str(project.model), device="cpu")
    vector = torch.linspace(-1, 2, model.d_model)
    for layer in (1, 2):
        direction = sr.import_direction(model, vector, layer=layer, prompts=prompts)
        path = project.experiments / "configs" / f"layer{layer}.safetensors"
        sr.save_direction(direction, path)
    saved = {"file": "layer{layer}.safetensors"}
    manifest, verdicts = run(project, direction=saved)
    assert [direction["method"] for direction in manifest["directions"]] == ["imported"] * 2
    assert all(direction["pairs"] == [] for direction in manifest["directions"])
    assert [v["outcome"] for v in verdicts] == ["inconclusive"] * 2
    assert all(v["details"]["agreement_of_pairs"] == "unknown" for v in verdicts)
    assert "imported" in (project.folder() / "report.html").read_text(encoding="utf-8")

    controls = {"random": 2, "split": "harm_test"}
    _, verdicts = run(project, direction=saved, controls=controls, claims={"beats_controls": {}})
    assert all(v["details"]["agreement_of_pairs"] == "unknown" for v in verdicts)
    assert all(v["outcome"] == v["details"]["beats_controls"] for v in verdicts)
    assert recompute.main([str(project.folder())]) == 0
