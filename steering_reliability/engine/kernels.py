"""Attention, and the writing of a step's keys, compiled by Numba for CPUs.

Each token is computed by itself and in one order, so its bits depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import carray

from steering_reliability.engine.compiled import (
    OnThreads,
    as_factors,
    compiled,
    compiled_in_order,
    exp,
    for_each_dtype,
    greatest,
    narrowed,
    share_of,
    widened,
)
from steering_reliability.engine.runs import AT_ONCE, FLOAT_BYTES, mix_run, score_run


def attention_over_own_keys(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    row_of: torch.Tensor,
    lengths: torch.Tensor,
    n_common: int,
    scale: float,
    softcap: float | None,
) -> torch.Tensor:
    """Attention of tokens over no more keys than each of them sees, computed in float32.

    Products of whole blocks, as torch offers them, read every row's masked room and each row's
    copy of what all rows begin with, and wait for memory.

    Args:
        query: ``[tokens, heads, d_head]``, float32 or bfloat16.
        key: ``[blocks, rows, kv_heads, block length, d_head]``, float32 or bfloat16; the first
            blocks and rows of what may be more.
        value: the same, of its own width ``d_value``.
        row_of: which row each token belongs to, int64, ``[tokens]``.
        lengths: how many of its row's keys it sees, from the first on, int64, ``[tokens]``.
        n_common: how many keys are the same in all rows, and read from the first row.
        scale: the scores' factor.
        softcap: what scores are kept within by ``tanh``, if anything.

    Returns:
        ``[tokens, heads, d_value]``, in the query's dtype.
    """
    assert key.dtype == value.dtype in (torch.float32, torch.bfloat16)
    tokens, heads, d_head = query.shape
    blocks, _, kv_heads, block_length, d_value = value.shape
    slots = key.stride(0) // key.stride(1)
    groups = heads // kv_heads
    out = query.new_empty(tokens, heads, d_value)
    factors = as_factors(scale, softcap or 0.0)
    _attend[query.dtype](
        (query.contiguous(), key, value, row_of, lengths, out, factors),
        (
            tokens,
            blocks,
            slots,
            kv_heads,
            block_length,
            groups,
            d_head,
            d_value,
            n_common,
            key.itemsize,
        ),
    )
    return out


def write_tokens(
    held: tuple[torch.Tensor, torch.Tensor],
    states: tuple[torch.Tensor, torch.Tensor],
    block: torch.Tensor,
    place: torch.Tensor,
) -> None:
    """Put one token per row into a cache, as :func:`attention_over_own_keys` reads it.

    Args:
        held: keys and values of all slots, ``[blocks, slots, kv_heads, block length, d]``, float32,
            or bfloat16 where ``d`` is even.
        states: what is written into the first rows, ``[rows, kv_heads, d]`` each.
        block: into which block of each row, int64, ``[rows]``.
        place: at which place of the block, int64, ``[rows]``.
    """
    keys, values = (
        new.to(old.dtype).contiguous().view(torch.float32)
        for old, new in zip(held, states, strict=True)
    )
    # Two halves are copied as one float32.
    width = held[1].shape[4] * held[1].itemsize // FLOAT_BYTES
    numbers = (*held[1].shape[:4], width, keys.shape[2], len(keys))
    _write((*held, keys, values, block, place), numbers)


@for_each_dtype
def _attend(kind: Any) -> Callable[[Any], None]:
    def attend(given: Any) -> None:
        keys, values = carray(given[0], 4, np.int64)[2:]
        tokens, blocks, slots, kv_heads, block_length, groups = carray(given[0], 14, np.int64)[8:]
        d_head, d_value, n_common, held_bytes = carray(given[0], 18, np.int64)[14:]
        scale, softcap = carray(given[7], 2, np.float32)
        _attend_items(
            carray(given[1], (tokens * kv_heads, groups, d_head), kind),
            (keys, values, held_bytes),
            (carray(given[4], tokens, np.int64), carray(given[5], tokens, np.int64)),
            carray(given[6], (tokens * kv_heads, groups, d_value), kind),
            (blocks, slots, kv_heads, block_length, d_head, n_common),
            (scale, softcap),
            share_of(tokens * kv_heads),
        )

    return attend


@OnThreads
def _write(given: Any) -> None:
    numbers = carray(given[0], 14, np.int64)[7:]
    blocks, slots, kv_heads, block_length, d_value, d_head, rows = numbers
    block, place = carray(given[5], rows, np.int64), carray(given[6], rows, np.int64)
    share = share_of(rows)
    keys = carray(given[1], (blocks, slots, kv_heads, block_length, d_head), np.float32)
    new_keys = carray(given[3], (rows, kv_heads, d_head), np.float32)
    _write_rows(keys, new_keys, block, place, share)
    values = carray(given[2], (blocks, slots, kv_heads, block_length, d_value), np.float32)
    new_values = carray(given[4], (rows, kv_heads, d_value), np.float32)
    _write_rows(values, new_values, block, place, share)


@compiled_in_order
def _attend_items(
    query: Any, held: Any, seen: Any, out: Any, shape: Any, settings: Any, items: Any
) -> None:
    """Items, each a token and a key head with the queries that share it, one after the other."""
    keys, values, held_bytes = held
    row_of, lengths = seen
    groups, d_value = out.shape[1:]
    blocks, _, kv_heads, block_length, d_head, _ = shape
    room = blocks * block_length
    weights = np.empty((groups, room), np.float32)
    asked, mixed = np.empty((groups, d_head), np.float32), np.empty((groups, d_value), np.float32)
    for item in range(*items):
        row, head, n = row_of[item // kv_heads], item % kv_heads, lengths[item // kv_heads]
        next_item = min(item + 1, items[1] - 1)
        next_row, next_head = row_of[next_item // kv_heads], next_item % kv_heads
        for group in range(groups):
            for i in range(d_head):
                asked[group, i] = widened(query[item, group, i])
        place = 0
        while place < n:
            start, stop = _run_from(place, n, row, head, shape)
            for group in range(0, groups, AT_ONCE):
                score_run(
                    min(AT_ONCE, groups - group),
                    asked.ctypes.data + group * d_head * FLOAT_BYTES,
                    keys + start * d_head * held_bytes,
                    held_bytes,
                    stop - place,
                    d_head,
                    weights.ctypes.data + (group * room + place) * FLOAT_BYTES,
                    room,
                    values + start * d_value * held_bytes,
                )
            place = stop
        for group in range(groups):
            _soften(weights[group, :n], *settings)
        mixed[:] = 0
        place = 0
        while place < n:
            start, stop = _run_from(place, n, row, head, shape)
            next_start, _ = _run_from(place, n, next_row, next_head, shape)
            for group in range(0, groups, AT_ONCE):
                mix_run(
                    min(AT_ONCE, groups - group),
                    weights.ctypes.data + (group * room + place) * FLOAT_BYTES,
                    room,
                    values + start * d_value * held_bytes,
                    held_bytes,
                    stop - place,
                    d_value,
                    mixed.ctypes.data + group * d_value * FLOAT_BYTES,
                    keys + next_start * d_head * held_bytes,
                )
            place = stop
        for group in range(groups):
            for i in range(d_value):
                out[item, group, i] = narrowed(mixed[group, i], out[item, group, i])


@compiled
def _run_from(place: int, n: int, row: int, head: int, shape: Any) -> tuple[int, int]:
    """Where a cache holds a row's token, counted in vectors of one head, and where its run ends."""
    _, slots, kv_heads, block_length, _, n_common = shape
    block, inside = place // block_length, place % block_length
    stop = min(n, place - inside + block_length)
    if place < n_common:
        row, stop = 0, min(stop, n_common)
    return ((block * slots + row) * kv_heads + head) * block_length + inside, stop


@compiled
def _soften(weights: Any, scale: Any, softcap: Any) -> None:
    """Turn scores into their softmax."""
    n = len(weights)
    for place in range(n):
        weights[place] *= scale
    if softcap > 0:
        for place in range(n):
            weights[place] = softcap * np.tanh(weights[place] / softcap)
    most = greatest(weights)
    mass = np.float32(0)
    for place in range(n):
        weights[place] = exp(weights[place] - most)
        mass += weights[place]
    factor = np.float32(1) / mass
    for place in range(n):
        weights[place] *= factor


@compiled
def _write_rows(held: Any, states: Any, block: Any, place: Any, share: Any) -> None:
    for row in range(*share):
        for head in range(states.shape[1]):
            for i in range(states.shape[2]):
                held[block[row], row, head, place[row], i] = states[row, head, i]
