"""A damaged store, mended: set aside whole, and what can still be read carried over into a new one.

SQLite's own ``.recover`` is a program's, not the library's. Rows are looked up one by one, and
their checksums say which of them are what was written.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from steering_reliability.errors import SteeringError
from steering_reliability.results.database import (
    WAY_OUT,
    UnusableStoreError,
    damaged,
    database_files,
    explained,
    is_busy,
    open_database,
    patiently,
    set_aside,
)
from steering_reliability.results.owners import is_dead
from steering_reliability.results.records import (
    DamagedRecordError,
    StoredCompletion,
    decode,
    is_intact,
)
from steering_reliability.results.store import ROW, CompletionStore

_BATCH = 500
# By the table and by the index of its keys, from both ends: damage in one stops one of four.
_WAYS = (
    "NOT INDEXED ORDER BY rowid",
    "NOT INDEXED ORDER BY rowid DESC",
    "INDEXED BY sqlite_autoindex_completions_1 ORDER BY key",
    "INDEXED BY sqlite_autoindex_completions_1 ORDER BY key DESC",
)


def mend_store(path: Path, *, fresh: bool = False) -> str | None:
    """Look whether a store is damaged, and if so replace it by one with what can be read of it.

    The damaged file keeps all it has, under another name. It takes about 4 ms per MB to look.

    Args:
        path: the store's file; one that is missing is made.
        fresh: replace it also where nothing of it can be read.

    Returns:
        A line that says what was damaged, what became of it and how much was carried over; None
        where the store is sound.

    Raises:
        SteeringError: nothing can be read of it and ``fresh`` is off, another process is adding
            to it, it is another program's, or it cannot be written.
    """
    from filelock import FileLock

    if _damage(path) is None:
        return None
    with FileLock(f"{path}.lock"):
        # Another process may have mended it since.
        damage = _damage(path)
        return None if damage is None else _replace(path, damage, fresh)


def _damage(path: Path) -> UnusableStoreError | None:
    """What is wrong with a store as a whole or with one of its records."""
    try:
        with explained(path), closing(open_database(path)) as db:
            return patiently(lambda: _first_problem(db, path))
    except UnusableStoreError as error:
        return error


def _first_problem(db: sqlite3.Connection, path: Path) -> UnusableStoreError | None:
    ((report,),) = db.execute("PRAGMA integrity_check(1)").fetchall()
    if report != "ok":
        return damaged(path, report.removeprefix("*** in database main ***"))
    for row in db.execute(f"SELECT {ROW} FROM completions"):
        if not is_intact(row):
            return damaged(path, f"record {row[0]}: checksum does not match")
    return None


def _replace(path: Path, damage: UnusableStoreError, fresh: bool) -> str:
    if _is_at_work(path):
        raise SteeringError(
            f"{path}: found {damage.found} and another process that has it open, expected none: "
            "let it end and run again"
        )
    rescued = path.with_name(path.name + ".mending")
    _remove(rescued)
    try:
        kept = _carry_over(path, rescued)
        if not kept and not fresh:
            raise SteeringError(
                f"{path}: found {damage.found}, of which nothing can be read, "
                f"expected {damage.expected}: {WAY_OUT}"
            ) from damage
        aside = set_aside(path)
        # Through SQLite, not by renaming: another run may have made a new store there by now.
        _carry_over(rescued, path)
    finally:
        _remove(rescued)
    carried = f"the {kept:,} completions in it that can still be read are carried over"
    return (
        f"{path}: found {damage.found}; it is kept as {aside.name if aside else path.name}, "
        f"and {carried if kept else 'nothing in it can be read'}"
    )


def _is_at_work(path: Path) -> bool:
    """Whether another process has a store open: it would go on writing to what is set aside."""
    if _is_open_elsewhere(path):
        return True
    try:
        with explained(path), closing(open_database(path)) as db:
            query = "SELECT DISTINCT owner FROM leases WHERE expires > ?"
            return any(not is_dead(owner) for (owner,) in db.execute(query, [time.time()]))
    except (UnusableStoreError, TypeError, ValueError, AttributeError):
        # A damaged lease names no process.
        return False


def _is_open_elsewhere(path: Path) -> bool:
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
        try:
            # Every connection to a write-ahead log holds a lock that no one can hold beside this.
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            return is_busy(error)
        except sqlite3.DatabaseError:
            return False
        db.execute("ROLLBACK")
    return False


def _carry_over(path: Path, rescued: Path) -> int:
    """Copies the intact completions of a damaged store into a new one; returns how many."""
    kept = 0
    with CompletionStore(rescued) as store:
        intact = _intact(path)
        while batch := list(islice(intact, _BATCH)):
            kept += store.put_many(batch)
    return kept


def _intact(path: Path) -> Iterator[StoredCompletion]:
    try:
        with explained(path):
            db = open_database(path)
    except UnusableStoreError:
        return
    with closing(db):
        for rowid in _rowids(db):
            try:
                query = f"SELECT {ROW} FROM completions NOT INDEXED WHERE rowid = ?"
                row = db.execute(query, [rowid]).fetchone()
                if row is not None:
                    yield decode(row)
            except (sqlite3.DatabaseError, DamagedRecordError):
                continue


def _rowids(db: sqlite3.Connection) -> list[int]:
    found: set[int] = set()
    for way in _WAYS:
        try:
            found.update(rowid for (rowid,) in db.execute(f"SELECT rowid FROM completions {way}"))
        except sqlite3.DatabaseError:
            continue
    return sorted(found)


def _remove(database: Path) -> None:
    for file in database_files(database):
        file.unlink(missing_ok=True)
