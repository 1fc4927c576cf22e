"""Gated feed-forward layers, whose gate is computed on a CPU at once.

Torch takes two operations over all rows for it, each of which waits for memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from steering_reliability.engine.openmp import COMPILED_DTYPES, has_threads
from steering_reliability.models.forwards import replaced_forwards

_PRODUCTS = ("gate_proj", "up_proj", "down_proj")
_known: WeakKeyDictionary[nn.Module, list[nn.Module]] = WeakKeyDictionary()


@contextmanager
def compiled_gates(hf_model: nn.Module) -> Iterator[None]:
    """Let a model's gates be computed by compiled code, and then as before.

    They are told by what they compute, not by their class: ``down(silu(gate(x)) * up(x))``, as
    Shazeer (2020) defines SwiGLU. All others stay. Modules within are called as before, but for the
    activation.
    """
    gated = _known.get(hf_model)
    if gated is None:
        gated = _known[hf_model] = [*_gated_layers(hf_model)]
    with replaced_forwards(gated, lambda layer: partial(_through, layer)):
        yield


def _gated_layers(hf_model: nn.Module) -> Iterator[nn.Module]:
    for module in hf_model.modules():
        products = [getattr(module, name, None) for name in _PRODUCTS]
        if all(isinstance(product, nn.Linear) for product in products):
            weight = module.get_parameter("gate_proj.weight")
            suits = weight.dtype in COMPILED_DTYPES and has_threads(weight.device)
            if suits and _is_gated(module, weight.dtype):
                yield module


@torch.inference_mode()
def _is_gated(layer: Any, dtype: torch.dtype) -> bool:
    """Whether it computes the same of some numbers, of a size at which activations differ."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 1, layer.gate_proj.in_features, generator=generator).to(dtype)
    hidden *= 3 / layer.gate_proj(hidden).std().clamp(min=1e-6)
    try:
        expected, found = layer(hidden), _through(layer, hidden)
    except (RuntimeError, TypeError):
        return False
    if not isinstance(expected, torch.Tensor) or expected.dtype != found.dtype:
        return False
    tolerance = 8 * torch.finfo(dtype).eps
    furthest = tolerance * float(expected.abs().max())
    return torch.allclose(found.float(), expected.float(), rtol=tolerance, atol=furthest)


def _through(layer: Any, hidden: torch.Tensor) -> torch.Tensor:
    if hidden.dtype not in COMPILED_DTYPES or hidden.device.type != "cpu":
        as_before: torch.Tensor = type(layer).forward(layer, hidden)
        return as_before
    # Here, since compiled code takes a while to load.
    from steering_reliability.engine.block_kernels import gated

    product: torch.Tensor = layer.down_proj(gated(layer.gate_proj(hidden), layer.up_proj(hidden)))
    return product
