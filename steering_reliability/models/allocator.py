"""How memory on the CPU is given back."""

from __future__ import annotations

import ctypes
import sys

# glibc's names of what is set (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30
_LARGEST_BYTES = 1 << 28


def keep_freed_memory() -> None:
    """Use memory that was freed again, up to a gigabyte of it, instead of giving it back.

    The logits of one step are freed and needed again at the next. By default glibc, Linux's C
    library, takes more than 32 MiB from the system each time, which clears it page by page: a
    twentieth of a step of 256 rows. It holds for the whole process; elsewhere nothing changes.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES)
