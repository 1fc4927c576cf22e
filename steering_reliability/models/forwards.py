"""Letting parts of a model compute in another way for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

Module = TypeVar("Module", bound=nn.Module)
Found = TypeVar("Found")


def once_per_model(find: Callable[[nn.Module], Found]) -> Callable[[nn.Module], Found]:
    """Let what is looked for in a model be looked for once, and forgotten with the model."""
    known: WeakKeyDictionary[nn.Module, Found] = WeakKeyDictionary()

    @wraps(find)
    def found(hf_model: nn.Module) -> Found:
        if hf_model not in known:
            known[hf_model] = find(hf_model)
        return known[hf_model]

    return found


@contextmanager
def replaced_forwards(
    modules: Iterable[Module], forward_of: Callable[[Module], Callable[..., Any]]
) -> Iterator[None]:
    """Let modules compute by other functions, and then as before; their hooks still run.

    Args:
        modules: those to replace; one that is replaced already is left as it is.
        forward_of: what is called in place of a module's ``forward``.
    """
    replaced = []
    try:
        for module in modules:
            if "forward" not in vars(module):
                # Not by assignment, with which a module takes its time.
                vars(module)["forward"] = forward_of(module)
                replaced.append(module)
        yield
    finally:
        for module in replaced:
            del vars(module)["forward"]
