"""Directions made elsewhere: a plain vector, or its file, measured as a learned direction is.

This module knows nothing about steering, nor how the vector was made.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from steering_reliability.directions.contrastive import collect_contrasts
from steering_reliability.directions.direction import NULL_GUARD, Direction, is_null
from steering_reliability.errors import SteeringError
from steering_reliability.prompts import Prompt

if TYPE_CHECKING:
    from steering_reliability.models.loaded import LoadedModel

METHOD = "imported"
_SUFFIXES = ".pt, .pth, .npy or .safetensors"
_SHOWN = 8


def import_direction(
    model: LoadedModel,
    vector: Tensor | NDArray[Any] | Path | str,
    *,
    layer: int,
    prompts: Sequence[Prompt],
    tensor: str | None = None,
) -> Direction:
    """Make a direction of a vector that was made elsewhere.

    Its unit of alpha is that of a learned direction: the median residual norm at the layer, over
    the prompts and all response tokens of the package's prefixes. What it was made of is unknown
    and stays so: prompts, pairs, their agreement.

    Args:
        model: the model to be steered.
        vector: shape ``[d_model]`` (or ``[1, d_model]``), in the units of the residual stream;
            or a file that holds one: .pt or .pth, .npy, .safetensors.
        layer: 0-indexed block to whose output it is added.
        prompts: prompts to measure the residual norm on; a level that learns takes the last 64 of
            ``harm_train``.
        tensor: name of the vector in a file that holds several; a number counts from 0 in a list.

    Returns:
        The unit vector with the norm that it had, of method ``"imported"``.

    Raises:
        SteeringError: no such file or tensor, another shape or width, a vector that is zero or not
            finite, one so short beside the residual stream that it is rounding noise, no prompts,
            or no such layer.
    """
    where = f"{vector}" if isinstance(vector, Path | str) else "vector"
    found = _read(Path(vector), tensor) if isinstance(vector, Path | str) else vector
    raw = _checked(found, model.d_model, where)
    contrasts = collect_contrasts(model, prompts, [layer])[layer]
    raw_norm = float(raw.norm())
    if is_null(raw_norm, contrasts.residual_norm):
        raise SteeringError(
            f"{where}: found norm {raw_norm:.3g}, expected at least {NULL_GUARD:g} of the median "
            f"residual norm {contrasts.residual_norm:.3g} at layer {layer}, below which it may be "
            "rounding noise; if it was normalised, multiply it by the norm that it had"
        )
    return Direction(
        vector=(raw / raw_norm).float(),
        layer=layer,
        raw_norm=raw_norm,
        residual_norm=contrasts.residual_norm,
        method=METHOD,
        model_fingerprint=contrasts.model_fingerprint,
        template_hash=contrasts.template_hash,
        versions={name: v for name, v in contrasts.versions.items() if name != "method"},
    )


def _checked(found: Any, d_model: int, where: str) -> Tensor:
    """The vector in float64 on the CPU, shape ``[d_model]``."""
    try:
        raw = torch.as_tensor(found).detach().to("cpu", torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(found).__name__
        raise SteeringError(f"{where}: found {kind}, expected a tensor of numbers") from error
    if raw.shape not in ((d_model,), (1, d_model)):
        advice = "use a vector of the model that it will steer"
        if raw.ndim > 1 and raw.shape[-1] == d_model:
            advice = "pick the vector of one layer"
        raise SteeringError(
            f"{where}: found shape {list(raw.shape)}, expected [{d_model}], this model's width; "
            f"{advice}"
        )
    raw = raw.reshape(d_model)
    if not bool(raw.isfinite().all()):
        bad = int((~raw.isfinite()).sum())
        raise SteeringError(
            f"{where}: found {bad} of {d_model} values not finite, expected numbers; make it anew"
        )
    if not bool(raw.any()):
        raise SteeringError(f"{where}: found only zeros, expected a vector with a direction")
    return raw


def check_vector_file(path: Path) -> None:
    """See that a vector's file is there, before a model is loaded for it.

    Raises:
        SteeringError: it isn't.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise SteeringError(f"{path}: found {found}, expected a vector's file: {_SUFFIXES}")


def _read(path: Path, name: str | None) -> Any:
    """The one tensor of a file, or the one of that name."""
    check_vector_file(path)
    held = _content(path)
    if isinstance(held, list | tuple):
        held = dict(enumerate(held))
    if not isinstance(held, Mapping):
        if name is not None:
            raise SteeringError(f"{path}: tensor: found one without a name, expected {name!r}")
        return held
    by_name = {str(key): value for key, value in held.items()}
    if name is None and len(by_name) == 1:
        return next(iter(by_name.values()))
    if name not in by_name:
        known = ", ".join([*by_name][:_SHOWN]) + ", …" * (len(by_name) > _SHOWN)
        wanted = "one" if name is None else repr(name)
        raise SteeringError(
            f"{path}: tensor: found {known or 'none'}, expected {wanted}; "
            "name it with tensor=… (--tensor)"
        )
    return by_name[name]


def _content(path: Path) -> Any:
    suffix = path.suffix.lower()
    try:
        if suffix in (".pt", ".pth"):
            with warnings.catch_warnings():
                # Of pickles that it goes on to refuse.
                warnings.simplefilter("ignore")
                return torch.load(path, map_location="cpu", weights_only=True)
        if suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if suffix == ".safetensors":
            return load_file(path)
    except pickle.UnpicklingError as error:
        raise SteeringError(
            f"{path}: found other objects than tensors, which are not loaded, expected tensors "
            "alone; save the vector itself: torch.save(vector, path)"
        ) from error
    # Readers raise whatever a damaged file makes them stumble over.
    except (SafetensorError, OSError, ValueError, RuntimeError, EOFError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise SteeringError(
            f"{path}: not readable ({first}), expected a vector's file: {_SUFFIXES}"
        ) from error
    raise SteeringError(f"{path}: found the suffix {suffix!r}, expected {_SUFFIXES}")
