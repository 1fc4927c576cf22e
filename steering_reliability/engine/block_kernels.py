"""What a block computes between its matrix products, compiled by Numba for CPUs.

Each number is computed where it stands in its row alone, so its bits depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import carray

from steering_reliability.engine.compiled import (
    as_factors,
    compiled,
    compiled_in_order,
    exp,
    for_each_dtype,
    narrowed,
    share_of,
    widened,
)


def root_mean_square_norm(
    hidden: torch.Tensor, weight: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """Rows over the root of their mean square, times a weight (Zhang and Sennrich 2019).

    In float32; where they are bfloat16, rounded before the weight and after it.

    Args:
        hidden: ``[..., width]``, float32 or bfloat16.
        weight: ``[width]``, of the same dtype.
        epsilon: added to the mean square.

    Returns:
        The same shape and dtype.
    """
    hidden = hidden.contiguous()
    out = torch.empty_like(hidden)
    width = hidden.shape[-1]
    numbers = hidden.numel() // width, width
    _normalise[hidden.dtype]((hidden, weight, out, as_factors(epsilon)), numbers)
    return out


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``silu(gate) * up`` (SwiGLU; Shazeer 2020).

    In float32; where they are bfloat16, rounded before the product and after it.

    Args:
        gate: ``[..., width]``, float32 or bfloat16.
        up: the same.

    Returns:
        The same shape and dtype.
    """
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    width = gate.shape[-1]
    _gate[gate.dtype]((gate, up, out), (gate.numel() // width, width))
    return out


def rotated(
    query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys turned by their positions (Su et al. 2021), halves of a head in pairs.

    As transformers' ``apply_rotary_pos_emb``, bit for bit.

    Args:
        query: ``[rows, heads, tokens, d_head]``, float32 or bfloat16.
        key: the same, of its own number of heads.
        cos: ``[rows or 1, tokens, d_head]``, of the same dtype.
        sin: the same.

    Returns:
        Both, of the same shapes and dtype.
    """
    rows, heads, tokens, width = query.shape
    shapes = (rows * tokens, heads, key.shape[1], width)
    # As the products give them: all heads of a token together.
    query, key = query.transpose(1, 2).contiguous(), key.transpose(1, 2).contiguous()
    cos, sin = (turn.expand(rows, tokens, width).contiguous() for turn in (cos, sin))
    turned = torch.empty_like(query), torch.empty_like(key)
    _rotate[query.dtype]((query, key, cos, sin, *turned), shapes)
    return turned[0].transpose(1, 2), turned[1].transpose(1, 2)


@for_each_dtype
def _normalise(kind: Any) -> Callable[[Any], None]:
    def normalise(given: Any) -> None:
        rows, width = carray(given[0], 7, np.int64)[5:]
        hidden = carray(given[1], (rows, width), kind)
        weight = carray(given[2], width, kind)
        out = carray(given[3], (rows, width), kind)
        _normalise_rows(hidden, weight, out, carray(given[4], 1, np.float32)[0], share_of(rows))

    return normalise


@for_each_dtype
def _gate(kind: Any) -> Callable[[Any], None]:
    def gate(given: Any) -> None:
        rows, width = carray(given[0], 6, np.int64)[4:]
        _gate_rows(
            carray(given[1], (rows, width), kind),
            carray(given[2], (rows, width), kind),
            carray(given[3], (rows, width), kind),
            share_of(rows),
        )

    return gate


@for_each_dtype
def _rotate(kind: Any) -> Callable[[Any], None]:
    def rotate(given: Any) -> None:
        tokens, heads, kv_heads, width = carray(given[0], 11, np.int64)[7:]
        cos, sin = carray(given[3], (tokens, width), kind), carray(given[4], (tokens, width), kind)
        share = share_of(tokens)
        query = carray(given[1], (tokens, heads, width), kind)
        _rotate_rows(query, cos, sin, carray(given[5], (tokens, heads, width), kind), share)
        key = carray(given[2], (tokens, kv_heads, width), kind)
        _rotate_rows(key, cos, sin, carray(given[6], (tokens, kv_heads, width), kind), share)

    return rotate


@compiled
def _normalise_rows(hidden: Any, weight: Any, out: Any, epsilon: Any, share: Any) -> None:
    width = len(weight)
    for row in range(*share):
        squares = np.float32(0)
        for i in range(width):
            number = widened(hidden[row, i])
            squares += number * number
        factor = np.float32(1) / np.sqrt(squares / np.float32(width) + epsilon)
        for i in range(width):
            rounded = narrowed(widened(hidden[row, i]) * factor, weight[i])
            out[row, i] = narrowed(widened(weight[i]) * widened(rounded), weight[i])


@compiled
def _gate_rows(gate: Any, up: Any, out: Any, share: Any) -> None:
    for row in range(*share):
        for i in range(gate.shape[1]):
            rounded = narrowed(_silu(widened(gate[row, i])), gate[row, i])
            out[row, i] = narrowed(widened(rounded) * widened(up[row, i]), gate[row, i])


@compiled
def _silu(x: Any) -> Any:
    below = exp(-abs(x))
    return x * ((np.float32(1) if x >= 0 else below) / (np.float32(1) + below))


@compiled_in_order
def _rotate_rows(states: Any, cos: Any, sin: Any, out: Any, share: Any) -> None:
    heads, width = states.shape[1:]
    half = width // 2
    for token in range(*share):
        for head in range(heads):
            for i in range(half):
                first, second = states[token, head, i], states[token, head, half + i]
                out[token, head, i] = _turned(first, cos[token, i], second, sin[token, i], True)
                out[token, head, half + i] = _turned(
                    second, cos[token, half + i], first, sin[token, half + i], False
                )


@compiled_in_order
def _turned(number: Any, cos: Any, other: Any, sin: Any, back: bool) -> Any:
    across = -widened(other) if back else widened(other)
    along = narrowed(widened(number) * widened(cos), number)
    aside = narrowed(across * widened(sin), number)
    return narrowed(widened(along) + widened(aside), number)
