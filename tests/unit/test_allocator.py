"""Freed memory is used again."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

_HAS_GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")
# A step's logits at 256 rows of 49,152 numbers, once gaps between small objects are large enough.
# In a process of its own: what others freed before, and which thread asks, decides too.
_PAGES_AT_EACH = """
import resource, torch
from steering_reliability.models.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

keep_freed_memory()
for _ in range(60):
    torch.ones(256, 49_152)
before = faults()
for _ in range(8):
    torch.ones(256, 49_152)
print((faults() - before) / 8)
"""


@pytest.mark.skipif(not _HAS_GLIBC, reason="not glibc's allocator")
def test_a_large_result_takes_no_new_memory_after_a_while() -> None:
    command = [sys.executable, "-c", _PAGES_AT_EACH]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # 12,288 pages of 4 KiB, where it takes them from the system each time.
    assert float(told) < 3_000
