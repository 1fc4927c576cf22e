"""What directions are made of, kept on disk: learned once, whatever levels and workers ask."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from safetensors.numpy import load_file

from steering_reliability.directions.contrastive import (
    METHOD,
    METHOD_VERSION,
    At,
    Contrasts,
    check_request,
    checked_pairs,
    collect_contrasts,
    in_learning_order,
)
from steering_reliability.directions.direction import Direction
from steering_reliability.directions.formats import read_header, write_tensors
from steering_reliability.errors import SteeringError
from steering_reliability.prompts import prompts_hash

if TYPE_CHECKING:
    from steering_reliability.models.loaded import LoadedModel
    from steering_reliability.prompts import Prompt

FORMAT = "steering_reliability.contrasts"
_TENSORS = ("differences", "midpoints")


def cached_directions(
    folder: Path | str,
    model: LoadedModel,
    prompts: Sequence[Prompt],
    layers: Sequence[int],
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    at: At = "response",
) -> dict[int, Direction]:
    """``learn_directions``, but computed only for layers that ``folder`` doesn't hold yet."""
    contrasts = cached_contrasts(folder, model, prompts, layers, pairs=pairs, at=at)
    return {layer: contrast.direction() for layer, contrast in contrasts.items()}


def cached_contrasts(
    folder: Path | str,
    model: LoadedModel,
    prompts: Sequence[Prompt],
    layers: Sequence[int],
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    at: At = "response",
) -> dict[int, Contrasts]:
    """``collect_contrasts``, but computed only for layers that ``folder`` doesn't hold yet.

    One file per layer, named by what the result depends on: model, template and system prompt,
    prompts, pairs, ``at``, version of the method. Processes that want the same at the same time
    wait for the first of them. A file that can't be read is made anew.

    Raises:
        SteeringError: as ``collect_contrasts``.
    """
    check_request(model, prompts, layers, at)
    key = _key(model, prompts, checked_pairs(pairs), at)
    wanted = sorted(set(layers))
    paths = {layer: Path(folder) / f"contrasts-{key}-layer{layer}.safetensors" for layer in wanted}
    found = _read_all(paths)
    if len(found) < len(wanted):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with FileLock(Path(folder) / f"contrasts-{key}.lock"):
            found = _read_all(paths)
            missing = [layer for layer in wanted if layer not in found]
            if missing:
                made = collect_contrasts(model, prompts, missing, pairs=pairs, at=at)
                for layer, contrasts in made.items():
                    _write(paths[layer], contrasts)
                found |= made
    return {layer: found[layer] for layer in wanted}


def _key(
    model: LoadedModel, prompts: Sequence[Prompt], pairs: tuple[tuple[str, str], ...], at: str
) -> str:
    identity = [
        METHOD,
        METHOD_VERSION,
        model.fingerprint,
        model.format.template_hash,
        prompts_hash(in_learning_order(prompts)),
        pairs,
        at,
    ]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def _write(path: Path, contrasts: Contrasts) -> None:
    described = {
        entry.name: getattr(contrasts, entry.name)
        for entry in fields(contrasts)
        if entry.name not in _TENSORS
    }
    tensors = {name: getattr(contrasts, name) for name in _TENSORS}
    write_tensors(path, tensors, FORMAT, described)


def _read_all(paths: dict[int, Path]) -> dict[int, Contrasts]:
    read = {layer: _read(path) for layer, path in paths.items()}
    return {layer: contrasts for layer, contrasts in read.items() if contrasts is not None}


def _read(path: Path) -> Contrasts | None:
    if not path.exists():
        return None
    try:
        described: dict[str, Any] = read_header(path, FORMAT)[0]
        tensors = {name: torch.from_numpy(a.copy()) for name, a in load_file(path).items()}
        return Contrasts(
            layer=described["layer"],
            differences=tensors["differences"],
            residual_norm=described["residual_norm"],
            at=described["at"],
            prompt_ids=tuple(described["prompt_ids"]),
            prompts_hash=described["prompts_hash"],
            pairs=tuple((refusal, compliance) for refusal, compliance in described["pairs"]),
            model_fingerprint=described["model_fingerprint"],
            template_hash=described["template_hash"],
            versions=described["versions"],
            midpoints=tensors["midpoints"],
        )
    except (SteeringError, KeyError, OSError):
        # It is only a cache: whatever is wrong with it, learning again is right.
        return None
