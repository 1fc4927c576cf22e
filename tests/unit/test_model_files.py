"""Model folders that lack something, or hold half of it: one line that says what."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from steering_reliability.errors import SteeringError
from steering_reliability.models.loaded import load_model
from tests.tiny_models import tiny_model_folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("whole"))


def half_copied(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])


def of_another_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("token*"):
        path.unlink()


def of_no_known_family(folder: Path) -> None:
    (folder / "config.json").write_text('{"num_hidden_layers": 4, "hidden_size": 32}')


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (half_copied, "its weights could not be loaded (model.safetensors: Error while "
         "deserializing header: incomplete metadata, file not fully covered); expected those of "
         "this config.json, whole; copy the model again"),
        (of_another_width, "its weights could not be loaded (You set"),
        (without_tokenizer, "its tokenizer could not be loaded (found none); expected "
         "tokenizer.json, or what else the model's tokenizer is made of, beside config.json; "
         "tokenizer.save_pretrained writes it"),
        (of_no_known_family, "it could not be loaded (Unrecognized model"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder_is_named(
    whole: Path, tmp_path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    spoil(folder)
    with pytest.raises(SteeringError) as caught:
        load_model(str(folder), device="cpu", dtype="float32")
    message = str(caught.value)
    assert message.startswith(f"model: '{folder}': {told}")
    assert "\n" not in message
