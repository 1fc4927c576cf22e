"""The one error users are meant to read."""

from __future__ import annotations


class SteeringError(Exception):
    """Bad input, told in one line: where, key, value found, value expected, what to do.

    The pytest plugin shows the message without a traceback and exits with pytest's usage
    error code; the command line exits with 2.
    """
