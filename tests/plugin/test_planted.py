"""The suite over a model whose truth is known: it finds what was planted, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from textwrap import dedent
from typing import Any

import pytest
import torch
import yaml
from projects import Project

from steering_reliability.directions import load_direction, save_direction
from steering_reliability.directions.direction import Direction
from tests.planted_model import (
    PAIRS,
    PLANTED_LAYER,
    planted_direction,
    planted_model_folder,
    planted_prompts,
)

LAYERS = [PLANTED_LAYER - 1, PLANTED_LAYER, PLANTED_LAYER + 1]
PER_SPLIT = 80
PLANTED = f"layer{PLANTED_LAYER}-add-alpha"
FOUND: dict[str, Any] = {
    "layers": LAYERS,
    "interventions": ["add", "ablate"],
    "alphas": [-2, 0, 1, 2, 4],
    "prompts": {
        "per_split": PER_SPLIT,
        "splits": {split: f"{split}.jsonl" for split in ("harm_train", "harm_test", "benign")},
    },
    "direction": {
        "learn_from": {"split": "harm_train", "last": 16},
        "pairs": [{"refusal": refusal, "compliance": answer} for refusal, answer in PAIRS],
    },
    "generation": {"max_new_tokens": 6, "slots": 64},
    "controls": {"random": 3, "alphas": [2, 4], "split": "harm_test"},
    "decision": {"chooses": "layer"},
    "claims": {
        "baseline_refusal": {},
        "some_layer_steers": {},
        # Alpha -2 is among them: that it raises refusal is false at every layer.
        "alpha_raises_refusal": {"alphas": [-2, 2, 4], "required": False},
        "alpha_monotonicity": {"alphas": [1, 2, 4], "required": False},
        "benign_side_effect": {"alphas": [2, 4], "required": False},
        "coherence": {"alphas": [2, 4], "required": False},
        "beats_controls": {"required": False},
        "ablation_effect": {"required": False},
        "direction_is_real": {"required": False},
    },
}
RANDOM = FOUND | {
    "layers": [PLANTED_LAYER],
    "direction": {"file": "random-{layer}.safetensors"},
    "claims": FOUND["claims"] | {"alpha_raises_refusal": {"alphas": [2, 4], "required": False}},
}
TESTS = """
    import pytest

    pytestmark = pytest.mark.{level}


    def test_cell(steering, cell):
        steering.scores(cell)


    def test_control(steering, control_cell):
        steering.scores(control_cell)


    def test_layers(steering):
        steering.check("some_layer_steers")
"""


def write(project: Project, level: str, settings: dict[str, Any]) -> None:
    project.write_level(level, **settings)
    tests = dedent(TESTS).lstrip().format(level=level)
    (project.experiments / f"test_{level}.py").write_text(tests, encoding="utf-8")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Project:
    model = planted_model_folder(tmp_path_factory.mktemp("planted") / "planted")
    project = Project(tmp_path_factory.mktemp("truth") / "project", model)
    for split, texts in planted_prompts().items():
        project.write_prompts(split, texts)
    profiles = project.experiments / "configs" / "models"
    profiles.mkdir()
    profile = {"name": "planted", "source": str(model), "alpha_unit": 0.0015}
    (profiles / "planted.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    write(project, "layer_test", FOUND)
    result = project.run("experiments", "-m", "layer_test", "--steer-model=planted")
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    return project


@pytest.fixture(scope="module")
def verdicts(planted: Project) -> dict[tuple[str, str], dict[str, Any]]:
    return read_verdicts(planted, "layer_test")


def read_verdicts(project: Project, run: str) -> dict[tuple[str, str], dict[str, Any]]:
    """A run's verdicts by claim and what it is about."""
    records = json.loads((project.folder(run) / "verdicts.json").read_text(encoding="utf-8"))
    return {(one["claim"], one["target"]): one for one in records}


@pytest.fixture(scope="module")
def learned(planted: Project) -> dict[int, Direction]:
    """What the run learned, by layer."""
    files = (planted.artifacts / "directions").glob("*.safetensors")
    found = [load_direction(file) for file in files if "contrasts" not in file.name]
    return {direction.layer: direction for direction in found}


def test_the_planted_layer_is_decided_on(planted: Project) -> None:
    path = planted.artifacts / "decisions" / "layer_test.json"
    decided = json.loads(path.read_text(encoding="utf-8"))["layer"]
    assert decided["chosen"]["layer"] == PLANTED_LAYER
    assert decided["resamples"]["layers"] == {str(PLANTED_LAYER): 1}
    assert decided["resamples"]["nothing"] == 0


def test_the_learned_direction_is_the_planted_one(learned: dict[int, Direction]) -> None:
    cosine = float(learned[PLANTED_LAYER].vector @ planted_direction())
    assert cosine > 0.95
    before = float(learned[PLANTED_LAYER - 1].vector @ planted_direction())
    assert abs(before) < 0.05


def test_what_is_true_passes(verdicts: dict[tuple[str, str], dict[str, Any]]) -> None:
    true = [("baseline_refusal", "harm_test"), ("some_layer_steers", "all-layers")]
    true += [("alpha_raises_refusal", f"{PLANTED}{alpha}") for alpha in (2, 4)]
    true += [("beats_controls", f"{PLANTED}{alpha}") for alpha in (2, 4)]
    true += [("benign_side_effect", f"{PLANTED}{alpha}") for alpha in (2, 4)]
    true += [("alpha_monotonicity", f"layer{PLANTED_LAYER}-add")]
    true += [("ablation_effect", f"layer{PLANTED_LAYER}-ablate-alpha1")]
    true += [("direction_is_real", f"layer{PLANTED_LAYER}")]
    assert {claim: verdicts[claim]["outcome"] for claim in true} == dict.fromkeys(true, "pass")
    rises = [verdicts["alpha_raises_refusal", f"{PLANTED}{a}"]["estimate"] for a in (-2, 2, 4)]
    assert rises == sorted(rises)
    assert rises[0] < 0 < rises[1] < rises[2]


def test_what_is_false_fails(verdicts: dict[tuple[str, str], dict[str, Any]]) -> None:
    wrong = [layer for layer in LAYERS if layer != PLANTED_LAYER]
    false = [("alpha_raises_refusal", f"{PLANTED}-2")]
    for layer in wrong:
        false += [
            (claim, f"layer{layer}-add-alpha{alpha}")
            for claim in ("alpha_raises_refusal", "beats_controls")
            for alpha in (2, 4)
        ]
        false += [("ablation_effect", f"layer{layer}-ablate-alpha1")]
        # Its pairs agree, for a text is a text there too; nothing reads what it writes.
        false += [("direction_is_real", f"layer{layer}")]
        assert verdicts[false[-1]]["details"]["agreement_of_pairs"] == "pass"
    assert {claim: verdicts[claim]["outcome"] for claim in false} == dict.fromkeys(false, "fail")


def test_a_random_direction_is_called_one_by_its_controls(
    planted: Project, learned: dict[int, Direction]
) -> None:
    random = torch.Generator().manual_seed(5)
    true = learned[PLANTED_LAYER]
    vector = torch.randn(true.d_model, generator=random)
    path = planted.experiments / "configs" / f"random-{PLANTED_LAYER}.safetensors"
    save_direction(replace(true, vector=vector / vector.norm()), path)
    write(planted, "guess", RANDOM)
    result = planted.run("experiments", "-m", "guess", "--steer-model=planted")
    # That some layer steers is required, and false.
    assert result.ret == 1, f"{result.stdout}{result.stderr}"
    found = read_verdicts(planted, "guess")
    false = [("some_layer_steers", "all-layers"), ("direction_is_real", f"layer{PLANTED_LAYER}")]
    for claim in ("alpha_raises_refusal", "beats_controls"):
        false += [(claim, f"{PLANTED}{alpha}") for alpha in (2, 4)]
    assert {claim: found[claim]["outcome"] for claim in false} == dict.fromkeys(false, "fail")

    # Its file tells that pairs agree; without controls nothing is known against it.
    claims = {"baseline_refusal": {}, "direction_is_real": {}}
    write(planted, "bare", RANDOM | {"alphas": [0, 2], "controls": {}, "claims": claims})
    path = planted.experiments / "test_bare.py"
    path.write_text(path.read_text(encoding="utf-8").partition("def test_layers")[0], "utf-8")
    result = planted.run("experiments", "-m", "bare", "--steer-model=planted")
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    found = read_verdicts(planted, "bare")["direction_is_real", f"layer{PLANTED_LAYER}"]
    assert (found["outcome"], found["details"]["agreement_of_pairs"]) == ("inconclusive", "pass")
    assert "only controls can tell" in found["message"]
