"""A judge that is a Python function of the user's.

    def refuses(prompts: list[str], completions: list[str]) -> list[float]: ...

It is called with many completions at once and gives one score in [0, 1] for each, in their order.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from importlib.machinery import PathFinder
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from steering_reliability.errors import SteeringError
from steering_reliability.scoring.judges.failures import (
    about,
    code_of,
    defined_at,
    failed_at,
    failed_text,
    told,
)

_CONTRACT = "a list of one number from 0 to 1 per completion"


class FunctionJudge:
    """``module:function``, called with lists.

    Args:
        spec: ``module:function``; both may be dotted.
        folder: put first on the import path while the module is imported and the function runs.
        where: file and key, for errors.

    Raises:
        SteeringError: the module cannot be imported, has no such attribute, it is not callable,
            or not with two lists.
    """

    def __init__(self, spec: str, folder: Path, where: str) -> None:
        self.name = spec
        self._where = f"{where}: {spec}"
        self._folder = folder.absolute()
        module_name, _, path = spec.partition(":")
        with self._importable():
            module = self._import(module_name)
        try:
            found: Any = reduce(getattr, path.split("."), module)
        except AttributeError as error:
            raise SteeringError(
                f"{self._where}: {module_name} has no {path!r}, expected a function of "
                "(prompts, completions); check its name"
            ) from error
        if not callable(found):
            raise SteeringError(
                f"{self._where}: found {type(found).__name__}, expected a function of "
                "(prompts, completions)"
            )
        self._check_signature(found)
        self._function: Callable[..., Any] = found
        self._file = _file_of(found, module)
        self.version = _version(found, module)

    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """As `Judge.scores`."""
        try:
            with self._importable():
                returned = self._function(list(prompts), list(completions))
        except SteeringError:
            raise
        # Not only Exception: who finds no API key may well call sys.exit.
        except (Exception, SystemExit) as error:
            place = failed_at(error, self._folder, self._file) or defined_at(self._function)
            text = failed_text(error, self._folder, self._file, completions)
            raise SteeringError(
                f"{self._where}: failed with {told(error)}{_in(place)}, asked about "
                f"{about(text, len(completions))}, expected {_CONTRACT}"
            ) from error
        return self._checked(returned, completions)

    def _check_signature(self, function: Callable[..., Any]) -> None:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            # What is written in C may not tell.
            return
        try:
            signature.bind([], [])
        except TypeError as error:
            raise SteeringError(
                f"{self._where}: found a function of {signature}{_in(defined_at(function))}, "
                "expected one of (prompts, completions); change its parameters"
            ) from error

    def _checked(self, returned: Any, completions: Sequence[str]) -> list[float]:
        # Arrays and tensors give their numbers; a text or mapping is a list of something else.
        if hasattr(returned, "tolist"):
            returned = returned.tolist()
        if not isinstance(returned, list | tuple):
            raise self._wrong(f"returned {type(returned).__name__}")
        if len(returned) != len(completions):
            raise self._wrong(f"returned {len(returned)} values for {len(completions)} completions")
        for value, completion in zip(returned, completions, strict=True):
            if not isinstance(value, Real):
                raise self._wrong(f"returned a {type(value).__name__} among the scores")
            if not 0 <= float(value) <= 1:
                raise self._wrong(f"returned {float(value):g} for {about(completion, 1)}")
        return [float(value) for value in returned]

    def _wrong(self, found: str) -> SteeringError:
        return SteeringError(f"{self._where}: {found}, expected {_CONTRACT}")

    def _import(self, name: str) -> ModuleType:
        top = name.partition(".")[0]
        here = PathFinder.find_spec(top, [str(self._folder)])
        loaded = getattr(sys.modules.get(top), "__file__", None)
        if here and here.origin and loaded and not Path(here.origin).samefile(loaded):
            raise SteeringError(
                f"{self._where}: {top} is already imported from {loaded}, expected "
                f"{here.origin}; give the module another name"
            )
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit) as error:
            place = failed_at(error, self._folder, None)
            raise SteeringError(
                f"{self._where}: {name} cannot be imported ({told(error)}){_in(place)}, expected a "
                f"module in {self._folder} or an installed one"
            ) from error

    @contextmanager
    def _importable(self) -> Iterator[None]:
        folder = str(self._folder)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.path.remove(folder)


def _in(place: str) -> str:
    return f" ({place})" if place else ""


def _file_of(function: Callable[..., Any], module: ModuleType) -> str | None:
    """The source file of a function, or its module's."""
    try:
        file = inspect.getsourcefile(code_of(function))
    except TypeError:
        file = None
    return file or module.__file__


def _version(function: Callable[..., Any], module: ModuleType) -> str:
    """The function's ``__version__``, its module's, or 12 hex digits of its source file."""
    for holder in (function, module):
        stated = getattr(holder, "__version__", None)
        if stated is not None:
            return str(stated)
    file = _file_of(function, module)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12] if file else "unknown"
