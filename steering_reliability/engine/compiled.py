"""How code is compiled by Numba and run on torch's threads, and what all of it needs.

Compiled at first use, which takes some seconds, and kept on disk until the file of what is
compiled changes: after a change here or in :mod:`.runs`, touch :mod:`.kernels`,
:mod:`.block_kernels` and :mod:`.logit_kernels`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from llvmlite import binding
from numba import cfunc, njit, types
from numba.extending import overload

from steering_reliability.engine.openmp import (
    THREAD,
    THREADS,
    address_of,
    has_threads,
    run_on_threads,
)

# Sums may be vectorised, which takes them in another order; the order is fixed when compiled.
# All is put into the function that threads call: of another function called there, a process that
# compiles would run the copy it had made before, and one that reads what was kept the other, which
# is optimised twice and may round otherwise.
compiled = njit(
    fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy", forceinline=True
)
# Sums are taken as written.
_IN_ORDER = {"error_model": "numpy", "forceinline": True}
compiled_in_order = njit(**_IN_ORDER)
_thread = types.ExternalFunction(THREAD, types.int32())
_threads = types.ExternalFunction(THREADS, types.int32())
# Natural logarithm of 2 in two parts, the first exact in float32 times any exponent.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOG2_E = np.float32(1.44269504088896341)
# Its exponential is about float32's smallest.
_SMALLEST = np.float32(-87.0)
_LANES = 64


class OnThreads:
    """A function that every one of torch's threads calls, for its share of the work.

    Args:
        function: gets one array: its own address, those of tensors, and then numbers that are no
            addresses. One, since the interpreter is slow between two matrix products, which leave
            little of it in the processor's caches.

    Attributes:
        made: all there are.
        address: of the compiled function, compiled at first use.
    """

    made: ClassVar[list[OnThreads]] = []

    def __init__(self, function: Callable[[Any], None]) -> None:
        self._function = function
        self.made.append(self)

    @cached_property
    def address(self) -> int:
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
        run_on_threads(self.address, given[0])


def for_each_dtype(
    make: Callable[[Any], Callable[[Any], None]],
) -> dict[torch.dtype, OnThreads]:
    """What ``make`` gives for the type that numbers are held in: float32, or bfloat16's bits."""
    functions = {}
    for dtype, kind in {torch.float32: np.float32, torch.bfloat16: np.uint16}.items():
        function = make(kind)
        # Numba keeps what is of one name in one file, which two processes may write at once.
        function.__qualname__ += f"_{kind.__name__}"
        functions[dtype] = OnThreads(function)
    return functions


def compile_all() -> None:
    """Compile what would be at first use, where it can be used: a part of installing."""
    from steering_reliability.engine import (  # noqa: F401 - they make it
        block_kernels,
        kernels,
        logit_kernels,
    )

    if has_threads(torch.device("cpu")):
        for function in OnThreads.made:
            assert function.address


@cache
def as_factors(*numbers: float) -> torch.Tensor:
    """Numbers that compiled code is given by address, float32."""
    return torch.tensor(numbers, dtype=torch.float32, device="cpu")


@compiled
def share_of(n: int) -> tuple[int, int]:
    """Which of ``n`` items this thread is to work on: the first, and one beyond the last."""
    thread, threads = _thread(), _threads()
    return n * thread // threads, n * (thread + 1) // threads


@compiled
def at_least_smallest(x: Any) -> Any:
    """What :func:`exp` is taken of; no number stays none."""
    return _SMALLEST if x < _SMALLEST else x


@compiled
def exp(x: Any) -> Any:
    """e to the power of ``x``, float32, 0 or less, to five units in the last place.

    Unlike ``np.exp`` it is vectorised (Cephes' ``expf``; Moshier 1989).
    """
    x = at_least_smallest(x)
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


@compiled
def greatest(numbers: Any) -> Any:
    """In lanes: one after the other, each comparison waits for the one before."""
    n = len(numbers)
    lanes = np.full(_LANES, widened(numbers[0]))
    for start in range(0, n // _LANES * _LANES, _LANES):
        for lane in range(_LANES):
            number = widened(numbers[start + lane])
            lanes[lane] = number if number > lanes[lane] else lanes[lane]
    most = lanes.max()
    for i in range(n // _LANES * _LANES, n):
        most = max(most, widened(numbers[i]))
    return most


def widened(number: Any) -> Any:
    """A number as it is held, float32 or the bits of a bfloat16, in float32; for compiled code."""
    raise NotImplementedError


def narrowed(number: Any, like: Any) -> Any:
    """A float32 as ``like`` is held: to the nearest, of two equally near the even one.

    No number stays none. For compiled code.
    """
    raise NotImplementedError


@overload(widened, jit_options=_IN_ORDER)
def _widened(number: Any) -> Any:
    def same(number: Any) -> Any:
        return number

    def upper_half(number: Any) -> Any:
        return np.uint32(np.uint32(number) << np.uint32(16)).view(np.float32)

    return same if number == types.float32 else upper_half


@overload(narrowed, jit_options=_IN_ORDER)
def _narrowed(number: Any, like: Any) -> Any:
    def same(number: Any, like: Any) -> Any:
        return number

    def rounded(number: Any, like: Any) -> Any:
        bits = np.float32(number).view(np.uint32)
        up = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        none = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        return np.uint16((np.uint32(0x7FC00000) if none else up) >> np.uint32(16))

    return same if like == types.float32 else rounded
