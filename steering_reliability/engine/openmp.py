"""Torch's own threads, for code that torch didn't compile.

Threads of a second pool would wait for processors that torch's idle ones keep busy: they spin for
milliseconds after each operation.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch

# What tells a function which thread it is on, and of how many.
THREAD, THREADS = "omp_get_thread_num", "omp_get_num_threads"


@cache
def has_threads() -> bool:
    """Whether torch's threads take such work: where they are GNU OpenMP's, as on Linux."""
    loaded = ctypes.CDLL(None)
    return all(hasattr(loaded, name) for name in ("GOMP_parallel", THREAD, THREADS))


def address_of(function: str) -> int:
    """Where a function of the runtime is."""
    return ctypes.cast(getattr(ctypes.CDLL(None), function), ctypes.c_void_p).value or 0


def run_on_threads(function: int, argument: int) -> None:
    """Call ``void function(void *argument)``, given by addresses, once on each of torch's threads.

    Returns once all have returned.
    """
    _parallel()(function, argument, torch.get_num_threads(), 0)


@cache
def _parallel() -> Any:
    parallel = ctypes.CDLL(None).GOMP_parallel
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel
