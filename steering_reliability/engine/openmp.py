"""Torch's own threads, for code that torch didn't compile.

Threads of a second pool would wait for processors that torch's idle ones keep busy: they spin for
milliseconds after each operation.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

import torch

COMPILED_DTYPES = (torch.float32, torch.bfloat16)
"""Those that compiled code reads and writes."""

_START = "GOMP_parallel"
# What tells a function which thread it is on, and of how many.
THREAD, THREADS = "omp_get_thread_num", "omp_get_num_threads"


@cache
def has_threads(device: torch.device) -> bool:
    """Whether torch's threads take such work: a CPU's, where they are GNU OpenMP's, as on Linux."""
    if device.type != "cpu" or sys.platform != "linux":
        return False
    return all(hasattr(ctypes.CDLL(None), name) for name in (_START, THREAD, THREADS))


def has_code_for(tensor: torch.Tensor) -> bool:
    """Whether there is compiled code for a tensor's dtype, and threads for it where it lies."""
    return tensor.dtype in COMPILED_DTYPES and has_threads(tensor.device)


def can_be_compiled(*tensors: Any) -> bool:
    """Whether compiled code takes these: of one dtype that it has, and nobody wants gradients."""
    if not all(isinstance(tensor, torch.Tensor) and has_code_for(tensor) for tensor in tensors):
        return False
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return not wanted and len({tensor.dtype for tensor in tensors}) == 1


def address_of(function: str) -> int:
    """Where a function of the runtime is."""
    return ctypes.cast(getattr(ctypes.CDLL(None), function), ctypes.c_void_p).value or 0


def run_on_threads(function: int, argument: int) -> None:
    """Call ``void function(void *argument)``, given by addresses, once on each of torch's threads.

    Returns once all have returned.
    """
    _start()(function, argument, torch.get_num_threads(), 0)


@cache
def _start() -> Any:
    start = getattr(ctypes.CDLL(None), _START)
    start.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    start.restype = None
    return start
