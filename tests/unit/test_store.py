"""The completion store: round trips, leases between processes, kills and damaged files."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_reliability.cells import Cell
from steering_reliability.completions import Completion
from steering_reliability.errors import SteeringError
from steering_reliability.results.database import SCHEMA_VERSION, set_aside
from steering_reliability.results.owners import (
    UNKNOWN_START,
    is_dead,
    new_owner,
    process_start,
)
from steering_reliability.results.records import StoredCompletion, decode, encode
from steering_reliability.results.store import CompletionStore

posix_only = pytest.mark.skipif(os.name != "posix", reason="forks, and kills with SIGKILL")

any_text = st.text(st.characters())  # lone surrogates and NUL among them
stored_completions = st.builds(
    StoredCompletion,
    key=st.text("0123456789abcdef", min_size=1),
    text=any_text,
    token_ids=st.lists(st.integers(0, 300_000)).map(tuple),
    finish_reason=st.sampled_from(["stop", "length"]),
    measurements=st.dictionaries(any_text, st.floats(allow_nan=False)),
    created_at=st.floats(0, 4e9),
    run=st.dictionaries(st.text("abc"), any_text),
)


def key(number: int) -> str:
    return f"{number:064x}"


def stored(number: int, text: str = "text") -> StoredCompletion:
    return StoredCompletion(key(number), text, (1, 2), "stop", {"mean_logprob": -0.5}, 1.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "artifacts" / "completions.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[CompletionStore]:
    with CompletionStore(path) as store:
        yield store


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own, as an xdist worker is; prints go to its ``stdout``."""
    prelude = """
        import sys, time
        from steering_reliability.results.owners import new_owner
        from steering_reliability.results.records import StoredCompletion
        from steering_reliability.results.store import CompletionStore
        def stored(number, text="text"):
            return StoredCompletion(f"{number:064x}", text, (1, 2), "stop", {}, 1.0)
        store = CompletionStore(sys.argv[1])
        owner = new_owner()
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(script)]
        + [str(argument) for argument in arguments],
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


class TestRecords:
    @given(stored_completions)
    def test_row_round_trip(self, completion: StoredCompletion) -> None:
        assert decode(encode(completion)) == completion

    @given(st.lists(stored_completions, max_size=5, unique_by=lambda c: c.key))
    @settings(max_examples=12, deadline=None)
    def test_store_round_trip(
        self, tmp_path_factory: pytest.TempPathFactory, completions: list[StoredCompletion]
    ) -> None:
        path = tmp_path_factory.mktemp("store") / "store.sqlite"
        with CompletionStore(path) as store:
            assert store.put_many(completions) == len(completions)
        with CompletionStore(path) as store:
            found = store.get_many(completion.key for completion in completions)
            assert found == {completion.key: completion for completion in completions}
            assert store.verify() == []

    def test_nan_survives(self, store: CompletionStore) -> None:
        completion = StoredCompletion(key(0), "", (), "stop", {"mean_logprob": float("nan")})
        store.put_many([completion])
        value = store.get_many([key(0)])[key(0)].measurements["mean_logprob"]
        assert value != value

    def test_one_record_serves_every_cell_with_its_key(self) -> None:
        made = Completion("p1", Cell(8, "add", 0), "No.", (5,), "stop", 0, {"x": 1.0}, key(1))
        asked = Cell(16, "ablate", 0)
        before = time.time()
        record = StoredCompletion.of(made, run={"level": "smoke"})
        assert before <= record.created_at <= time.time()
        assert record.run == {"level": "smoke"}
        assert record.labelled("p1", made.cell) == made
        assert record.labelled("p2", asked, 3) == Completion(
            "p2", asked, "No.", (5,), "stop", 3, {"x": 1.0}, key(1)
        )

    def test_completion_without_key_cannot_be_stored(self) -> None:
        with pytest.raises(ValueError, match="found no key"):
            StoredCompletion.of(Completion("p1", Cell(8, "add", 0), "No.", (5,), "stop"))


class TestCompletions:
    def test_only_stored_keys_are_found(self, store: CompletionStore) -> None:
        numbers = range(1200)  # more than one SQL statement's worth
        assert store.put_many(stored(n) for n in numbers) == 1200
        found = store.get_many(key(n) for n in (5, 1199, 5000, 5))
        assert list(found) == [key(5), key(1199)]
        assert len(store.get_many(key(n) for n in numbers)) == 1200
        assert store.get_many([]) == {}

    def test_first_completion_of_a_key_stands(self, store: CompletionStore) -> None:
        assert store.put_many([stored(1, "first"), stored(2)]) == 2
        assert store.put_many([stored(1, "second"), stored(3)]) == 1
        assert store.get_many([key(1)])[key(1)].text == "first"
        assert store.put_many([]) == 0

    def test_what_is_measured_later_is_kept_with_the_completion(
        self, store: CompletionStore
    ) -> None:
        store.put_many([stored(1)])
        later = {**stored(1).measurements, "unsteered_logprob": -2.0}
        store.amend([replace(stored(1), measurements=later), stored(2)])
        assert store.get_many([key(1), key(2)]) == {key(1): replace(stored(1), measurements=later)}

    def test_deleted_completions_can_be_leased_again(self, store: CompletionStore) -> None:
        store.put_many([stored(1), stored(2)])
        assert store.delete([key(1), key(9)]) == 1
        assert store.lease([key(1), key(2)], new_owner(), 60) == [key(1)]

    def test_a_failed_transaction_leaves_nothing(self, store: CompletionStore) -> None:
        unstorable = StoredCompletion(key(2), "text", (), "stop", created_at=None)  # type: ignore[arg-type]
        with pytest.raises(sqlite3.IntegrityError, match="created_at"):
            store.put_many([stored(1), stored(2), unstorable])
        assert store.stats().completions == 0
        assert store.put_many([stored(1)]) == 1

    def test_stats(self, store: CompletionStore) -> None:
        assert store.stats().oldest is None
        first = StoredCompletion(key(1), "a", (), "stop", {}, 10.0, {"level": "smoke"})
        second = StoredCompletion(key(2), "a", (), "stop", {}, 20.0, {"level": "full"})
        third = StoredCompletion(key(3), "a", (), "stop", {}, 15.0, {"level": "full"})
        store.put_many([first, second, third])
        store.lease([key(4), key(5)], new_owner(), 60)
        stats = store.stats()
        assert (stats.completions, stats.leases) == (3, 2)
        assert (stats.oldest, stats.newest) == (10.0, 20.0)
        assert stats.runs == [({"level": "full"}, 2), ({"level": "smoke"}, 1)]
        assert stats.size_bytes > 4096

    def test_prune_keeps_what_it_is_told_to(self, store: CompletionStore) -> None:
        store.put_many(stored(n, "x" * 2000) for n in range(600))
        size = store.stats().size_bytes
        assert store.prune(lambda completion: completion.key < key(50)) == 550
        assert len(store.get_many(key(n) for n in range(600))) == 50
        assert store.stats().size_bytes < size / 4
        assert store.verify() == []


class TestLeases:
    def test_a_key_is_granted_once_in_the_order_asked(self, store: CompletionStore) -> None:
        store.put_many([stored(2)])
        mine, other = new_owner(), new_owner()
        assert store.lease([key(3), key(2), key(1)], mine, 60) == [key(3), key(1)]
        assert store.lease([key(4), key(3), key(1)], other, 60) == [key(4)]
        assert store.lease([key(3), key(1)], mine, 60) == []

    def test_limit(self, store: CompletionStore) -> None:
        keys = [key(n) for n in range(2000)]
        mine, other = new_owner(), new_owner()
        assert store.lease(keys, mine, 60, limit=700) == keys[:700]
        assert store.lease(keys, other, 60, limit=2) == keys[700:702]
        assert store.lease(keys, other, 60, limit=0) == []
        assert store.stats().leases == 702

    def test_stored_keys_need_no_lease(self, store: CompletionStore) -> None:
        mine = new_owner()
        store.lease([key(1), key(2)], mine, 60)
        store.put_many([stored(1)])
        assert store.release(mine) == 1
        assert store.lease([key(1), key(2)], new_owner(), 60) == [key(2)]

    def test_lease_lapses_unless_renewed(self, store: CompletionStore) -> None:
        renewed, lapsed, later = new_owner(), new_owner(), new_owner()
        store.lease([key(1)], renewed, 0.05)
        store.lease([key(2)], lapsed, 0.05)
        assert store.renew(renewed, 60) == 1
        time.sleep(0.1)
        assert store.stats().leases == 1
        assert store.lease([key(1), key(2)], later, 60) == [key(2)]
        assert store.renew(lapsed, 60) == 0

    def test_owner_of_another_host_is_trusted_for_its_time(self, store: CompletionStore) -> None:
        _, pid, rest = new_owner().rsplit(":", 2)
        assert store.lease([key(1)], f"elsewhere/1:{pid}:{rest}", 60) == [key(1)]
        assert store.lease([key(2)], f"elsewhere/1:{pid}:0-00", -1) == [key(2)]
        assert store.lease([key(1), key(2)], new_owner(), 60) == [key(2)]

    @pytest.mark.parametrize("name", ["", "host", "host:x:1-2", "host:1:2"])
    def test_owner_without_a_process_is_refused(self, store: CompletionStore, name: str) -> None:
        with pytest.raises(ValueError, match="expected host:pid:start-nonce"):
            store.lease([key(1)], name, 60)

    def test_two_processes_generate_each_key_once(self, store: CompletionStore) -> None:
        script = """
            keys = [f"{number:064x}" for number in range(200)]
            print("ready", flush=True)
            while len(store.get_many(keys)) < 200:
                for key in store.lease(keys, owner, 60, limit=7):
                    print(key, flush=True)
                    assert store.put_many([stored(int(key, 16))]) == 1
        """
        workers = [start(script, store.path) for _ in range(2)]
        generated = [wait_for(worker).split()[1:] for worker in workers]
        together = sorted(generated[0] + generated[1])
        assert together == [key(n) for n in range(200)]
        assert store.stats().leases == 0
        assert store.verify() == []

    @posix_only
    @pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
    def test_leases_of_a_killed_process_lapse_at_once(
        self, store: CompletionStore, reaped: bool
    ) -> None:
        script = """
            keys = [f"{number:064x}" for number in range(20)]
            store.lease(keys, owner, 3600)
            print(owner, flush=True)
            time.sleep(60)
        """
        holder = start(script, store.path)
        owner = first_line(holder)
        keys = [key(n) for n in range(20)]
        assert not is_dead(owner)
        assert store.lease(keys, new_owner(), 60) == []
        holder.send_signal(signal.SIGKILL)
        if reaped:
            holder.wait(timeout=60)
        else:
            os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        assert store.stats().leases == 0
        assert store.lease(keys, new_owner(), 60) == keys
        holder.communicate(timeout=60)

    @posix_only
    def test_a_pid_used_again_is_another_process(self) -> None:
        host, pid, rest = new_owner().rsplit(":", 2)
        started = rest.partition("-")[0]
        assert started == process_start(os.getpid())
        assert not is_dead(f"{host}:{pid}:{started}-00")
        assert is_dead(f"{host}:{pid}:{int(started) - 1}-00")
        assert not is_dead(f"{host}:{pid}:{UNKNOWN_START}-00")


def fork(action: object) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=action)
    process.start()
    return process


class TestSharing:
    def test_threads_share_a_store(self, store: CompletionStore) -> None:
        def work(offset: int) -> None:
            for n in range(offset, offset + 50):
                store.put_many([stored(n)])
                assert store.get_many([key(n)])

        threads = [threading.Thread(target=work, args=(50 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.stats().completions == 200

    @posix_only
    def test_a_forked_child_loses_nothing(self, store: CompletionStore) -> None:
        """A child that went on with its parent's connection would write to a removed log."""
        store.put_many([stored(0)])
        closed = multiprocessing.get_context("fork").Event()

        def child() -> None:
            assert store.get_many([key(0)])
            store.put_many([stored(1)])
            assert closed.wait(30)
            store.put_many(stored(n) for n in range(2, 50))

        process = fork(child)
        store.put_many([stored(50)])
        store.close()
        closed.set()
        process.join(30)
        assert process.exitcode == 0
        assert store.stats().completions == 51
        assert store.verify() == []

    @posix_only
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_a_fork_waits_for_other_threads(self, store: CompletionStore) -> None:
        """A child has no thread but the one that forked: a lock left held would stay held."""
        stop = threading.Event()
        written = 0

        def write() -> None:
            nonlocal written
            while not stop.is_set():
                store.put_many([stored(written)])
                written += 1

        def child() -> None:
            signal.alarm(20)
            store.put_many([stored(10**6)])

        thread = threading.Thread(target=write)
        thread.start()
        try:
            children = [fork(child) for _ in range(5)]
            for process in children:
                process.join(30)
        finally:
            stop.set()
            thread.join()
        assert [process.exitcode for process in children] == [0] * 5
        assert store.stats().completions == written + 1
        assert store.verify() == []

    def test_many_processes_may_make_the_store_at_once(self, path: Path) -> None:
        script = "print(store.put_many([stored(int(sys.argv[2]))]))"
        workers = [start(script, path, n) for n in range(4)]
        assert [wait_for(worker).strip() for worker in workers] == ["1"] * 4
        with CompletionStore(path) as store:
            assert store.stats().completions == 4

    @posix_only
    def test_killed_while_writing(self, path: Path) -> None:
        """Whatever the moment: the store is sound, and what was reported as stored is there."""
        script = """
            first = int(sys.argv[2])
            print("ready", flush=True)
            for number in range(first, first + 10**6, 16):
                store.put_many(stored(n, "x" * 500) for n in range(number, number + 16))
                print(number, flush=True)
        """
        chance = random.Random(0)
        for attempt in range(6):
            writer = start(script, path, attempt * 10**7)
            assert first_line(writer) == "ready"
            time.sleep(chance.uniform(0, 0.2))
            writer.send_signal(signal.SIGKILL)
            output, _ = writer.communicate(timeout=60)
            reported = [int(line) for line in output.splitlines(keepends=True) if line[-1] == "\n"]
            with CompletionStore(path) as store:
                assert store.verify() == []
                assert store.stats().completions % 16 == 0
                keys = [key(n) for number in reported for n in range(number, number + 16)]
                assert len(store.get_many(keys)) == len(keys)
                assert store.put_many([stored(-1 - attempt)]) == 1
                store.delete([key(-1 - attempt)])


class TestBadFiles:
    def refused(self, path: Path) -> str:
        with pytest.raises(SteeringError) as caught:
            CompletionStore(path)
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith(f"{path}: found ")
        assert "expected" in message
        return message

    def filled(self, path: Path) -> bytes:
        with CompletionStore(path) as store:
            store.put_many(stored(n, "x" * 300) for n in range(500))
        assert not path.with_name(path.name + "-wal").exists()
        return path.read_bytes()

    def test_truncated(self, path: Path) -> None:
        content = self.filled(path)
        path.write_bytes(content[: len(content) // 2])
        message = self.refused(path)
        assert "damaged completion store" in message
        assert "the next run sets it aside" in message
        assert path.read_bytes() == content[: len(content) // 2]

    def test_not_a_database(self, path: Path) -> None:
        path.parent.mkdir()
        path.write_text("prompt,text\n" * 100)
        assert "damaged completion store" in self.refused(path)

    def test_another_version(self, path: Path) -> None:
        self.filled(path)
        with sqlite3.connect(path) as db:
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        db.close()
        message = self.refused(path)
        assert f"version {SCHEMA_VERSION + 1}, expected version {SCHEMA_VERSION};" in message

    def test_another_program(self, path: Path) -> None:
        path.parent.mkdir()
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE bookmarks (url TEXT)")
        db.close()
        content = path.read_bytes()
        assert "another program's SQLite file" in self.refused(path)
        assert path.read_bytes() == content

    def test_folder_that_cannot_be_made(self, path: Path) -> None:
        path.parent.write_text("a file")
        assert "cannot be opened for writing" in self.refused(path)

    def test_folder_in_place_of_the_file(self, path: Path) -> None:
        path.mkdir(parents=True)
        assert "cannot be opened for writing" in self.refused(path)

    def test_changed_record(self, path: Path) -> None:
        with CompletionStore(path) as store:
            store.put_many([stored(1), stored(2, "keep")])
            with store._writing() as db:
                db.execute(
                    "UPDATE completions SET record = zeroblob(length(record)) WHERE key = ?",
                    [key(1)],
                )
            assert store.verify() == [f"{path}: record {key(1)}: checksum does not match"]
            with pytest.raises(SteeringError, match=f"record {key(1)}.*store prune"):
                store.get_many([key(1), key(2)])
            assert store.get_many([key(2)])[key(2)].text == "keep"
            assert store.prune(lambda _: True) == 1
            assert store.verify() == []

    def test_damage_within_the_file_is_found(self, path: Path) -> None:
        content = bytearray(self.filled(path))
        content[20_000:60_000] = os.urandom(40_000)
        path.write_bytes(content)
        with CompletionStore(path) as store:
            problems = store.verify()
            assert problems
            assert all("\n" not in line for line in problems)
            with pytest.raises(SteeringError, match=r"damaged completion store|does not match"):
                store.get_many(key(n) for n in range(500))

    def test_locked(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        module = "steering_reliability.results.database"
        monkeypatch.setattr(f"{module}.BUSY_TIMEOUT_S", 0.01)
        monkeypatch.setattr(f"{module}.PATIENCE_S", 0.05)
        self.filled(path)
        with CompletionStore(path) as holder, CompletionStore(path) as store:
            with holder._writing():
                with pytest.raises(SteeringError, match="found the completion store locked"):
                    store.put_many([stored(1)])
                assert store.get_many([key(2)])
            assert store.put_many([stored(1000)]) == 1

    def test_set_aside(self, path: Path) -> None:
        content = self.filled(path)
        path.write_bytes(content[:5000])
        path.with_name(path.name + "-wal").write_bytes(b"log")
        assert set_aside(path) == path.with_name(path.name + ".aside-1")
        assert path.with_name(path.name + ".aside-1").read_bytes() == content[:5000]
        assert path.with_name(path.name + ".aside-1-wal").read_bytes() == b"log"
        with CompletionStore(path) as store:
            assert store.stats().completions == 0
        assert set_aside(path) == path.with_name(path.name + ".aside-2")
        assert set_aside(path) is None
