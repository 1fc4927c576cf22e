"""Attention, and the writing of a step's keys, compiled by Numba for CPUs.

Each token is computed by itself and in one order, so its bits depend on nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from steering_reliability.engine.compiled import OnThreads, as_factors, compiled, exp, share_of

_CACHE_LINE = 64


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
    """Attention of tokens over no more keys than each of them sees, in float32.

    Products of whole blocks, as torch offers them, read every row's masked room and each row's
    copy of what all rows begin with, and wait for memory.

    Args:
        query: ``[tokens, heads, d_head]``.
        key: ``[blocks, rows, kv_heads, block length, d_head]``; the first blocks and rows of what
            may be more.
        value: the same, of its own width ``d_value``.
        row_of: which row each token belongs to, int64, ``[tokens]``.
        lengths: how many of its row's keys it sees, from the first on, int64, ``[tokens]``.
        n_common: how many keys are the same in all rows, and read from the first row.
        scale: the scores' factor.
        softcap: what scores are kept within by ``tanh``, if anything.

    Returns:
        ``[tokens, heads, d_value]``.
    """
    tokens, heads, d_head = query.shape
    blocks, _, kv_heads, block_length, d_value = value.shape
    slots = key.stride(0) // key.stride(1)
    groups = heads // kv_heads
    out = query.new_empty(tokens, heads, d_value)
    factors = as_factors(scale, softcap or 0.0)
    _attend(
        (query.contiguous(), key, value, row_of, lengths, out, factors),
        (tokens, blocks, slots, kv_heads, block_length, groups, d_head, d_value, n_common),
    )
    return out


def write_tokens(
    held: tuple[torch.Tensor, torch.Tensor],
    states: tuple[torch.Tensor, torch.Tensor],
    block: torch.Tensor,
    place: torch.Tensor,
) -> None:
    """Put one token per row into a cache, as :func:`decode_attention` reads it.

    Args:
        held: keys and values of all slots, ``[blocks, slots, kv_heads, block length, d]``, float32.
        states: what is written into the first rows, ``[rows, kv_heads, d]`` each.
        block: into which block of each row, int64, ``[rows]``.
        place: at which place of the block, int64, ``[rows]``.
    """
    keys, values = (new.to(old.dtype).contiguous() for old, new in zip(held, states, strict=True))
    _write((*held, keys, values, block, place), (*held[1].shape, keys.shape[2], len(keys)))


@OnThreads
def _attend(given: Any) -> None:
    numbers = carray(given[0], 17, np.int64)[8:]
    tokens, blocks, slots, kv_heads, block_length, groups, d_head, d_value, n_common = numbers
    scale, softcap = carray(given[7], 2, np.float32)
    _attend_items(
        carray(given[1], (tokens, kv_heads, groups, d_head), np.float32),
        carray(given[2], (blocks, slots, kv_heads, block_length, d_head), np.float32),
        carray(given[3], (blocks, slots, kv_heads, block_length, d_value), np.float32),
        (carray(given[4], tokens, np.int64), carray(given[5], tokens, np.int64)),
        carray(given[6], (tokens, kv_heads, groups, d_value), np.float32),
        (n_common, scale, softcap),
        share_of(tokens * kv_heads),
    )


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


@compiled
def _attend_items(
    query: Any, keys: Any, values: Any, seen: Any, out: Any, settings: Any, items: Any
) -> None:
    """Items, each a token and a key head with the queries that share it, one after the other.

    Places are taken two at once, so that one's sum need not wait for the other's.
    """
    row_of, lengths = seen
    n_common, scale, softcap = settings
    kv_heads, groups = query.shape[1:3]
    block_length = keys.shape[3]
    weights = np.empty((groups, keys.shape[0] * block_length + 1), np.float32)
    greatest, mass = np.empty(groups, np.float32), np.empty(groups, np.float32)
    for item in range(*items):
        token, head = item // kv_heads, item % kv_heads
        after_it = min(item + 1, items[1] - 1)
        row, n = row_of[token], lengths[token]
        next_row, next_head = row_of[after_it // kv_heads], after_it % kv_heads
        greatest[:] = -np.inf
        for place in range(0, n, 2):
            after = min(place + 1, n - 1)
            a, i, u = _where(place, row, n_common, block_length)
            b, j, v = _where(after, row, n_common, block_length)
            for group in range(groups):
                score, score_after = np.float32(0), np.float32(0)
                for d in range(query.shape[3]):
                    score += query[token, head, group, d] * keys[a, i, head, u, d]
                    score_after += query[token, head, group, d] * keys[b, j, head, v, d]
                score, score_after = score * scale, score_after * scale
                if softcap > 0:
                    score = softcap * np.tanh(score / softcap)
                    score_after = softcap * np.tanh(score_after / softcap)
                weights[group, place], weights[group, after] = score, score_after
                greatest[group] = max(greatest[group], max(score, score_after))
            if after >= n_common:
                _fetch(values, a, row, head, u)
                _fetch(values, b, row, head, v)
        for group in range(groups):
            total = np.float32(0)
            for place in range(n):
                weights[group, place] = exp(weights[group, place] - greatest[group])
                total += weights[group, place]
            # Beside the last place of an odd number.
            weights[group, n] = 0
            mass[group] = total
            for d in range(values.shape[4]):
                out[token, head, group, d] = 0
        for place in range(0, n, 2):
            after = min(place + 1, n - 1)
            a, i, u = _where(place, row, n_common, block_length)
            b, j, v = _where(after, row, n_common, block_length)
            for group in range(groups):
                weight = weights[group, place] / mass[group]
                weight_after = weights[group, place + 1] / mass[group]
                for d in range(values.shape[4]):
                    mixed = weight * values[a, i, head, u, d]
                    out[token, head, group, d] += mixed + weight_after * values[b, j, head, v, d]
            if after >= n_common:
                _fetch(keys, a, next_row, next_head, u)
                _fetch(keys, b, next_row, next_head, v)


@compiled
def _where(place: int, row: int, n_common: int, block_length: int) -> tuple[int, int, int]:
    """Block, row and place in the block at which a cache holds a row's token."""
    return place // block_length, 0 if place < n_common else row, place % block_length


@compiled
def _write_rows(held: Any, states: Any, block: Any, place: Any, share: Any) -> None:
    for row in range(*share):
        for head in range(states.shape[1]):
            for i in range(states.shape[2]):
                held[block[row], row, head, place[row], i] = states[row, head, i]


@compiled
def _fetch(held: Any, block: int, row: int, head: int, inside: int) -> None:
    """Let the processor get what is needed soon: by itself it waits at each row's beginning."""
    place = ((block * held.shape[1] + row) * held.shape[2] + head) * held.shape[3] + inside
    n_bytes = held.itemsize * held.shape[4]
    for ahead in range(0, n_bytes, _CACHE_LINE):
        _prefetch(held.ctypes.data + place * n_bytes + ahead)


@intrinsic
def _prefetch(_context: Any, _address: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> None:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        # To read data, into the second cache: for the first one fewer lines can be under way.
        how = number(0), number(2), number(1)
        builder.call(prefetch, [builder.inttoptr(arguments[0], pointer), *how])

    return types.void(types.uintp), generate
