"""Norms of rows and the measurements of logits, compiled by Numba for CPUs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray

from steering_reliability.engine.compiled import (
    OnThreads,
    as_factors,
    at_least_smallest,
    compiled,
    exp,
    greatest,
    share_of,
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
    normalise = _normalise_bfloat16 if hidden.dtype == torch.bfloat16 else _normalise
    normalise((hidden, weight, out, as_factors(epsilon)), (hidden.numel() // width, width))
    return out


def log_masses(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Normaliser and entropy of every row of ``[rows, vocabulary]``, float32 or bfloat16.

    Returns:
        ``logits.logsumexp(-1)`` and the entropy of ``softmax(logits)`` in nats, float32,
        ``[rows]`` each.
    """
    rows, width = logits.shape
    logits = logits.contiguous()
    found = logits.new_empty(2, rows, dtype=torch.float32)
    measure = _measure_bfloat16 if logits.dtype == torch.bfloat16 else _measure
    measure((logits, found), (rows, width))
    return found[0], found[1]


@OnThreads
def _measure(given: Any) -> None:
    rows, width = carray(given[0], 5, np.int64)[3:]
    logits = carray(given[1], (rows, width), np.float32)
    found = carray(given[2], (2, rows), np.float32)
    for row in range(*share_of(rows)):
        found[0, row], found[1, row] = _log_mass_and_entropy(logits[row])


@OnThreads
def _measure_bfloat16(given: Any) -> None:
    rows, width = carray(given[0], 5, np.int64)[3:]
    halves = carray(given[1], (rows, width), np.uint16)
    found = carray(given[2], (2, rows), np.float32)
    logits = np.empty(width, np.float32)
    for row in range(*share_of(rows)):
        for i in range(width):
            logits[i] = _from_bfloat16(halves[row, i])
        found[0, row], found[1, row] = _log_mass_and_entropy(logits)


@OnThreads
def _normalise(given: Any) -> None:
    rows, width = carray(given[0], 7, np.int64)[5:]
    hidden = carray(given[1], (rows, width), np.float32)
    weight = carray(given[2], width, np.float32)
    out = carray(given[3], (rows, width), np.float32)
    _normalise_rows(hidden, weight, out, carray(given[4], 1, np.float32)[0], share_of(rows))


@OnThreads
def _normalise_bfloat16(given: Any) -> None:
    rows, width = carray(given[0], 7, np.int64)[5:]
    hidden = carray(given[1], (rows, width), np.uint16)
    weight = carray(given[2], width, np.uint16)
    out = carray(given[3], (rows, width), np.uint16)
    _normalise_halves(hidden, weight, out, carray(given[4], 1, np.float32)[0], share_of(rows))


@compiled
def _normalise_rows(hidden: Any, weight: Any, out: Any, epsilon: Any, share: Any) -> None:
    width = len(weight)
    for row in range(*share):
        squares = np.float32(0)
        for i in range(width):
            squares += hidden[row, i] * hidden[row, i]
        factor = np.float32(1) / np.sqrt(squares / np.float32(width) + epsilon)
        for i in range(width):
            out[row, i] = weight[i] * (hidden[row, i] * factor)


@compiled
def _normalise_halves(hidden: Any, weight: Any, out: Any, epsilon: Any, share: Any) -> None:
    """As :func:`_normalise_rows`, of bfloat16: rounded before the weight and after it."""
    width = len(weight)
    for row in range(*share):
        squares = np.float32(0)
        for i in range(width):
            number = _from_bfloat16(hidden[row, i])
            squares += number * number
        factor = np.float32(1) / np.sqrt(squares / np.float32(width) + epsilon)
        for i in range(width):
            rounded = _to_bfloat16(_from_bfloat16(hidden[row, i]) * factor)
            out[row, i] = _to_bfloat16(_from_bfloat16(weight[i]) * _from_bfloat16(rounded))


@compiled
def _log_mass_and_entropy(logits: Any) -> tuple[Any, Any]:
    most = greatest(logits)
    mass, expected = np.float32(0), np.float32(0)
    for i in range(len(logits)):
        # Here too, so that a logit that is masked out adds nothing.
        below = at_least_smallest(logits[i] - most)
        weight = exp(below)
        mass += weight
        expected += weight * below
    return most + np.log(mass), np.log(mass) - expected / mass


@compiled
def _from_bfloat16(half: Any) -> Any:
    """It is the upper half of a float32."""
    return np.uint32(np.uint32(half) << np.uint32(16)).view(np.float32)


@compiled
def _to_bfloat16(x: Any) -> Any:
    """The nearest, of two equally near the even one; no number stays none."""
    bits = np.float32(x).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    none = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return np.uint16((np.uint32(0x7FC00000) if none else rounded) >> np.uint32(16))
