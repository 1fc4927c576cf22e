"""A damaged store: found by looking, set aside whole, and what can be read carried over."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from steering_reliability.errors import SteeringError
from steering_reliability.results import mending
from steering_reliability.results.database import SCHEMA_VERSION, set_aside
from steering_reliability.results.mending import mend_store
from steering_reliability.results.owners import new_owner
from steering_reliability.results.records import StoredCompletion
from steering_reliability.results.store import CompletionStore

COMPLETIONS = {
    f"{n * 7919 % 100_003:064x}": StoredCompletion(
        f"{n * 7919 % 100_003:064x}", f"text {n} " * 40, (n, 2), "stop", {"x": 0.5}, 1.0
    )
    for n in range(600)
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store.sqlite"
    with CompletionStore(path) as store:
        store.put_many(COMPLETIONS.values())
    return path


def kept(path: Path) -> dict[str, StoredCompletion]:
    with CompletionStore(path) as store:
        assert store.verify() == []
        return store.get_many(COMPLETIONS)


def aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.aside-1")


def test_a_sound_store_stays_as_it_is(path: Path) -> None:
    content = path.read_bytes()
    assert mend_store(path) is None
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_missing_store_is_made(tmp_path: Path) -> None:
    assert mend_store(tmp_path / "new" / "store.sqlite") is None
    assert kept(tmp_path / "new" / "store.sqlite") == {}


@pytest.mark.parametrize("filling", ["zeros", "noise"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8, 0.97])
def test_what_lies_beside_the_damage_is_carried_over(
    path: Path, share: float, filling: str
) -> None:
    content = bytearray(path.read_bytes())
    start = int(share * len(content))
    noise = random.Random(0).randbytes(8192)
    content[start : start + 8192] = (noise if filling == "noise" else bytes(8192))[
        : len(content) - start
    ]
    path.write_bytes(content)
    told = mend_store(path)
    assert told is not None
    assert "\n" not in told
    assert told.startswith(f"{path}: found a damaged completion store (")
    found = kept(path)
    assert f"kept as store.sqlite.aside-1, and the {len(found)} completions in it" in told
    assert found == {key: COMPLETIONS[key] for key in found}
    assert len(found) > 550
    assert aside(path).read_bytes() == content
    assert mend_store(path) is None


def test_a_changed_record_is_damage(path: Path) -> None:
    changed = next(iter(COMPLETIONS))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE completions SET record = ? WHERE key = ?", [b"{}", changed])
    db.close()
    told = mend_store(path)
    assert told is not None
    assert f"record {changed}: checksum does not match" in told
    assert kept(path).keys() == COMPLETIONS.keys() - {changed}


def test_a_text_that_is_no_utf8_is_damage(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE completions SET run = CAST(x'ff' AS TEXT) WHERE rowid = 5")
    db.close()
    with CompletionStore(path) as store:
        assert len(store.verify()) == 1
    assert mend_store(path) is not None
    assert len(kept(path)) == len(COMPLETIONS) - 1


def damaged_at_the_start(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes(8192) + content[8192:])


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def of_another_version(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()


@pytest.mark.parametrize("spoil", [damaged_at_the_start, cut_short, of_another_version])
def test_where_nothing_can_be_read_it_is_set_aside_if_all_is_to_be_fresh(
    path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(path)
    content = path.read_bytes()
    with pytest.raises(SteeringError, match=r"nothing can be read, .*--steer-fresh"):
        mend_store(path)
    assert path.read_bytes() == content
    assert not aside(path).exists()
    told = mend_store(path, fresh=True)
    assert told is not None
    assert told.endswith("it is kept as store.sqlite.aside-1, and nothing in it can be read")
    assert aside(path).read_bytes() == content
    assert kept(path) == {}


def test_a_store_that_is_added_to_is_left_until_that_ends(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE completions SET record = ? WHERE rowid = 5", [b"{}"])
    db.close()
    with CompletionStore(path) as store:
        mine = new_owner()
        store.lease(["wanted"], mine, 60)
        with pytest.raises(SteeringError, match="another process that has it open"):
            mend_store(path, fresh=True)
        store.release(mine)
    assert mend_store(path) is not None


def test_a_store_that_is_open_elsewhere_is_left_before_it_is_added_to(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE completions SET record = ? WHERE rowid = 5", [b"{}"])
    db.close()
    # As a run that still learns its directions has it: no lease yet.
    with (
        CompletionStore(path),
        pytest.raises(SteeringError, match="another process that has it open"),
    ):
        mend_store(path)
    assert mend_store(path) is not None


def test_a_run_that_starts_while_it_is_mended_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE completions SET record = ? WHERE rowid = 5", [b"{}"])
    db.close()
    other: list[CompletionStore] = []
    own = StoredCompletion("f" * 64, "mine", (1,), "stop", {}, 1.0)

    def set_aside_slowly(path: Path) -> Path | None:
        found = set_aside(path)
        other.append(CompletionStore(path))
        other[0].put_many([own])
        return found

    monkeypatch.setattr(mending, "set_aside", set_aside_slowly)
    assert mend_store(path) is not None
    other[0].close()
    assert mend_store(path) is None
    assert len(kept(path)) == len(COMPLETIONS) - 1
    with CompletionStore(path) as store:
        assert store.get_many([own.key]) == {own.key: own}


def test_another_version_is_told_with_the_one_expected(path: Path) -> None:
    of_another_version(path)
    with pytest.raises(SteeringError, match=rf"expected version {SCHEMA_VERSION}"):
        mend_store(path)


def test_a_damaged_lease_is_nobodys(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE completions SET record = ? WHERE rowid = 5", [b"{}"])
        db.execute("INSERT INTO leases VALUES ('wanted', x'00ff', 4e9)")
    db.close()
    assert mend_store(path) is not None


def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    db.close()
    with pytest.raises(SteeringError, match="another program's SQLite file"):
        mend_store(path, fresh=True)
    assert not aside(path).exists()
