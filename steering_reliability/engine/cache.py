"""Preallocated key/value slots, written in place, every row starting at position 0."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from steering_reliability.engine.attention import KEY_STEP, round_up_keys
from steering_reliability.engine.openmp import has_threads

_CACHE_LINE = 64


@dataclass(frozen=True)
class Prefix:
    """Keys and values of a prompt's tokens, one pair per layer, ``[kv_heads, n, d_head]``."""

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]

    @property
    def length(self) -> int:
        """Tokens."""
        return self.keys[0].shape[1] if self.keys else 0

    @property
    def n_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))


EMPTY = Prefix((), ())


class _SlotLayer(CacheLayerMixin):
    """A layer's slots, allocated at first use.

    Both are ``[blocks, slots, kv_heads, KEY_STEP, d_head]``. On a CPU float16 is held in float32,
    and so is bfloat16, unless compiled code reads it: torch's small products are slow in both.
    """

    is_sliding = False

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        # Not owned: a cycle would keep gigabytes of slots until the garbage collector comes by.
        self._cache = weakref.proxy(cache)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        blocks, slots = self._cache.max_length // KEY_STEP, self._cache.slots
        _, kv_heads, _, d_key = key_states.shape
        held = (blocks, slots, kv_heads, KEY_STEP)
        widths = d_key, value_states.shape[3]
        dtype = self._cache.held_dtype(key_states.dtype, widths)
        self.keys, self.values = (
            _zeros((*held, width), dtype, key_states.device) for width in widths
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        cache = self._cache
        rows, queries = key_states.shape[0], key_states.shape[2]
        if queries == 1:
            self._write_tokens((key_states[:, :, 0], value_states[:, :, 0]))
        else:
            start = cache.prefill_start
            for number, inside, outside in _segments(start, start + queries):
                self.keys[number, :rows, :, inside] = key_states[:, :, outside]
                self.values[number, :rows, :, inside] = value_states[:, :, outside]
        blocks = cache.n_keys // KEY_STEP
        return self.keys[:blocks, :rows], self.values[:blocks, :rows]

    def _write_tokens(self, states: tuple[torch.Tensor, torch.Tensor]) -> None:
        assert self.keys is not None
        assert self.values is not None
        cache, held = self._cache, (self.keys, self.values)
        block, place = cache.written
        if cache.is_compiled:
            # Here, since compiled code takes a while to load.
            from steering_reliability.engine.kernels import write_tokens

            write_tokens(held, states, block, place)
            return
        for old, new in zip(held, states, strict=True):
            old[block, cache.row_index[: len(new)], :, place] = new.to(old.dtype)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._cache.n_keys, 0

    def get_seq_length(self) -> int:
        return self._cache.n_keys

    def get_max_length(self) -> int:
        return self._cache.max_length


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Not empty: a masked key of weight 0 times NaN would still be NaN."""
    if device.type == "cpu":
        # Unlike torch's, these take memory, and time, only where something is written.
        n_bytes = math.prod(shape) * dtype.itemsize
        room = np.zeros(n_bytes + _CACHE_LINE, dtype=np.uint8)
        start = -room.ctypes.data % _CACHE_LINE
        return torch.from_numpy(room[start : start + n_bytes]).view(dtype).view(shape)
    return torch.zeros(shape, dtype=dtype, device=device)


def _segments(start: int, stop: int) -> Iterator[tuple[int, slice, slice]]:
    """Positions by block: its number, where they are in the block, and where from ``start`` on."""
    for block in range(start // KEY_STEP, -(-stop // KEY_STEP)):
        first = block * KEY_STEP
        begin, end = max(start, first), min(stop, first + KEY_STEP)
        yield block, slice(begin - first, end - first), slice(begin - start, end - start)


class SlotCache(Cache):
    """Keys and values of all rows, through transformers' own ``Cache`` interface.

    Before each forward ``begin`` says where the rows write and how many keys are read; several
    tokens of the first rows are written from ``prefill_start`` on. What a layer's ``update``
    returns is for :func:`slot_attention` alone: blocks of positions, each of which lies together
    in memory.

    Args:
        n_layers: blocks of the model.
        slots: rows.
        max_length: room per row in tokens; rounded up to the key step.
        device: where the model is.

    Attributes:
        is_compiled: whether :mod:`.kernels` write a step's keys and attend.
        n_common: how many positions all rows of the pass begin with alike; where code is compiled,
            the first row alone need hold them.
    """

    def __init__(self, n_layers: int, slots: int, max_length: int, device: torch.device) -> None:
        self.slots = slots
        self.max_length = round_up_keys(max_length)
        self.row_index = torch.arange(slots, device=device)
        self.positions = torch.zeros(slots, dtype=torch.long, device=device)
        # What rows begin with, None where nothing has entered one yet, and what they hold of it.
        self._beginnings: list[Prefix | None] = [None] * slots
        self._held_beginnings = [EMPTY] * slots
        self.prefill_start = 0
        self.n_common = 0
        self.n_keys = self.max_length
        self.written = self.positions, self.positions
        self.is_compiled = has_threads(device)
        super().__init__(layers=[_SlotLayer(self) for _ in range(n_layers)])

    def begin(self, positions: torch.Tensor) -> int:
        """Prepare a pass over tokens at ``positions``, ``[rows, queries]``, of the first rows.

        Returns:
            How many keys, from the first one on, no row hides; a multiple of ``KEY_STEP``.
        """
        first, last = (int(bound) for bound in torch.aminmax(positions))
        if last >= self.max_length:
            # Compiled code would write there.
            raise IndexError(f"position {last} in slots of {self.max_length}")
        self.n_keys = round_up_keys(last + 1)
        self.written = positions[:, 0] // KEY_STEP, positions[:, 0] % KEY_STEP
        self.n_common = self._hold_beginnings(len(positions))
        return (first + 1) // KEY_STEP * KEY_STEP

    def read(self, row: int, start: int, stop: int) -> Prefix:
        """A copy of what a row holds for the positions from ``start`` up to ``stop``."""

        def held(tensor: torch.Tensor) -> torch.Tensor:
            parts = [tensor[block, row, :, inside] for block, inside, _ in _segments(start, stop)]
            return torch.cat(parts, dim=1)

        return Prefix(
            tuple(held(layer.keys) for layer in self._used()),
            tuple(held(layer.values) for layer in self._used()),
        )

    def write(self, row: int, start: int, prefix: Prefix) -> None:
        """Put a prefix into a row, from position ``start`` on."""
        segments = list(_segments(start, start + prefix.length))
        rooms, computed = [], []
        for layer, keys, values in zip(self.layers, prefix.keys, prefix.values, strict=False):
            if not layer.is_initialized:
                layer.lazy_initialization(keys[None], values[None])
            for held, states in ((layer.keys, keys), (layer.values, values)):
                rooms += [held[block, row, :, inside] for block, inside, _ in segments]
                computed += [states[:, outside] for _, _, outside in segments]
        if rooms:
            torch._foreach_copy_(rooms, computed)

    def held_dtype(self, dtype: torch.dtype, widths: Sequence[int]) -> torch.dtype:
        """In what a model's keys and values are held."""
        if self.row_index.device.type != "cpu":
            return dtype
        # Compiled code writes pairs of halves.
        in_halves = self.is_compiled and not any(width % 2 for width in widths)
        return dtype if dtype == torch.bfloat16 and in_halves else torch.float32

    def set_beginning(self, row: int, prefix: Prefix) -> None:
        """Let a row begin with what others begin with, from the next pass on."""
        self._beginnings[row] = prefix
        if self._held_beginnings[row] is not prefix:
            # What is the row's own may be written over what it held.
            self._held_beginnings[row] = EMPTY

    def _hold_beginning(self, row: int) -> None:
        prefix = self._beginnings[row]
        if prefix is not None and self._held_beginnings[row] is not prefix:
            self.write(row, 0, prefix)
            self._held_beginnings[row] = prefix

    def _hold_beginnings(self, rows: int) -> int:
        """Put into the first rows what they begin with, as far as it is read there.

        Compiled code reads what all begin with from the first row alone; rows that nothing has
        entered yet begin with anything.

        Returns:
            How many positions those are.
        """
        first = self._beginnings[0]
        alike = all(other is first or other is None for other in self._beginnings[:rows])
        for row in range(1 if alike and self.is_compiled else rows):
            self._hold_beginning(row)
        return first.length if alike and first is not None else 0

    def park(self, row: int) -> None:
        """Let an empty row, which is stepped too, write after its beginning: there it costs few
        keys and spoils nothing."""
        self.positions[row] = (self._beginnings[row] or EMPTY).length

    def move_row(self, source: int, target: int) -> None:
        """Copy one row to another."""
        self._beginnings[target] = self._beginnings[source]
        self._held_beginnings[target] = self._held_beginnings[source]
        for tensor in self._tensors():
            tensor[:, target] = tensor[:, source]

    def empty_rows(self, rows: slice) -> None:
        """Forget rows, such as one that overflowed (float16, a huge alpha).

        What stays behind is masked, but would still reach the row's next completion: a weight of
        0 times infinity is no number.
        """
        for row in range(self.slots)[rows]:
            self._beginnings[row], self._held_beginnings[row] = None, EMPTY
        for tensor in self._tensors():
            tensor[:, rows] = 0

    def _tensors(self) -> list[torch.Tensor]:
        return [tensor for layer in self._used() for tensor in (layer.keys, layer.values)]

    def _used(self) -> list[Any]:
        return [layer for layer in self.layers if layer.is_initialized]


class Sized(Protocol):
    """What takes up memory."""

    @property
    def n_bytes(self) -> int: ...


Computed = TypeVar("Computed", bound=Sized)


class PrefixStore(Generic[Computed]):
    """Computed prefixes, the least recently used dropped beyond a budget in bytes."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._held = 0
        self._prefixes: OrderedDict[Hashable, Computed] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], Computed]) -> Computed:
        """The prefix of that key, computed now if it isn't held."""
        if key in self._prefixes:
            self._prefixes.move_to_end(key)
            return self._prefixes[key]
        prefix = compute()
        self.put(key, prefix)
        return prefix

    def put(self, key: Hashable, prefix: Computed) -> None:
        """Hold a prefix that wasn't."""
        self._prefixes[key] = prefix
        self._held += prefix.n_bytes
        while self._held > self._budget and len(self._prefixes) > 1:
            _, dropped = self._prefixes.popitem(last=False)
            self._held -= dropped.n_bytes

    def __contains__(self, key: Hashable) -> bool:
        return key in self._prefixes
