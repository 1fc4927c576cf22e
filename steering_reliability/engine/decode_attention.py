"""Attention of one new token per row, over no more keys than the row has.

Products of whole blocks, as torch offers them, read every row's masked room and each row's copy of
what all rows begin with, and decoding waits for memory. This reads a row's own keys, and what rows
have in common once. A row is computed by itself and in one order, so its bits depend on nothing
else.

Compiled by Numba at first use, which takes a few seconds, and kept on disk.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from llvmlite import binding, ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

from steering_reliability.engine.attention import KEY_STEP
from steering_reliability.engine.openmp import THREAD, THREADS, address_of, run_on_threads

# Sums may be vectorised, which takes them in another order; the order is fixed when compiled.
_ARITHMETIC = {"reassoc", "contract", "nsz", "arcp"}
_inlined = njit(fastmath=_ARITHMETIC, error_model="numpy", inline="always")
_thread = types.ExternalFunction(THREAD, types.int32())
_threads = types.ExternalFunction(THREADS, types.int32())
_CACHE_LINE = 64
# Natural logarithm of 2 in two parts, the first exact in float32 times any exponent.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOG2_E = np.float32(1.44269504088896341)


def decode_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: torch.Tensor,
    n_common: int,
    scale: float,
    softcap: float | None,
) -> torch.Tensor:
    """Attention of one token per row on a CPU, in float32.

    Args:
        query: ``[rows, heads, d_head]``.
        key: ``[blocks, rows, kv_heads, KEY_STEP, d_head]``; the first blocks and rows of what
            may be more.
        value: the same, of its own width ``d_value``.
        lengths: how many keys each row sees, from its first on, int64, ``[rows]``.
        n_common: how many of them are the same in all rows, and read from the first row.
        scale: the scores' factor.
        softcap: what scores are kept within by ``tanh``, if anything.

    Returns:
        ``[rows, heads, d_value]``.
    """
    rows, heads, d_head = query.shape
    blocks, _, kv_heads, _, d_value = value.shape
    slots = key.stride(0) // key.stride(1)
    out = query.new_empty(rows, heads, d_value)
    shape = (rows, blocks, slots, kv_heads, heads // kv_heads, d_head, d_value)
    sizes = np.array([n_common, *shape])
    factors = np.array([scale, softcap or 0.0], dtype=np.float32)
    held = [query.contiguous(), key, value, lengths.contiguous(), out]
    addresses = np.array([sizes.ctypes.data, factors.ctypes.data, *(t.data_ptr() for t in held)])
    run_on_threads(_compiled(), addresses.ctypes.data)
    return out


@cache
def _compiled() -> int:
    """Address of a thread's share of the work, as machine code."""
    for name in (THREAD, THREADS):
        binding.add_symbol(name, address_of(name))
    signature = types.void(types.CPointer(types.voidptr))
    return cfunc(signature, cache=True)(_share_of_thread).address


def _share_of_thread(addresses: Any) -> None:
    sizes = carray(addresses[0], 8, np.int64)
    n_common, rows, blocks, slots, kv_heads, groups, d_head, d_value = sizes
    scale, softcap = carray(addresses[1], 2, np.float32)
    thread, threads, items = _thread(), _threads(), rows * kv_heads
    _attend(
        carray(addresses[2], (rows, kv_heads, groups, d_head), np.float32),
        carray(addresses[3], (blocks, slots, kv_heads, KEY_STEP, d_head), np.float32),
        carray(addresses[4], (blocks, slots, kv_heads, KEY_STEP, d_value), np.float32),
        carray(addresses[5], rows, np.int64),
        carray(addresses[6], (rows, kv_heads, groups, d_value), np.float32),
        (n_common, scale, softcap),
        (items * thread // threads, items * (thread + 1) // threads),
    )


@njit(fastmath=_ARITHMETIC, error_model="numpy", cache=True)
def _attend(
    query: Any, keys: Any, values: Any, lengths: Any, out: Any, settings: Any, items: Any
) -> None:
    """Items, each a row and a key head with the queries that share it, one after the other."""
    n_common, scale, softcap = settings
    kv_heads, groups = query.shape[1:3]
    weights = np.empty((groups, keys.shape[0] * KEY_STEP), np.float32)
    for item in range(*items):
        row, head = item // kv_heads, item % kv_heads
        next_row, next_head = (item + 1) // kv_heads, (item + 1) % kv_heads
        n = lengths[row]
        for place in range(n):
            source = 0 if place < n_common else row
            block, inside = place // KEY_STEP, place % KEY_STEP
            for group in range(groups):
                total = np.float32(0)
                for i in range(query.shape[3]):
                    total += query[row, head, group, i] * keys[block, source, head, inside, i]
                weights[group, place] = total
            if place >= n_common:
                _fetch(values, block, row, head, inside)
        for group in range(groups):
            _softmax(weights[group], n, scale, softcap)
            for i in range(values.shape[4]):
                out[row, head, group, i] = 0
        for place in range(n):
            source = 0 if place < n_common else row
            block, inside = place // KEY_STEP, place % KEY_STEP
            for group in range(groups):
                weight = weights[group, place]
                for i in range(values.shape[4]):
                    out[row, head, group, i] += weight * values[block, source, head, inside, i]
            if place >= n_common and item + 1 < items[1]:
                _fetch(keys, block, next_row, next_head, inside)


@_inlined
def _fetch(held: Any, block: int, row: int, head: int, inside: int) -> None:
    """Let the processor get what is needed soon: by itself it waits at each row's beginning."""
    place = ((block * held.shape[1] + row) * held.shape[2] + head) * KEY_STEP + inside
    n_bytes = held.itemsize * held.shape[4]
    for ahead in range(0, n_bytes, _CACHE_LINE):
        _prefetch(held.ctypes.data + place * n_bytes + ahead)


@intrinsic
def _prefetch(_context: Any, _address: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> None:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        # To read, into the nearest cache, of data.
        how = number(0), number(3), number(1)
        builder.call(prefetch, [builder.inttoptr(arguments[0], pointer), *how])

    return types.void(types.uintp), generate


@_inlined
def _softmax(scores: Any, n: int, scale: Any, softcap: Any) -> None:
    for place in range(n):
        scores[place] *= scale
    if softcap > 0:
        for place in range(n):
            scores[place] = softcap * np.tanh(scores[place] / softcap)
    greatest = scores[0]
    for place in range(n):
        greatest = max(greatest, scores[place])
    mass = np.float32(0)
    for place in range(n):
        scores[place] = _exp(scores[place] - greatest)
        mass += scores[place]
    for place in range(n):
        scores[place] /= mass


@_inlined
def _exp(x: Any) -> Any:
    """e to the power of ``x``, 0 or less, to two units in the last place (Cephes; Moshier 1989).

    Unlike ``np.exp`` it is vectorised.
    """
    x = max(x, np.float32(-87.0))
    power = np.floor(x * _LOG2_E + np.float32(0.5))
    x -= power * _LN2_HIGH
    x -= power * _LN2_LOW
    y = np.float32(1.9875691500e-4)
    y = y * x + np.float32(1.3981999507e-3)
    y = y * x + np.float32(8.3334519073e-3)
    y = y * x + np.float32(4.1665795894e-2)
    y = y * x + np.float32(1.6666665459e-1)
    y = y * x + np.float32(5.0000001201e-1)
    y = y * x * x + x + np.float32(1.0)
    return y * np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)
