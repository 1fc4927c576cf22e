"""What must not be carried over a fork is put down before it, and taken up on both sides after."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class HeedsForks(Protocol):
    """What holds a lock or a connection."""

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None: ...


_open: weakref.WeakSet[HeedsForks] = weakref.WeakSet()
_forking: list[HeedsForks] = []


def heed_forks(holder: HeedsForks) -> None:
    """Call the holder's methods around every fork for as long as it lives."""
    _open.add(holder)


def _before_fork() -> None:
    # Strong references: what is locked here has to be unlocked on both sides.
    _forking.extend(_open)
    for holder in _forking:
        holder.before_fork()


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop().after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
