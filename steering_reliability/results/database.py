"""The store's SQLite file: made, recognised, opened, and its errors in words.

This module knows the tables but not what is in them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from steering_reliability.errors import SteeringError

APPLICATION_ID = int.from_bytes(b"stlr", "big")
SCHEMA_VERSION = 1
_SCHEMA = (
    "CREATE TABLE completions (key TEXT PRIMARY KEY, record BLOB NOT NULL, checksum BLOB NOT NULL,"
    " created_at REAL NOT NULL, run TEXT NOT NULL)",
    "CREATE TABLE leases (key TEXT PRIMARY KEY, owner TEXT NOT NULL, expires REAL NOT NULL)"
    " WITHOUT ROWID",
    "CREATE INDEX leases_by_owner ON leases (owner)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

BUSY_TIMEOUT_S = 10.0
PATIENCE_S = 60.0
_RETRY_S = 0.02

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNWRITABLE = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
}
WAY_OUT = "move it away or run with --steer-fresh, and the completions are generated again"

T = TypeVar("T")


class UnusableStoreError(SteeringError):
    """A store that is damaged or another version's, and may be set aside.

    Attributes:
        found: what it is, for a line that says what became of it.
        expected: what it should be.
    """

    def __init__(self, path: Path, found: str, expected: str, advice: str) -> None:
        self.found, self.expected = found, expected
        super().__init__(f"{path}: found {found}, expected {expected}{advice}")


def damaged(path: Path, reason: str) -> UnusableStoreError:
    """The error about a store whose bytes are not those that were written."""
    return UnusableStoreError(
        path,
        f"a damaged completion store ({' '.join(reason.split())})",
        "a whole SQLite file",
        ": the next run sets it aside and keeps what can still be read",
    )


def open_database(path: Path) -> sqlite3.Connection:
    """A connection to the store's file, which is made if it is missing or empty.

    Raises:
        SteeringError: the file is another program's or another version's.
        sqlite3.Error: it is damaged, locked or cannot be written; see `explained`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SteeringError(_unwritable(path, error.strerror or str(error))) from error
    # Threads share the connection under the store's own lock.
    db = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        patiently(lambda: _prepare(db, path))
    except BaseException:
        db.close()
        raise
    return db


def set_aside(path: Path) -> Path | None:
    """Renames a store that cannot be used, with its side files; returns its new name, if any.

    No process may have it open.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}.aside-{number}")).exists():
        number += 1
    for file in database_files(path):
        if file.exists():
            file.replace(aside.with_name(aside.name + file.name[len(path.name) :]))
    return aside if aside.exists() else None


def database_files(path: Path) -> list[Path]:
    """The file and the side files that SQLite may keep beside it."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]


def patiently(action: Callable[[], T]) -> T:
    """The action's result, tried again for a minute while other processes hold the file.

    SQLite's own busy timeout does not cover a change of journal mode, nor the moments in which a
    connection recovers or removes the write-ahead log.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        time.sleep(_RETRY_S)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether an error means that others hold the file."""
    return _code(error) in _BUSY


def is_damage(error: Exception) -> bool:
    """Whether an error means that the file's bytes are not those that were written."""
    if not isinstance(error, sqlite3.Error):
        return False
    # The Python module's own error, without a code, about a text that is no UTF-8.
    return _code(error) in _DAMAGED or str(error).startswith("Could not decode to UTF-8")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns SQLite's errors about the file into a line that says what to do.

    Raises:
        SteeringError: the file is damaged, cannot be written, or stays locked.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = _code(error)
        if is_damage(error):
            raise damaged(path, str(error)) from error
        if code in _UNWRITABLE:
            raise SteeringError(_unwritable(path, str(error))) from error
        if code in _BUSY:
            raise SteeringError(
                f"{path}: found the completion store locked for {PATIENCE_S:.0f} s, expected its"
                " turn to write: end the other process that uses it and run again"
            ) from error
        raise


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")
    if _identity(db) == (0, 0, 0):
        db.execute("BEGIN IMMEDIATE")
        # Another process may have made the tables since.
        if _identity(db) == (0, 0, 0):
            for statement in _SCHEMA:
                db.execute(statement)
        db.execute("COMMIT")
    application, version, _ = _identity(db)
    if application != APPLICATION_ID:
        raise SteeringError(
            f"{path}: found another program's SQLite file, expected a completion store:"
            " name another file or move this one away"
        )
    if version != SCHEMA_VERSION:
        raise UnusableStoreError(
            path,
            f"a completion store of version {version}",
            f"version {SCHEMA_VERSION}",
            f"; this version of steering_reliability cannot reuse it: {WAY_OUT}",
        )
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    # Some network file systems have no WAL; a rollback journal is slower and needs each sync.
    db.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")


def _identity(db: sqlite3.Connection) -> tuple[int, int, int]:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return application, version, tables


def _code(error: sqlite3.Error) -> int:
    # Errors of the Python module itself carry no code; the low byte is the primary one.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _unwritable(path: Path, reason: str) -> str:
    return (
        f"{path}: found a completion store that cannot be opened for writing ({reason}), expected"
        " a writable file on a disk with space: free the disk or choose --steer-artifacts"
    )
