"""What comes from the model hub, told in one line where it does not come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from steering_reliability.errors import SteeringError


def from_hub(fetch: Callable[[], str], told: str, advice: str) -> Path:
    """Where the hub's library put what it fetched.

    Args:
        fetch: asks the library, which looks into its cache if the hub can't be reached.
        told: what is missing, as the error begins: ``model: 'gpt3' is no local folder``.
        advice: what to do, as the error ends.

    Raises:
        SteeringError: there is no such thing, or the hub can't be reached and nothing is cached.
    """
    try:
        with _quiet():
            return Path(fetch())
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or ["no message"])[0]
        raise SteeringError(
            f"{told}, not in the hub's cache, and the hub did not give it "
            f"({first[:160].rstrip()}); {advice}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's two lines for each of its attempts."""
    from huggingface_hub import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
