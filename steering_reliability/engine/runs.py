"""Dot products with runs of keys and weighted sums of runs of values, in the processor's vectors.

LLVM doesn't find by itself how to keep sums in registers here, since the width of a head and how
many queries share a key are known only when the code runs. So the vectors are written out, for
Numba's code to call. A sum's order depends on the width of a head alone: not on how long a run is,
where it begins, or which queries are computed together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

AT_ONCE = 3
"""Queries that are computed together at most, for sums to fit into sixteen registers."""

FLOAT_BYTES, HALF_BYTES = 4, 2

_LANES = 16
_KEYS_AT_ONCE = 2
_CACHE_LINE = 64
_FLOAT, _INT = ir.FloatType(), ir.IntType(64)


@intrinsic
def score_run(
    _context: Any,
    count: Any,
    query: Any,
    keys: Any,
    key_bytes: Any,
    n: Any,
    width: Any,
    out: Any,
    stride: Any,
    ahead: Any,
) -> Any:
    """Products of some queries with a run of keys.

    Args:
        count: how many queries, from 1 to `AT_ONCE`; of any other number nothing is computed.
        query: address of ``[count, width]``, float32.
        keys: address of ``[n, width]``.
        key_bytes: of a key's numbers: `FLOAT_BYTES` for float32, `HALF_BYTES` for bfloat16.
        n: length of the run.
        width: of a head.
        out: address of ``[count, stride]``, float32; the first ``n`` of each row are written.
        stride: see ``out``.
        ahead: address of what the processor is to fetch meanwhile, as much as ``keys`` are; no
            more than fetched, so it may be anything.
    """

    def generate(_context: Any, builder: Any, _signature: Any, given: Any) -> None:
        count, query, keys, key_bytes, n, width, out, stride, ahead = given
        _for_each_kind(
            builder,
            count,
            key_bytes,
            lambda emit, n_queries: emit.scores(
                n_queries, query, keys, n, width, out, stride, ahead
            ),
        )

    return types.void(*[types.int64] * 9), generate


@intrinsic
def mix_run(
    _context: Any,
    count: Any,
    weights: Any,
    stride: Any,
    values: Any,
    value_bytes: Any,
    n: Any,
    width: Any,
    out: Any,
    ahead: Any,
) -> Any:
    """Add the weighted sums of a run of values.

    Args:
        count: how many sums, from 1 to `AT_ONCE`; of any other number nothing is computed.
        weights: address of ``[count, stride]``, float32; the first ``n`` of each row are read.
        stride: see ``weights``.
        values: address of ``[n, width]``.
        value_bytes: of a value's numbers: `FLOAT_BYTES` for float32, `HALF_BYTES` for bfloat16.
        n: length of the run.
        width: of a head.
        out: address of ``[count, width]``, float32; added to.
        ahead: address of what the processor is to fetch meanwhile, as much as ``values`` are; no
            more than fetched, so it may be anything.
    """

    def generate(_context: Any, builder: Any, _signature: Any, given: Any) -> None:
        count, weights, stride, values, value_bytes, n, width, out, ahead = given
        _for_each_kind(
            builder,
            count,
            value_bytes,
            lambda emit, n_sums: emit.mix(n_sums, weights, stride, values, n, width, out, ahead),
        )

    return types.void(*[types.int64] * 9), generate


def _for_each_kind(
    builder: Any, count: Any, n_bytes: Any, write: Callable[[_Emitter, int], None]
) -> None:
    """Write code for each number of queries and each size of what is held."""
    for n_queries in range(1, AT_ONCE + 1):
        for size in (FLOAT_BYTES, HALF_BYTES):
            is_count = builder.icmp_signed("==", count, _INT(n_queries))
            is_size = builder.icmp_signed("==", n_bytes, _INT(size))
            with builder.if_then(builder.and_(is_count, is_size)):
                write(_Emitter(builder, size), n_queries)


class _Emitter:
    """Writes LLVM's code.

    Args:
        builder: takes the code.
        held_bytes: of a number among keys or values.
    """

    def __init__(self, builder: Any, held_bytes: int) -> None:
        self._builder = builder
        self._held_bytes = held_bytes

    def scores(
        self,
        count: int,
        query: Any,
        keys: Any,
        n: Any,
        width: Any,
        out: Any,
        stride: Any,
        ahead: Any,
    ) -> None:
        """See :func:`score_run`."""
        paired = self._builder.and_(n, _INT(-_KEYS_AT_ONCE))
        queries = [self._at(query, width, g) for g in range(count)]
        rows = [self._at(out, stride, g) for g in range(count)]
        for start, stop, n_keys in ((_INT(0), paired, _KEYS_AT_ONCE), (paired, n, 1)):
            with self._loop(start, stop, n_keys) as place:
                first = self._builder.mul(place, width)
                starts = [
                    self._builder.add(first, self._builder.mul(width, _INT(k)))
                    for k in range(n_keys)
                ]
                sums = self._dots(queries, [self._held_at(keys, there) for there in starts], width)
                for k, totals in enumerate(sums):
                    for row, total in zip(rows, totals, strict=True):
                        self._store(total, self._at(row, self._builder.add(place, _INT(k))))
                    self._fetch(self._held_at(ahead, starts[k]), width)

    def mix(
        self,
        count: int,
        weights: Any,
        stride: Any,
        values: Any,
        n: Any,
        width: Any,
        out: Any,
        ahead: Any,
    ) -> None:
        """See :func:`mix_run`."""
        with self._loop(_INT(0), n, 1) as place:
            self._fetch(self._held_at(ahead, self._builder.mul(place, width)), width)
        rows = [self._at(weights, stride, g) for g in range(count)]
        targets = [self._at(out, width, g) for g in range(count)]
        for start, stop, lanes in self._by_lanes(width):
            with self._loop(start, stop, lanes) as first:
                sums = [self._variable(self._load(self._at(t, first), lanes)) for t in targets]
                with self._loop(_INT(0), n, 1) as place:
                    inside = self._builder.add(self._builder.mul(place, width), first)
                    value = self._load_held(self._held_at(values, inside), lanes)
                    for row, total in zip(rows, sums, strict=True):
                        weight = self._load(self._at(row, place), 1)
                        self._add_product(total, self._spread(weight, lanes), value)
                for target, total in zip(targets, sums, strict=True):
                    self._store(self._builder.load(total), self._at(target, first))

    def _dots(self, queries: Sequence[Any], keys: Sequence[Any], width: Any) -> list[list[Any]]:
        """Dot products of what begins at these addresses, ``[key][query]``."""
        found = [[_FLOAT(0.0) for _ in queries] for _ in keys]
        for start, stop, lanes in self._by_lanes(width):
            nothing = _floats(lanes)(None)
            sums = [[self._variable(nothing) for _ in queries] for _ in keys]
            with self._loop(start, stop, lanes) as first:
                asked = [self._load(self._at(query, first), lanes) for query in queries]
                for key, totals in zip(keys, sums, strict=True):
                    held = self._load_held(self._held_at(key, first), lanes)
                    for query, total in zip(asked, totals, strict=True):
                        self._add_product(total, query, held)
            for sums_of_key, totals in zip(found, sums, strict=True):
                for g, total in enumerate(totals):
                    part = self._sum(self._builder.load(total), lanes)
                    sums_of_key[g] = self._builder.fadd(sums_of_key[g], part)
        return found

    def _by_lanes(self, width: Any) -> Iterator[tuple[Any, Any, int]]:
        """From where to where vectors of how many lanes go; what is left is taken singly."""
        whole = self._builder.and_(width, _INT(-_LANES))
        yield _INT(0), whole, _LANES
        yield whole, width, 1

    @contextmanager
    def _loop(self, start: Any, stop: Any, step: int) -> Iterator[Any]:
        with cgutils.for_range_slice(self._builder, start, stop, _INT(step)) as (index, _):
            yield index

    def _at(self, address: Any, place: Any, times: int = 1) -> Any:
        return self._builder.add(address, self._builder.mul(place, _INT(FLOAT_BYTES * times)))

    def _held_at(self, address: Any, place: Any) -> Any:
        return self._builder.add(address, self._builder.mul(place, _INT(self._held_bytes)))

    def _load(self, address: Any, lanes: int) -> Any:
        return self._builder.load(self._pointer(address, _floats(lanes)), align=FLOAT_BYTES)

    def _load_held(self, address: Any, lanes: int) -> Any:
        if self._held_bytes == FLOAT_BYTES:
            return self._load(address, lanes)
        # A bfloat16 is the upper half of a float32.
        halves = self._pointer(address, _vector(ir.IntType(16), lanes))
        wide = _vector(ir.IntType(32), lanes)
        bits = self._builder.zext(self._builder.load(halves, align=HALF_BYTES), wide)
        shift = wide([16] * lanes) if lanes > 1 else wide(16)
        return self._builder.bitcast(self._builder.shl(bits, shift), _floats(lanes))

    def _store(self, number: Any, address: Any) -> None:
        self._builder.store(number, self._pointer(address, number.type), align=FLOAT_BYTES)

    def _variable(self, number: Any) -> Any:
        """What is added to; LLVM keeps it in a register."""
        held = cgutils.alloca_once(self._builder, number.type)
        self._builder.store(number, held)
        return held

    def _add_product(self, total: Any, one: Any, other: Any) -> None:
        kind = one.type
        multiply_add = self._declared("llvm.fmuladd", kind, [kind] * 3)
        added = self._builder.call(multiply_add, [one, other, self._builder.load(total)])
        self._builder.store(added, total)

    def _spread(self, number: Any, lanes: int) -> Any:
        """A number in all lanes."""
        if lanes == 1:
            return number
        first = self._builder.insert_element(_floats(lanes)(ir.Undefined), number, _INT(0))
        return self._builder.shuffle_vector(first, first, _places(0, lanes, step=0))

    def _sum(self, vector: Any, lanes: int) -> Any:
        """Half by half; LLVM's own sum may take another order wherever it is written."""
        while lanes > 1:
            lanes //= 2
            halves = (
                self._builder.shuffle_vector(vector, vector, _places(start, lanes))
                for start in (0, lanes)
            )
            vector = self._builder.fadd(*halves)
        return vector if vector.type == _FLOAT else self._builder.extract_element(vector, _INT(0))

    def _fetch(self, address: Any, width: Any) -> None:
        """Let the processor get what is needed soon: by itself it waits at each row's beginning."""
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        prefetch = self._builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        # To read data, into the second cache: for the first one fewer lines can be under way.
        how = number(0), number(2), number(1)
        with self._loop(_INT(0), width, _CACHE_LINE // self._held_bytes) as place:
            spot = self._pointer(self._held_at(address, place), ir.IntType(8))
            self._builder.call(prefetch, [spot, *how])

    def _declared(self, name: str, result: Any, arguments: Sequence[Any]) -> Any:
        """A function that LLVM provides for every type, which it is named after."""
        kind = arguments[-1]
        suffix = f"v{kind.count}f32" if isinstance(kind, ir.VectorType) else "f32"
        function = ir.FunctionType(result, arguments)
        return cgutils.get_or_insert_function(self._builder.module, function, f"{name}.{suffix}")

    def _pointer(self, address: Any, kind: Any) -> Any:
        return self._builder.inttoptr(address, kind.as_pointer())


def _vector(kind: Any, lanes: int) -> Any:
    return ir.VectorType(kind, lanes) if lanes > 1 else kind


def _floats(lanes: int) -> Any:
    return _vector(_FLOAT, lanes)


def _places(start: int, lanes: int, step: int = 1) -> Any:
    """Which lanes a vector is made of."""
    chosen = [start + step * lane for lane in range(lanes)]
    return ir.VectorType(ir.IntType(32), lanes)(chosen)
