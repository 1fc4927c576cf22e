"""Loading what lives as long as the process, without looking for garbage in it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Collect no garbage meanwhile, nor ever among what was loaded.

    Libraries and models are a million objects that stay. Python's collector goes through them over
    and over while they are made, which is a quarter of the time of imports, and at every full
    collection afterwards.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
