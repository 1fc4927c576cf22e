"""Completions on disk, found by content, shared by every process that works on a level.

One SQLite file in WAL mode. Completions are written in small transactions as they finish, so a
process killed at any point loses only those in flight; leases let processes share the work, so
nothing is generated twice. The store knows nothing about prompts, cells, models or scores.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from steering_reliability.errors import SteeringError
from steering_reliability.results.database import (
    database_files,
    explained,
    is_busy,
    open_database,
    patiently,
)
from steering_reliability.results.forks import heed_forks
from steering_reliability.results.owners import check_owner, is_dead
from steering_reliability.results.records import (
    DamagedRecordError,
    Row,
    StoredCompletion,
    decode,
    encode,
)

ROW = "key, record, checksum, created_at, run"
_CHUNK = 500
LEAST_PACED = 50
"""Completions of a run that are enough to tell its pace from."""


@dataclass(frozen=True)
class StoreStats:
    """What a store holds.

    Attributes:
        completions: how many are stored.
        leases: how many more are being generated now.
        size_bytes: size on disk, the write-ahead log included.
        oldest, newest: seconds since the epoch, None in an empty store.
        runs: run metadata with the number of completions made by it, most first.
    """

    completions: int
    leases: int
    size_bytes: int
    oldest: float | None
    newest: float | None
    runs: list[tuple[dict[str, str], int]]


class CompletionStore:
    """A file of completions, shared between processes and threads.

    Each process has one connection, guarded by a lock and closed before a fork: SQLite's file
    locks do not survive one, and a child that inherits a connection can lose what it writes.

    Args:
        path: the SQLite file; it and its folder are made if missing.

    Raises:
        SteeringError: from here and from every method, if the file is damaged, is another
            program's or another version's, cannot be written, or stays locked for a minute.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        heed_forks(self)
        with self._reading():
            pass

    def __enter__(self) -> CompletionStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes this process's connection; a later call opens it again."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    # Completions

    def get_many(self, keys: Iterable[str]) -> dict[str, StoredCompletion]:
        """The stored ones among the completions with these keys."""
        found: dict[str, StoredCompletion] = {}
        for chunk in _chunks(keys):
            query = f"SELECT {ROW} FROM completions WHERE key IN ({_marks(chunk)})"
            found.update((row[0], self._decoded(row)) for row in self._read(query, chunk))
        return found

    def put_many(self, completions: Iterable[StoredCompletion]) -> int:
        """Stores completions in one transaction and ends their leases; returns how many are new.

        A key that is stored already keeps its completion: the first one written stands.
        """
        rows = [encode(completion) for completion in completions]
        with self._writing() as db:
            added = db.executemany(
                f"INSERT INTO completions ({ROW}) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (key) DO NOTHING",
                rows,
            ).rowcount
            db.executemany("DELETE FROM leases WHERE key = ?", [(row[0],) for row in rows])
        return max(added, 0)

    def amend(self, completions: Iterable[StoredCompletion]) -> None:
        """Stores what was measured of completions later; one that isn't stored stays so."""
        rows = [encode(completion) for completion in completions]
        with self._writing() as db:
            db.executemany(
                "UPDATE completions SET record = ?, checksum = ? WHERE key = ?",
                [(record, checksum, key) for key, record, checksum, _, _ in rows],
            )

    def delete(self, keys: Iterable[str]) -> int:
        """Forgets completions, so that they are generated anew; returns how many there were."""
        wanted = [(key,) for key in keys]
        with self._writing() as db:
            deleted = db.executemany("DELETE FROM completions WHERE key = ?", wanted).rowcount
        return max(deleted, 0)

    # Leases

    def lease(
        self, keys: Iterable[str], owner: str, ttl_s: float, limit: int | None = None
    ) -> list[str]:
        """Takes the work on those keys that are neither stored nor anybody's, in their order.

        A key is granted once: its owner, too, is not granted it again while the lease lives. A
        lease lives for ``ttl_s`` seconds unless renewed, and ends at once with its process if
        that ran on this host.

        Args:
            keys: keys that the owner is ready to generate, most wanted first.
            owner: from `owners.new_owner`.
            ttl_s: seconds until the lease lapses.
            limit: most keys to grant.

        Raises:
            ValueError: the owner's name is not one.
        """
        check_owner(owner)
        now = time.time()
        granted: list[str] = []
        with self._writing() as db:
            _drop_lapsed(db, now)
            for chunk in _chunks(keys):
                marks = _marks(chunk)
                query = (
                    f"SELECT key FROM completions WHERE key IN ({marks})"
                    f" UNION SELECT key FROM leases WHERE key IN ({marks})"
                )
                taken = {key for (key,) in db.execute(query, chunk * 2)}
                granted += [key for key in chunk if key not in taken]
                if limit is not None and len(granted) >= limit:
                    granted = granted[:limit]
                    break
            rows = [(key, owner, now + ttl_s) for key in granted]
            db.executemany("INSERT INTO leases (key, owner, expires) VALUES (?, ?, ?)", rows)
        return granted

    def renew(self, owner: str, ttl_s: float) -> int:
        """Prolongs the owner's leases to ``ttl_s`` seconds from now; returns how many it holds."""
        with self._writing() as db:
            return db.execute(
                "UPDATE leases SET expires = ? WHERE owner = ?", (time.time() + ttl_s, owner)
            ).rowcount

    def release(self, owner: str) -> int:
        """Gives the owner's leases back; returns how many it held."""
        with self._writing() as db:
            return db.execute("DELETE FROM leases WHERE owner = ?", (owner,)).rowcount

    # Care

    def stats(self) -> StoreStats:
        """Counts, size and age of what is stored."""
        ((count, oldest, newest),) = self._read(
            "SELECT count(*), min(created_at), max(created_at) FROM completions"
        )
        counts = self._read(
            "SELECT run, count(*) AS n FROM completions GROUP BY run ORDER BY n DESC, run"
        )
        held = self._read(
            "SELECT owner, count(*) FROM leases WHERE expires > ? GROUP BY owner", [time.time()]
        )
        leases = sum(n for owner, n in held if not is_dead(owner))
        size = sum(file.stat().st_size for file in database_files(self.path) if file.exists())
        runs = [(json.loads(run), n) for run, n in counts]
        return StoreStats(count, leases, size, oldest, newest, runs)

    def pace(self) -> float | None:
        """Completions per second of the last run that stored at least `LEAST_PACED` of them."""
        rows = self._read(
            "SELECT count(*), min(created_at), max(created_at) FROM completions GROUP BY run "
            "HAVING count(*) >= ? AND max(created_at) > min(created_at) "
            "ORDER BY max(created_at) DESC LIMIT 1",
            [LEAST_PACED],
        )
        return next((count / (last - first) for count, first, last in rows), None)

    def prune(self, keep: Callable[[StoredCompletion], bool]) -> int:
        """Deletes damaged records and those not to be kept; returns how many it deleted."""
        doomed = []
        for row in self._rows():
            try:
                if not keep(decode(row)):
                    doomed.append(row[0])
            except DamagedRecordError:
                doomed.append(row[0])
        deleted = sum(self.delete(chunk) for chunk in _chunks(doomed))
        with self._writing() as db:
            _drop_lapsed(db, time.time())
        with self._reading() as db:
            try:
                db.execute("VACUUM")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.OperationalError as error:
                # Others are at work: the freed pages stay in the file and are used again.
                if not is_busy(error):
                    raise
        return deleted

    def verify(self) -> list[str]:
        """What is wrong with the file and its records, one line each; empty if all is sound."""
        problems = []
        try:
            report = self._read("PRAGMA integrity_check(20)")
            problems += [f"{self.path}: {line}" for (line,) in report if line != "ok"]
            for row in self._rows():
                try:
                    decode(row)
                except DamagedRecordError as error:
                    problems.append(f"{self.path}: {error}")
        except SteeringError as error:
            problems.append(str(error))
        return problems

    # The connection

    def _rows(self) -> Iterator[Row]:
        last = 0
        while True:
            query = f"SELECT rowid, {ROW} FROM completions WHERE rowid > ? ORDER BY rowid LIMIT ?"
            rows = self._read(query, [last, _CHUNK])
            if not rows:
                return
            last = rows[-1][0]
            for row in rows:
                yield row[1:]

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._reading() as db:
            return patiently(lambda: db.execute(query, values).fetchall())

    def _decoded(self, row: Row) -> StoredCompletion:
        try:
            return decode(row)
        except DamagedRecordError as error:
            raise SteeringError(
                f"{self.path}: {error}, expected the bytes that were written: drop damaged"
                " records with `steering-reliability store prune`, the next run makes them again"
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, explained(self.path):
            if self._db is None:
                self._db = open_database(self.path)
            yield self._db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            try:
                patiently(lambda: db.execute("BEGIN IMMEDIATE"))
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def before_fork(self) -> None:
        self._lock.acquire()
        self.close()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()


def _drop_lapsed(db: sqlite3.Connection, now: float) -> None:
    db.execute("DELETE FROM leases WHERE expires <= ?", (now,))
    for (owner,) in db.execute("SELECT DISTINCT owner FROM leases").fetchall():
        if is_dead(owner):
            db.execute("DELETE FROM leases WHERE owner = ?", (owner,))


def _chunks(keys: Iterable[str]) -> Iterator[list[str]]:
    """The distinct keys in their order, few enough at a time for one SQL statement."""
    distinct = iter(dict.fromkeys(keys))
    while chunk := list(islice(distinct, _CHUNK)):
        yield chunk


def _marks(chunk: list[str]) -> str:
    return ", ".join("?" * len(chunk))
