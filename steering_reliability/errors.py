"""The one error users are meant to read, and advice that several of them end in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class SteeringError(Exception):
    """Bad input, told in one line: where, key, value found, value expected, what to do.

    The pytest plugin shows the message without a traceback and exits with pytest's usage
    error code; the command line exits with 2.
    """


def nearby(path: Path, others: Iterable[Path]) -> str:
    """Advice for a file that is not there: the one of ``others`` with nearly its name, if any."""
    close = difflib.get_close_matches(path.name, [other.name for other in others], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
