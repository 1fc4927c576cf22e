"""Plans of levels that steer with a saved direction: what is checked before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from steering_reliability.directions import Direction, save_direction
from steering_reliability.directions.formats import FORMAT, read_header, write_tensors
from steering_reliability.errors import SteeringError
from steering_reliability.ladder.plan import LevelPlan, Overrides, plan_level
from tests.tiny_models import D_MODEL, tiny_model_folder

LEVEL = """
level: mine
question: Does a saved direction steer?
layers: [1]
interventions: [add]
alphas: [0, 2]
prompts:
  folder: prompts
  per_split: 1
  splits: {harm_train: harm_train.jsonl}
direction: {file: "vectors/layer{layer}.safetensors"}
"""


@pytest.fixture
def level(tmp_path: Path) -> Path:
    (tmp_path / "prompts").mkdir()
    lines = ['{"id": "a", "prompt": "Seen."}', '{"id": "b", "prompt": "Not at all."}']
    (tmp_path / "prompts" / "harm_train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(LEVEL, encoding="utf-8")
    return path


def save(level: Path, width: int, layer: int = 1) -> None:
    vector = torch.zeros(width)
    vector[0] = 1
    folder = level.parent / "vectors"
    folder.mkdir()
    save_direction(
        Direction(vector, layer, 1.0, 2.0, model_fingerprint="f" * 16, prompt_ids=("a",)),
        folder / "layer1.safetensors",
    )


def plan(level: Path, tmp_path: Path) -> LevelPlan:
    tiny_model_folder(tmp_path / "model", "llama")
    return plan_level(level, Overrides(model=str(tmp_path / "model")))


def test_a_saved_direction_says_what_it_has_seen(level: Path, tmp_path: Path) -> None:
    save(level, D_MODEL)
    planned = plan(level, tmp_path)
    assert planned.seen == {"a"}
    assert planned.learning == []
    assert planned.direction_files == {1: level.parent / "vectors" / "layer1.safetensors"}


@pytest.mark.parametrize(
    ("width", "layer", "found"), [(D_MODEL + 1, 1, "width 33"), (D_MODEL, 2, "2")]
)
def test_another_width_or_layer_is_one_line(
    level: Path, tmp_path: Path, width: int, layer: int, found: str
) -> None:
    save(level, width, layer)
    with pytest.raises(SteeringError) as caught:
        plan(level, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert "layer1.safetensors" in message
    assert f"found {found}" in message


@pytest.mark.parametrize(
    ("vector", "fingerprint", "told"),
    [
        (torch.zeros(D_MODEL), "f" * 16, "key 'vector': found a vector of norm 0, expected"),
        (torch.full((D_MODEL,), torch.nan), "f" * 16, "key 'vector': found a vector of norm nan"),
        (torch.eye(D_MODEL)[0], "", "key 'model_fingerprint': found nothing, expected that of"),
    ],
    ids=["zeros", "nan", "no fingerprint"],
)
def test_what_a_file_holds_is_checked_before_a_model_is_loaded(
    level: Path, tmp_path: Path, vector: torch.Tensor, fingerprint: str, told: str
) -> None:
    save(level, D_MODEL)
    file = level.parent / "vectors" / "layer1.safetensors"
    described, _ = read_header(file, FORMAT)
    described["model_fingerprint"] = fingerprint
    write_tensors(file, {"vector": vector}, FORMAT, described)
    with pytest.raises(SteeringError) as caught:
        plan(level, tmp_path)
    assert str(caught.value).startswith(f"{file}: {told}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(level: Path, tmp_path: Path) -> None:
    with pytest.raises(SteeringError, match=r"layer1\.safetensors") as caught:
        plan(level, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_a_file_is_one_line(level: Path, tmp_path: Path) -> None:
    (level.parent / "vectors" / "layer1.safetensors").mkdir(parents=True)
    with pytest.raises(SteeringError, match=r"layer1\.safetensors: found a folder, expected") as e:
        plan(level, tmp_path)
    assert "\n" not in str(e.value)


def test_a_plain_vector_is_told_how_to_become_a_direction(level: Path, tmp_path: Path) -> None:
    path = level.parent / "vectors" / "layer1.safetensors"
    path.parent.mkdir()
    torch.save(torch.ones(D_MODEL), path)
    with pytest.raises(SteeringError) as caught:
        plan(level, tmp_path)
    assert f"`steering-reliability import-direction {path} --layer 1 -o" in str(caught.value)
