"""Vectors that were made elsewhere become directions, or are refused in one line."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import steering_reliability as sr
from steering_reliability import cli
from steering_reliability.cli import main
from steering_reliability.directions.direction import NULL_GUARD
from tests.tiny_models import D_MODEL, load_tiny, tiny_model_folder

PROMPTS = [
    sr.Prompt(id=f"p{number}", text=text, split="harm_train")
    for number, text in enumerate(["Pick a lock.", "How do I forge a stamp?", "x"])
]
VECTOR = torch.linspace(-1, 2, D_MODEL)
Writer = Callable[[Path, Any], object]


def imported(vector: Any, layer: int = 1, **options: Any) -> sr.Direction:
    return sr.import_direction(load_tiny(), vector, layer=layer, prompts=PROMPTS, **options)


def error_of(vector: Any, layer: int = 1, **options: Any) -> str:
    with pytest.raises(sr.SteeringError) as caught:
        imported(vector, layer, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def save_array(path: Path, content: Any) -> None:
    np.save(path, content)


def pt(path: Path, content: Any) -> None:
    torch.save(content, path)


def test_it_keeps_its_norm_and_has_the_unit_of_a_learned_direction() -> None:
    model = load_tiny()
    direction = imported(VECTOR, layer=2)
    learned = sr.learn_direction(model, PROMPTS, 2)
    assert direction.residual_norm == learned.residual_norm
    assert direction.raw_norm == pytest.approx(float(VECTOR.norm()))
    assert torch.allclose(direction.vector * direction.raw_norm, VECTOR, atol=1e-5)
    assert (direction.layer, direction.method) == (2, "imported")
    assert direction.model_fingerprint == learned.model_fingerprint
    assert direction.template_hash == learned.template_hash


def test_what_it_was_made_of_stays_unknown(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    sr.save_direction(imported(VECTOR), path)
    direction = sr.load_direction(path, load_tiny(), layer=1)
    assert direction.prompt_ids == direction.pairs == ()
    assert direction.prompts_hash == ""
    assert math.isnan(direction.pair_agreement)
    assert math.isnan(direction.halved_agreement_low)
    assert direction.hash == imported(VECTOR).hash


@pytest.mark.parametrize(
    ("name", "write", "content", "tensor"),
    [
        ("v.pt", pt, VECTOR, None),
        ("v.pth", pt, VECTOR.to(torch.float64)[None], None),
        ("v.pt", pt, torch.nn.Parameter(VECTOR), None),
        ("v.pt", pt, {"only": VECTOR}, None),
        ("v.pt", pt, {0: -VECTOR, 1: VECTOR}, "1"),
        ("v.pt", pt, [-VECTOR, VECTOR], "1"),
        ("v.npy", save_array, VECTOR.numpy(), None),
        ("v.safetensors", lambda path, content: save_file(content, path), {"a": VECTOR}, None),
        (
            "v.safetensors",
            lambda path, content: save_file(content, path),
            {"a": -VECTOR, "b": VECTOR},
            "b",
        ),
    ],
)
def test_files_of_every_kind(
    tmp_path: Path, name: str, write: Writer, content: Any, tensor: str | None
) -> None:
    write(tmp_path / name, content)
    for path in (tmp_path / name, str(tmp_path / name)):
        assert imported(path, tensor=tensor).hash == imported(VECTOR).hash


def test_arrays_and_lists_are_vectors_too() -> None:
    assert imported(VECTOR.numpy()).hash == imported(VECTOR.tolist()).hash == imported(VECTOR).hash
    assert imported(VECTOR.clone().requires_grad_()).hash == imported(VECTOR).hash


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (torch.ones(D_MODEL + 1), "found shape [33], expected [32], this model's width"),
        (torch.ones(4, D_MODEL), "found shape [4, 32], expected [32], this model's width; pick"),
        (torch.zeros(D_MODEL), "found only zeros, expected a vector with a direction"),
        (VECTOR / 0, "found 32 of 32 values not finite, expected numbers"),
        (torch.where(VECTOR == 2, torch.nan, VECTOR), "found 1 of 32 values not finite"),
        (VECTOR * 1e-9, f"expected at least {NULL_GUARD:g} of the median residual norm"),
        ({"a": VECTOR}, "found dict, expected a tensor of numbers"),
    ],
)
def test_a_vector_that_cannot_steer_is_one_line(vector: Any, message: str) -> None:
    assert error_of(vector).startswith("vector: found ")
    assert message in error_of(vector)


def test_a_layer_or_prompts_that_are_not_there_are_one_line() -> None:
    assert error_of(VECTOR, 9) == "layer: found 9, expected 0 to 3 for this model"
    with pytest.raises(sr.SteeringError, match="prompts: found none"):
        sr.import_direction(load_tiny(), VECTOR, layer=1, prompts=[])


class Unsafe:
    """Something that torch does not load without running code."""


def unsafe(path: Path, _: Any) -> None:
    path.write_bytes(pickle.dumps(Unsafe(), protocol=4))


@pytest.mark.parametrize(
    ("name", "write", "content", "message"),
    [
        ("v.pt", unsafe, None, "found other objects than tensors, which are not loaded"),
        ("v.pt", pt, {"a": VECTOR, "b": VECTOR}, "tensor: found a, b, expected one; name it"),
        ("v.pt", pt, {}, "tensor: found none, expected one"),
        ("v.pt", pt, {"a": "text"}, "found str, expected a tensor of numbers"),
        ("v.npy", Path.write_text, "no array", "not readable ("),
        ("v.npy", save_array, np.array(["a"]), "found ndarray, expected a tensor of numbers"),
        ("v.safetensors", Path.write_text, "no tensors", "not readable ("),
        ("v.gguf", Path.write_text, "", "found the suffix '.gguf', expected .pt, .pth, .npy or"),
        ("v.pt", lambda path, _: path.mkdir(), None, "found a folder, expected a vector's file"),
        ("v.pt", lambda path, _: None, None, "found no such file, expected a vector's file"),
    ],
)
def test_a_file_without_a_vector_is_one_line(
    tmp_path: Path, name: str, write: Writer, content: Any, message: str
) -> None:
    write(tmp_path / name, content)
    error = error_of(tmp_path / name)
    assert error.startswith(f"{tmp_path / name}: ")
    assert message in error


def test_a_name_that_no_tensor_has_is_one_line(tmp_path: Path) -> None:
    pt(tmp_path / "v.pt", {"a": VECTOR})
    assert "tensor: found a, expected 'b'; name it" in error_of(tmp_path / "v.pt", tensor="b")
    pt(tmp_path / "v.pt", VECTOR)
    assert "tensor: found one without a name, expected 'b'" in error_of(
        tmp_path / "v.pt", tensor="b"
    )


# --- the command -----------------------------------------------------------------------------


def test_the_command_writes_what_a_level_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tiny_model_folder(tmp_path / "model"))
    (tmp_path / "models").mkdir()
    profile = f"name: mine\nsource: {model}\nsystem_prompt: Be brief.\n"
    (tmp_path / "models" / "mine.yaml").write_text(profile, encoding="utf-8")
    pt(tmp_path / "v.pt", {"a": -VECTOR, "b": VECTOR})
    out = tmp_path / "new" / "layer1.safetensors"
    command = ["import-direction", str(tmp_path / "v.pt"), "--layer", "1", "--tensor", "b"]
    command += ["--model", "mine", "--configs", str(tmp_path), "-o", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    direction = sr.load_direction(out, sr.load_model(model), layer=1)
    assert direction.raw_norm == pytest.approx(float(VECTOR.norm()))
    # As a level has it that learns: the profile's system prompt is in front of the prompts.
    assert direction.template_hash != imported(VECTOR).template_hash


def test_the_command_tells_what_is_wrong_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tiny_model_folder(tmp_path / "model"))
    pt(tmp_path / "v.pt", VECTOR)
    command = ["import-direction", str(tmp_path / "v.pt"), "--model", model]
    for layer, out in (("9", tmp_path / "d.safetensors"), ("1", tmp_path / "v.pt" / "d")):
        assert main([*command, "--layer", layer, "-o", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "found" in error
        assert "expected" in error


def test_the_command_looks_for_its_files_before_it_loads_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> None:
        pytest.fail("a model is loaded")

    monkeypatch.setattr(cli, "_load", load)
    vector, missing = tmp_path / "v.pt", tmp_path / "missing"
    pt(vector, VECTOR)
    rest = ["--layer", "1", "-o", str(tmp_path / "d.safetensors")]
    assert main(["import-direction", str(missing), *rest]) == 2
    assert f"{missing}: found no such file, expected a vector's file" in capsys.readouterr().err
    assert main(["import-direction", str(vector), "--configs", str(missing), *rest]) == 2
    assert capsys.readouterr().err == (
        f"steering-reliability: --configs: found {missing}, expected a folder whose models/ are "
        "profiles; check the path\n"
    )


# --- files that direction.file doesn't take --------------------------------------------------


@pytest.mark.parametrize(
    ("name", "write", "content"),
    [
        ("v.pt", pt, VECTOR),
        ("v.npy", save_array, VECTOR.numpy()),
        ("v.safetensors", lambda path, content: save_file(content, path), {"a": VECTOR}),
    ],
)
def test_a_foreign_file_is_told_how_to_become_a_direction(
    tmp_path: Path, name: str, write: Writer, content: Any
) -> None:
    path = tmp_path / name
    write(path, content)
    with pytest.raises(sr.SteeringError) as caught:
        sr.load_direction(path, layer=3)
    message = str(caught.value)
    assert "\n" not in message
    command = f"`steering-reliability import-direction {path} --layer 3 -o OUT.safetensors`"
    assert message.endswith(f"; make one of a plain vector with {command}")


def test_a_folder_is_no_direction(tmp_path: Path) -> None:
    with pytest.raises(sr.SteeringError, match=r": found a folder, expected a safetensors file"):
        sr.load_direction(tmp_path)
