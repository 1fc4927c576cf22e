"""Measurements of logits, and where the greatest are, compiled by Numba for CPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import carray

from steering_reliability.engine.compiled import (
    at_least_smallest,
    compiled,
    compiled_in_order,
    exp,
    for_each_dtype,
    greatest,
    share_of,
    widened,
)

_LAST_PLACE = np.uint64(0xFFFFFFFF)


def log_masses(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Normaliser and entropy of every row of ``[rows, vocabulary]``, float32 or bfloat16.

    Returns:
        ``logits.logsumexp(-1)`` and the entropy of ``softmax(logits)`` in nats, float32,
        ``[rows]`` each.
    """
    rows, width = logits.shape
    logits = logits.contiguous()
    found = logits.new_empty(2, rows, dtype=torch.float32)
    _measure[logits.dtype]((logits, found), (rows, width))
    return found[0], found[1]


def places_of_greatest(logits: torch.Tensor) -> torch.Tensor:
    """``logits.argmax(-1)`` of ``[rows, vocabulary]``, float32 or bfloat16, the first of equals.

    Torch looks at a row's places one by one.
    """
    logits = logits.contiguous()
    places = logits.new_empty(len(logits), dtype=torch.int64)
    _find[logits.dtype]((logits, places), tuple(logits.shape))
    return places


@for_each_dtype
def _find(kind: Any) -> Callable[[Any], None]:
    def find(given: Any) -> None:
        rows, width = carray(given[0], 5, np.int64)[3:]
        logits = carray(given[1], (rows, width), kind)
        places = carray(given[2], rows, np.int64)
        for row in range(*share_of(rows)):
            places[row] = _place_of_greatest(logits[row])

    return find


@for_each_dtype
def _measure(kind: Any) -> Callable[[Any], None]:
    def measure(given: Any) -> None:
        rows, width = carray(given[0], 5, np.int64)[3:]
        logits = carray(given[1], (rows, width), kind)
        found = carray(given[2], (2, rows), np.float32)
        for row in range(*share_of(rows)):
            found[0, row], found[1, row] = _log_mass_and_entropy(logits[row])

    return measure


@compiled_in_order
def _place_of_greatest(numbers: Any) -> Any:
    """By whole numbers of the same order, each with its place, of which the first is greatest."""
    most = np.uint64(0)
    for i in range(len(numbers)):
        # The sum makes one of both zeros.
        bits = np.float32(widened(numbers[i]) + np.float32(0)).view(np.uint32)
        below_zero = np.uint32(0) - (bits >> np.uint32(31))
        order = bits ^ (below_zero | np.uint32(0x80000000))
        # As torch has it.
        if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
            order = np.uint32(0xFFFFFFFF)
        most = max(most, (np.uint64(order) << np.uint64(32)) | (_LAST_PLACE - np.uint64(i)))
    return np.int64(_LAST_PLACE - (most & _LAST_PLACE))


@compiled
def _log_mass_and_entropy(logits: Any) -> tuple[Any, Any]:
    most = greatest(logits)
    mass, expected = np.float32(0), np.float32(0)
    for i in range(len(logits)):
        # Here too, so that a logit that is masked out adds nothing.
        below = at_least_smallest(widened(logits[i]) - most)
        weight = exp(below)
        mass += weight
        expected += weight * below
    return most + np.log(mass), np.log(mass) - expected / mass
