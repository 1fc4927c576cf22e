"""Steering block outputs while a model runs. This module knows nothing about caches or tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from steering_reliability.interventions import RowSteering
from steering_reliability.models.loaded import LoadedModel


@contextmanager
def steered(model: LoadedModel, steering: RowSteering) -> Iterator[None]:
    """Steer every row of the model's passes in its own way, at the blocks where some row is."""

    def hook_of(layer: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (steering.apply(layer, output[0]), *output[1:])
            return steering.apply(layer, output)

        return hook

    handles = [
        model.blocks[layer].register_forward_hook(hook_of(layer)) for layer in steering.layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
