"""Freed memory is used again."""

from __future__ import annotations

import ctypes
import sys

import pytest
import torch

from steering_reliability.models.allocator import keep_freed_memory

_HAS_GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")


@pytest.mark.skipif(not _HAS_GLIBC, reason="not glibc's allocator")
def test_a_large_result_takes_no_new_memory_after_the_first() -> None:
    import resource

    def faults() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    keep_freed_memory()
    # A step's logits at 256 rows of 49,152 numbers.
    pages, rounds = 256 * 49_152 * 4 // resource.getpagesize(), 8
    torch.ones(256, 49_152)
    before = faults()
    for _ in range(rounds):
        torch.ones(256, 49_152)
    assert faults() - before < rounds * pages / 2
