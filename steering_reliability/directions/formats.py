"""Directions as files: safetensors, with everything but the vector as JSON in its metadata.

No torch at import time, nor in ``check_direction``: a file is refused before any model loads.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steering_reliability.directions.direction import (
    NULL_GUARD,
    Direction,
    is_null,
    site_of,
    values_problem,
)
from steering_reliability.errors import SteeringError
from steering_reliability.models.sources import ModelFacts

if TYPE_CHECKING:
    from torch import Tensor

    from steering_reliability.models.loaded import LoadedModel

FORMAT = "steering_reliability.direction"
FORMAT_VERSION = 1

# A half-flipped control is made of what cancels; its raw norm says nothing about the learned one.
_UNGUARDED = ("shuffled",)
_KINDS: dict[str, type | tuple[type, ...]] = {
    "layer": int,
    "raw_norm": (int, float),
    "residual_norm": (int, float),
    "method": str,
    "site": str,
    "model_fingerprint": str,
    "template_hash": str,
    "prompts_hash": str,
    "prompt_ids": list,
    "pairs": list,
    "pair_agreement": (int, float, type(None)),
    "cosine_with_learned": (int, float, type(None)),
    "versions": dict,
}


def save_direction(direction: Direction, path: Path | str) -> None:
    """Write a direction to a safetensors file, atomically; equal directions give equal bytes.

    Raises:
        SteeringError: the file can't be written.
    """
    write_tensors(Path(path), {"vector": direction.vector}, FORMAT, direction.describe())


def load_direction(
    path: Path | str, model: LoadedModel | ModelFacts | None = None, *, layer: int | None = None
) -> Direction:
    """Read a direction.

    Args:
        path: what ``save_direction`` wrote; ``import_direction`` reads other files.
        model: what it will steer, if that is to be checked: a loaded model (by fingerprint and
            width), or its facts (number of layers and width, and that there is a fingerprint).
        layer: the layer it is wanted for, if that is to be checked.

    Raises:
        SteeringError: no direction file, another model or width or layer, a vector that is zero
            or not finite, or a raw norm below the null guard.
    """
    import torch
    from safetensors.numpy import load_file

    path = Path(path)
    described = check_direction(path, model, layer=layer)
    vector = torch.from_numpy(load_file(path)["vector"].copy())
    try:
        return Direction(
            vector=vector,
            layer=described["layer"],
            raw_norm=float(described["raw_norm"]),
            residual_norm=float(described["residual_norm"]),
            method=described["method"],
            model_fingerprint=described["model_fingerprint"],
            template_hash=described["template_hash"],
            prompts_hash=described["prompts_hash"],
            prompt_ids=tuple(described["prompt_ids"]),
            pairs=tuple((refusal, compliance) for refusal, compliance in described["pairs"]),
            pair_agreement=_number(described["pair_agreement"]),
            # Files of before it was measured lack it.
            halved_agreement=_number(described.get("halved_agreement")),
            halved_agreement_low=_number(described.get("halved_agreement_low")),
            cosine_with_learned=_number(described["cosine_with_learned"]),
            versions=described["versions"],
        )
    except (SteeringError, TypeError, ValueError) as error:
        raise SteeringError(f"{path}: {error}") from error


def check_direction(
    path: Path | str, model: LoadedModel | ModelFacts | None = None, *, layer: int | None = None
) -> dict[str, Any]:
    """Check a direction's file without torch, and return what it says of itself.

    Raises:
        SteeringError: as ``load_direction``.
    """
    from safetensors.numpy import load_file

    path = Path(path)
    command = (
        f"import-direction {path} --layer {'N' if layer is None else layer} -o OUT.safetensors"
    )
    advice = f"make one of a plain vector with `steering-reliability {command}`"
    described, shapes = read_header(path, FORMAT, advice)
    for key, kind in _KINDS.items():
        if key not in described:
            raise _refusal(path, key, "nothing", "a value", "save the direction again")
        if not isinstance(described[key], kind) or isinstance(described[key], bool):
            expected = kind.__name__ if isinstance(kind, type) else "a number"
            raise _refusal(path, key, described[key], expected, "save the direction again")
    shape, dtype = shapes.get("vector", ([], "nothing"))
    if len(shape) != 1 or dtype != "F32":
        raise _refusal(path, "vector", f"{dtype} {shape}", "F32 [d_model]", "save it again")
    found_layer, expected_site = described["layer"], site_of(described["layer"])
    if described["site"] != expected_site:
        raise _refusal(path, "site", described["site"], expected_site, "use a block's output")
    if layer is not None and found_layer != layer:
        raise _refusal(path, "layer", found_layer, layer, "use the direction of that layer")
    if model is not None:
        _check_model(path, described, shape[0], model)
    raw_norm, residual_norm = described["raw_norm"], described["residual_norm"]
    if described["method"] not in _UNGUARDED and is_null(raw_norm, residual_norm):
        raise _refusal(
            path,
            "raw_norm",
            f"{raw_norm:.3g}",
            f"at least {NULL_GUARD:g} of residual_norm ({residual_norm:.3g})",
            "normalised, so small a difference is a direction of rounding noise; learn it anew",
        )
    vector = load_file(path)["vector"].astype("float64")
    problem = values_problem(float((vector**2).sum() ** 0.5), raw_norm, residual_norm)
    if problem:
        raise SteeringError(f"{path}: {problem}")
    return described


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], kind: str, described: Mapping[str, Any]
) -> None:
    """Write tensors by name and their description to a safetensors file, atomically.

    Raises:
        SteeringError: the file can't be written.
    """
    from safetensors.numpy import save

    # One metadata key: safetensors writes several in random order.
    metadata = {kind: json.dumps({"version": FORMAT_VERSION, **described}, sort_keys=True)}
    content = save({name: t.contiguous().numpy() for name, t in tensors.items()}, metadata)
    try:
        _write_atomically(path, content)
    except OSError as error:
        raise SteeringError(
            f"{path}: found no place to write to ({error.strerror or error}), expected a file in "
            "a folder with space; choose another"
        ) from error


def _write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's file is the owner's alone; a result is as readable as any other file.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_header(
    path: Path, kind: str, advice: str = ""
) -> tuple[dict[str, Any], dict[str, tuple[list[int], str]]]:
    """A file's description, and shape and dtype of each of its tensors.

    Args:
        path: the file.
        kind: what it should be: the metadata key of its description.
        advice: what to do where it is another kind of file.

    Raises:
        SteeringError: there is no such file, or it isn't a safetensors file of that kind.
    """
    from safetensors import SafetensorError, safe_open

    wanted = f"a safetensors file with the metadata key {kind!r}"
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise SteeringError(f"{path}: found {found}, expected {wanted}; check the path")
    wanted += f"; {advice}" if advice else ""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            slices = {name: file.get_slice(name) for name in names}
            shapes = {name: (s.get_shape(), str(s.get_dtype())) for name, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise SteeringError(f"{path}: not readable ({error}), expected {wanted}") from error
    try:
        described = json.loads(metadata[kind])
    except KeyError as error:
        found = ", ".join(sorted(metadata)) or "no metadata"
        raise SteeringError(f"{path}: found {found}, expected {wanted}") from error
    except ValueError as error:
        raise SteeringError(f"{path}: key {kind!r}: found no JSON, expected {wanted}") from error
    if not isinstance(described, dict) or described.get("version") != FORMAT_VERSION:
        version = described.get("version") if isinstance(described, dict) else described
        raise _refusal(path, "version", version, FORMAT_VERSION, "save it with this version")
    return described, shapes


def _check_model(
    path: Path, described: dict[str, Any], width: int, model: LoadedModel | ModelFacts
) -> None:
    advice = "learn the direction on the model that it will steer"
    if width != model.d_model:
        raise _refusal(path, "vector", f"width {width}", f"{model.d_model} (this model's)", advice)
    if not 0 <= described["layer"] < model.n_layers:
        expected = f"0 to {model.n_layers - 1} for this model"
        raise _refusal(path, "layer", described["layer"], expected, advice)
    found = described["model_fingerprint"]
    if isinstance(model, ModelFacts):
        if not found:
            expected = "that of the model it was learned on"
            raise _refusal(path, "model_fingerprint", found, expected, advice)
        return
    if found != model.fingerprint:
        expected = f"{model.fingerprint} (this model's)"
        raise _refusal(path, "model_fingerprint", found, expected, advice)


def _refusal(path: Path, key: str, found: object, expected: object, advice: str) -> SteeringError:
    shown = "nothing" if found == "" else found
    return SteeringError(f"{path}: key {key!r}: found {shown}, expected {expected}; {advice}")


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
