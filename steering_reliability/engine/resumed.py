"""Passes that begin above a block whose output is known: what no steering has reached is shared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from steering_reliability.engine.hooks import on_residual
from steering_reliability.models.loaded import LoadedModel


@contextmanager
def kept_outputs(model: LoadedModel, layers: Iterable[int]) -> Iterator[dict[int, Any]]:
    """What these blocks return in the model's passes, unless a hook set later changes it.

    Yields:
        By layer the last pass's return value: the residual stream ``[rows, tokens, d_model]``, or
        a tuple that begins with it.
    """
    outputs: dict[int, Any] = {}

    def keeper(layer: int) -> Any:
        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            outputs[layer] = output

        return keep

    handles = [model.blocks[layer].register_forward_hook(keeper(layer)) for layer in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def resumed(model: LoadedModel, layer: int, output: Any) -> Iterator[None]:
    """Let blocks up to ``layer`` compute nothing, and that one give an output known before."""
    resting = model.blocks[: layer + 1]
    for block in resting:
        block.forward = lambda *_, **__: output
    try:
        yield
    finally:
        for block in resting:
            del block.forward


def part_of(output: Any, rows: torch.Tensor, width: int) -> Any:
    """Some rows of what a block returned, up to ``width`` tokens."""
    return on_residual(output, lambda residual: residual[rows, :width])
