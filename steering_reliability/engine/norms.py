"""Norms of a residual stream, computed on a CPU at once instead of operation by operation.

Torch takes seven operations over all rows for a norm of a few hundred numbers, each of which waits
for the interpreter and for memory.
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


@contextmanager
def compiled_norms(hf_model: nn.Module) -> Iterator[None]:
    """Let a model's root mean square norms be computed by compiled code, and then as before.

    They are told by what they compute, not by their class: as Zhang and Sennrich (2019) define it,
    the numbers over the root of their mean square, times the weight. All others stay.
    """
    epsilons = _root_mean_square_norms(hf_model)
    with replaced_forwards(epsilons, lambda norm: partial(_normalised, norm, epsilons[norm])):
        yield


@once_per_model
def _root_mean_square_norms(hf_model: nn.Module) -> dict[nn.Module, float]:
    found = {}
    for module in hf_model.modules():
        names = [name for name, _ in module.named_parameters()]
        epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        if names != ["weight"] or not isinstance(epsilon, float):
            continue
        weight = module.get_parameter("weight")
        suits = weight.dim() == 1 and has_code_for(weight)
        if suits and _is_root_mean_square_norm(module, epsilon):
            found[module] = epsilon
    return found


@torch.inference_mode()
def _is_root_mean_square_norm(module: Any, epsilon: float) -> bool:
    """Whether it computes the same of some numbers with a mean and an outlier."""
    generator = torch.Generator().manual_seed(0)
    width = len(module.weight)
    hidden = torch.randn(4, width, generator=generator) + torch.arange(4)[:, None]
    hidden[:, 0] *= 30
    hidden = hidden.to(module.weight.dtype)
    try:
        expected = module(hidden)
    except Exception:  # A stranger's module, which may want anything.
        return False
    found = _normalised(module, epsilon, hidden)
    # Of each number by itself: next to the greatest of its row a small one could be any.
    rtol = 8 * torch.finfo(hidden.dtype).eps
    return found.dtype == expected.dtype and torch.allclose(found, expected, rtol=rtol, atol=1e-30)


def _normalised(norm: Any, epsilon: float, hidden: torch.Tensor) -> torch.Tensor:
    if not can_be_compiled(hidden, norm.weight):
        as_before: torch.Tensor = type(norm).forward(norm, hidden)
        return as_before
    # Here, since compiled code takes a while to load.
    from steering_reliability.engine.block_kernels import root_mean_square_norm

    return root_mean_square_norm(hidden, norm.weight, epsilon)
