"""What decoding on a CPU waits for most beside the matrix products, compiled by Numba.

Each row is computed by itself and in one order, so its bits depend on nothing else. Compiled at
first use, which takes a few seconds, and kept on disk until this file changes; so what is compiled
takes all it needs from this file or as an argument.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from llvmlite import binding, ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

from steering_reliability.engine.openmp import THREAD, THREADS, address_of, run_on_threads

# Sums may be vectorised, which takes them in another order; the order is fixed when compiled.
_compiled = njit(fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
_thread = types.ExternalFunction(THREAD, types.int32())
_threads = types.ExternalFunction(THREADS, types.int32())
_CACHE_LINE = 64
_LANES = 64
# Natural logarithm of 2 in two parts, the first exact in float32 times any exponent.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOG2_E = np.float32(1.44269504088896341)
# Its exponential is about float32's smallest.
_SMALLEST = np.float32(-87.0)


def decode_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: torch.Tensor,
    n_common: int,
    scale: float,
    softcap: float | None,
) -> torch.Tensor:
    """Attention of one token per row, over no more keys than the row has, in float32.

    Products of whole blocks, as torch offers them, read every row's masked room and each row's
    copy of what all rows begin with, and wait for memory.

    Args:
        query: ``[rows, heads, d_head]``.
        key: ``[blocks, rows, kv_heads, block length, d_head]``; the first blocks and rows of what
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
    blocks, _, kv_heads, block_length, d_value = value.shape
    slots = key.stride(0) // key.stride(1)
    out = query.new_empty(rows, heads, d_value)
    _attend(
        (query.contiguous(), key, value, lengths, out, _factors(scale, softcap)),
        (rows, blocks, slots, kv_heads, block_length, heads // kv_heads, d_head, d_value, n_common),
    )
    return out


@cache
def _factors(scale: float, softcap: float | None) -> torch.Tensor:
    return torch.tensor([scale, softcap or 0.0], dtype=torch.float32, device="cpu")


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


class _OnThreads:
    """A function that every one of torch's threads calls, for its share of the work.

    Args:
        function: gets one array: its own address, those of tensors, and then numbers that are no
            addresses. One, since the interpreter is slow between two matrix products, which leave
            little of it in the processor's caches.
    """

    def __init__(self, function: Callable[[Any], None]) -> None:
        self._function = function

    @cached_property
    def _address(self) -> int:
        for name in (THREAD, THREADS):
            binding.add_symbol(name, address_of(name))
        signature = types.void(types.CPointer(types.voidptr))
        try:
            return cfunc(signature, cache=True)(self._function).address
        except (RuntimeError, OSError):
            # Where nothing can be written, it is compiled each time.
            return cfunc(signature)(self._function).address

    def __call__(self, tensors: Sequence[torch.Tensor], numbers: Sequence[int]) -> None:
        given = array("q", [0, *(tensor.data_ptr() for tensor in tensors), *numbers])
        given[0], _ = given.buffer_info()
        run_on_threads(self._address, given[0])


@_OnThreads
def _attend(given: Any) -> None:
    numbers = carray(given[0], 16, np.int64)[7:]
    rows, blocks, slots, kv_heads, block_length, groups, d_head, d_value, n_common = numbers
    scale, softcap = carray(given[6], 2, np.float32)
    _attend_items(
        carray(given[1], (rows, kv_heads, groups, d_head), np.float32),
        carray(given[2], (blocks, slots, kv_heads, block_length, d_head), np.float32),
        carray(given[3], (blocks, slots, kv_heads, block_length, d_value), np.float32),
        carray(given[4], rows, np.int64),
        carray(given[5], (rows, kv_heads, groups, d_value), np.float32),
        (n_common, scale, softcap),
        _share_of(rows * kv_heads),
    )


@_OnThreads
def _write(given: Any) -> None:
    numbers = carray(given[0], 14, np.int64)[7:]
    blocks, slots, kv_heads, block_length, d_value, d_head, rows = numbers
    block, place = carray(given[5], rows, np.int64), carray(given[6], rows, np.int64)
    share = _share_of(rows)
    keys = carray(given[1], (blocks, slots, kv_heads, block_length, d_head), np.float32)
    new_keys = carray(given[3], (rows, kv_heads, d_head), np.float32)
    _write_rows(keys, new_keys, block, place, share)
    values = carray(given[2], (blocks, slots, kv_heads, block_length, d_value), np.float32)
    new_values = carray(given[4], (rows, kv_heads, d_value), np.float32)
    _write_rows(values, new_values, block, place, share)


@_OnThreads
def _measure(given: Any) -> None:
    rows, width = carray(given[0], 5, np.int64)[3:]
    logits = carray(given[1], (rows, width), np.float32)
    found = carray(given[2], (2, rows), np.float32)
    for row in range(*_share_of(rows)):
        found[0, row], found[1, row] = _log_mass_and_entropy(logits[row])


@_OnThreads
def _measure_bfloat16(given: Any) -> None:
    rows, width = carray(given[0], 5, np.int64)[3:]
    halves = carray(given[1], (rows, width), np.uint16)
    found = carray(given[2], (2, rows), np.float32)
    logits = np.empty(width, np.float32)
    for row in range(*_share_of(rows)):
        for i in range(width):
            # It is the upper half of a float32.
            logits[i] = np.uint32(np.uint32(halves[row, i]) << np.uint32(16)).view(np.float32)
        found[0, row], found[1, row] = _log_mass_and_entropy(logits)


@_compiled
def _share_of(n: int) -> tuple[int, int]:
    """Which of ``n`` items this thread is to work on: the first, and one beyond the last."""
    thread, threads = _thread(), _threads()
    return n * thread // threads, n * (thread + 1) // threads


@_compiled
def _attend_items(
    query: Any, keys: Any, values: Any, lengths: Any, out: Any, settings: Any, items: Any
) -> None:
    """Items, each a row and a key head with the queries that share it, one after the other."""
    n_common, scale, softcap = settings
    kv_heads, groups = query.shape[1:3]
    block_length = keys.shape[3]
    weights = np.empty((groups, keys.shape[0] * block_length), np.float32)
    greatest, mass = np.empty(groups, np.float32), np.empty(groups, np.float32)
    for item in range(*items):
        row, head = item // kv_heads, item % kv_heads
        next_row, next_head = (item + 1) // kv_heads, (item + 1) % kv_heads
        n = lengths[row]
        greatest[:] = -np.inf
        for place in range(n):
            source = 0 if place < n_common else row
            block, inside = place // block_length, place % block_length
            for group in range(groups):
                score = np.float32(0)
                for i in range(query.shape[3]):
                    score += query[row, head, group, i] * keys[block, source, head, inside, i]
                score *= scale
                if softcap > 0:
                    score = softcap * np.tanh(score / softcap)
                weights[group, place] = score
                greatest[group] = max(greatest[group], score)
            if place >= n_common:
                _fetch(values, block, row, head, inside)
        for group in range(groups):
            total = np.float32(0)
            for place in range(n):
                weights[group, place] = _exp(weights[group, place] - greatest[group])
                total += weights[group, place]
            mass[group] = total
            for i in range(values.shape[4]):
                out[row, head, group, i] = 0
        for place in range(n):
            source = 0 if place < n_common else row
            block, inside = place // block_length, place % block_length
            for group in range(groups):
                weight = weights[group, place] / mass[group]
                for i in range(values.shape[4]):
                    out[row, head, group, i] += weight * values[block, source, head, inside, i]
            if place >= n_common and item + 1 < items[1]:
                _fetch(keys, block, next_row, next_head, inside)


@_compiled
def _write_rows(held: Any, states: Any, block: Any, place: Any, share: Any) -> None:
    for row in range(*share):
        for head in range(states.shape[1]):
            for i in range(states.shape[2]):
                held[block[row], row, head, place[row], i] = states[row, head, i]


@_compiled
def _log_mass_and_entropy(logits: Any) -> tuple[Any, Any]:
    greatest = _greatest(logits)
    mass, expected = np.float32(0), np.float32(0)
    for i in range(len(logits)):
        # Here too, so that a logit that is masked out adds nothing.
        below = _at_least_smallest(logits[i] - greatest)
        weight = _exp(below)
        mass += weight
        expected += weight * below
    return greatest + np.log(mass), np.log(mass) - expected / mass


@_compiled
def _greatest(numbers: Any) -> Any:
    """In lanes: one after the other, each comparison waits for the one before."""
    n = len(numbers)
    lanes = np.full(_LANES, numbers[0])
    for start in range(0, n // _LANES * _LANES, _LANES):
        for lane in range(_LANES):
            number = numbers[start + lane]
            lanes[lane] = number if number > lanes[lane] else lanes[lane]
    greatest = lanes.max()
    for i in range(n // _LANES * _LANES, n):
        greatest = max(greatest, numbers[i])
    return greatest


@_compiled
def _at_least_smallest(x: Any) -> Any:
    """What :func:`_exp` is taken of; no number stays none."""
    return _SMALLEST if x < _SMALLEST else x


@_compiled
def _exp(x: Any) -> Any:
    """e to the power of ``x``, float32, 0 or less, to five units in the last place.

    Unlike ``np.exp`` it is vectorised (Cephes' ``expf``; Moshier 1989).
    """
    x = _at_least_smallest(x)
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


@_compiled
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
