"""Steering block outputs while a model runs. This module knows nothing about caches or tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from steering_reliability.interventions import RowSteering
from steering_reliability.models.loaded import LoadedModel


def on_residual(output: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """What a block returned, with its residual stream changed; some return a tuple around it."""
    if isinstance(output, tuple):
        return (change(output[0]), *output[1:])
    return change(output)


@contextmanager
def steered(model: LoadedModel, steering: RowSteering) -> Iterator[None]:
    """Steer every row of the model's passes in its own way, at the blocks where some row is."""

    def hook_of(layer: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> Any:
            return on_residual(output, partial(steering.apply, layer))

        return hook

    handles = [
        model.blocks[layer].register_forward_hook(hook_of(layer)) for layer in steering.layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
