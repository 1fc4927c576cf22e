"""Where a function of the user's failed, and at which text, as its traceback tells."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from steering_reliability.prompts.prompt import short

_INSTALLED = "site-packages"
_PACKAGE = Path(__file__).parents[2]


def code_of(function: Callable[..., Any]) -> Any:
    """What holds the code of a function; an instance with ``__call__`` is as its class says."""
    unwrapped = inspect.unwrap(function)
    return unwrapped if inspect.isroutine(unwrapped) else type(unwrapped)


def defined_at(function: Callable[..., Any]) -> str:
    """``file.py:3``, where a function or its class begins; empty where it has no source."""
    coded = code_of(function)
    code = getattr(coded, "__code__", None) or getattr(coded.__call__, "__code__", None)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}" if code else ""


def failed_at(error: BaseException, folder: Path, file: str | None) -> str:
    """``file.py:3``, the last place of the user's own in a traceback; empty if there is none.

    Args:
        error: as it was caught.
        folder: files in it are the user's, but for installed packages.
        file: one that is the user's wherever it lies.
    """
    places = [place for place, _ in _own_frames(error, folder, file)]
    return places[-1] if places else ""


def failed_text(
    error: BaseException, folder: Path, file: str | None, texts: Sequence[str]
) -> str | None:
    """The one of the texts that the user's code had in hand, if it had one by itself.

    Args:
        error, folder, file: as in `failed_at`.
        texts: what the function was asked about.
    """
    if len(texts) == 1:
        return texts[0]
    known = {text for text in texts if text.strip()}
    for _, variables in reversed(list(_own_frames(error, folder, file))):
        held = {value for value in variables.values() if isinstance(value, str)} & known
        if len(held) == 1:
            return held.pop()
    return None


def told(error: BaseException) -> str:
    """An exception's name and message in one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")[:160]


def about(text: str | None, n: int) -> str:
    """What was asked about, for an error."""
    return f"{n} completions" if text is None else f"the completion {short(text)}"


def _own_frames(
    error: BaseException, folder: Path, file: str | None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Place and local variables of each frame in the user's files, the outermost first."""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        path = Path(code.co_filename)
        installed = _INSTALLED in path.parts or path.is_relative_to(_PACKAGE)
        if code.co_filename == file or (path.is_relative_to(folder) and not installed):
            yield f"{path.name}:{trace.tb_lineno}", trace.tb_frame.f_locals
        trace = trace.tb_next
