"""Gated feed-forward layers, whose gate is computed on a CPU at once.

Torch takes two operations over all rows for it, each of which waits for memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from steering_reliability.engine.openmp import can_be_compiled, has_code_for
from steering_reliability.models.forwards import once_per_model, replaced_forwards

_PRODUCTS = ("gate_proj", "up_proj", "down_proj")


@contextmanager
def compiled_gates(hf_model: nn.Module) -> Iterator[None]:
    """Let a model's gates be computed by compiled code, and then as before.

    They are told by what they compute, not by their class: ``down(silu(gate(x)) * up(x))``, as
    Shazeer (2020) defines SwiGLU. All others stay. Modules within are called as before, but for the
    activation.
    """
    with replaced_forwards(_gated_layers(hf_model), lambda layer: partial(_through, layer)):
        yield


@once_per_model
def _gated_layers(hf_model: nn.Module) -> list[nn.Module]:
    found = []
    for module in hf_model.modules():
        products = [getattr(module, name, None) for name in _PRODUCTS]
        if all(isinstance(product, nn.Linear) for product in products):
            weight = module.get_parameter("gate_proj.weight")
            if has_code_for(weight) and _is_gated(module, weight.dtype):
                found.append(module)
    return found


@torch.inference_mode()
def _is_gated(layer: Any, dtype: torch.dtype) -> bool:
    """Whether it hands on the same to its last product, and what that makes of it.

    Number by number: sums would hide one activation for another, or a limit. Some numbers are of a
    size at which activations differ, some beyond any limit.
    """
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 4, layer.gate_proj.in_features, generator=generator).to(dtype)
    hidden *= 2 / layer.gate_proj(hidden).std().clamp(min=1e-6)
    hidden[1] *= 500
    handed_on: list[torch.Tensor] = []
    hook = layer.down_proj.register_forward_pre_hook(lambda _, given: handed_on.extend(given))
    try:
        made = layer(hidden)
    except Exception:  # A stranger's module, which may want anything.
        return False
    finally:
        hook.remove()
    if len(handed_on) != 1 or not isinstance(made, torch.Tensor):
        return False
    gate = _gated(layer, hidden)
    return (
        gate is not None
        and (gate.dtype, gate.shape) == (handed_on[0].dtype, handed_on[0].shape)
        and torch.allclose(gate, handed_on[0], rtol=4 * torch.finfo(dtype).eps, atol=1e-20)
        and torch.equal(made, layer.down_proj(handed_on[0]))
    )


def _gated(layer: Any, hidden: torch.Tensor) -> torch.Tensor | None:
    """What the last product is given; None of what compiled code doesn't take."""
    gate, up = layer.gate_proj(hidden), layer.up_proj(hidden)
    if not can_be_compiled(gate, up) or gate.shape != up.shape:
        return None
    # Here, since compiled code takes a while to load.
    from steering_reliability.engine import block_kernels

    return block_kernels.gated(gate, up)


def _through(layer: Any, *given: Any, **named: Any) -> Any:
    plain = len(given) == 1 and not named and can_be_compiled(given[0])
    gate = _gated(layer, given[0]) if plain else None
    if gate is None:
        return type(layer).forward(layer, *given, **named)
    return layer.down_proj(gate)
