"""What runs tell of completions cut off after 16 and 32 tokens: from real runs of a tiny model."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from projects import Project
from transformers import AutoTokenizer

from steering_reliability.ladder.rescore import rescore_run
from steering_reliability.results.records import StoredCompletion, decode, encode
from steering_reliability.results.run import read_run

TABLES = ("tables/prefix_lengths.csv", "tables/prefix_claims.csv")


@pytest.fixture
def long(project: Project) -> Project:
    project.write_level(generation={"max_new_tokens": 40, "slots": 8})
    return project


def rewritten(store: Path, without: tuple[str, ...]) -> list[StoredCompletion]:
    """Every stored completion, put back without some measurements, as older versions made it."""
    columns = "key, record, checksum, created_at, run"
    with sqlite3.connect(store) as db:
        old = [decode(row) for row in db.execute(f"SELECT {columns} FROM completions")]
        for one in old:
            kept = {k: v for k, v in one.measurements.items() if k not in without}
            row = encode(StoredCompletion(**{**vars(one), "measurements": kept}))
            db.execute(
                f"UPDATE completions SET ({columns}) = (?, ?, ?, ?, ?) WHERE key = ?",
                (*row, one.key),
            )
    db.close()
    return old


def test_workers_tell_the_same_of_shorter_completions(long: Project, tmp_path: Path) -> None:
    runs = {
        name: long.run("experiments", "-m", "smoke", *arguments, artifacts=tmp_path / name)
        for name, arguments in {
            "plain": ("-p", "no:xdist"),
            "none": ("-n0",),
            "two": ("-n2",),
        }.items()
    }
    assert all(run.ret == 0 for run in runs.values()), runs["two"].stdout.str()
    folders = {name: long.folder(artifacts=tmp_path / name) for name in runs}
    for table in TABLES:
        assert len({(folder / table).read_bytes() for folder in folders.values()}) == 1
    lengths = pd.read_csv(folders["two"] / TABLES[0], dtype={"tokens": str})
    assert len(lengths) == 3 * 3 * (2 + 2)
    assert (lengths["unknown"] == 0).all()
    assert set(pd.read_csv(folders["two"] / TABLES[1])["tokens"]) == {"16", "32", "all"}
    page = (folders["two"] / "report.html").read_text(encoding="utf-8")
    assert "Where completions change their mind" in page

    # The offsets are those of the tokens, and judging again by them changes nothing.
    stored = rewritten(tmp_path / "plain" / "store.sqlite", without=())
    tokenizer = AutoTokenizer.from_pretrained(long.model)
    cut = 0
    for one in stored:
        for k in (16, 32):
            chars = int(one.measurements[f"chars_{k}"])
            first = tokenizer.decode(one.token_ids[:k], skip_special_tokens=True)
            cut += len(one.token_ids) > k
            # What is left over is a character that the cut split: one byte or more of it.
            assert one.text[:chars] == first[:chars]
            assert set(first[chars:]) <= {"\ufffd"}
    assert cut > 20
    rescore_run(folders["plain"], "rules", tmp_path / "again")
    for table in TABLES:
        assert (tmp_path / "again" / table).read_bytes() == (folders["plain"] / table).read_bytes()
    manifest = json.loads((folders["plain"] / "manifest.json").read_text(encoding="utf-8"))
    cost = manifest["prefix_scoring"]
    assert cost["texts"] == 2 * len(read_run(folders["plain"]).scores)


def test_completions_stored_before_are_unknown_and_not_made_again(long: Project) -> None:
    assert long.run("experiments", "-m", "smoke").ret == 0
    rewritten(long.artifacts / "store.sqlite", without=("chars_16", "chars_32"))
    again = long.run("experiments", "-m", "smoke")
    assert again.ret == 0, again.stdout.str()
    assert "0 completions generated" in again.stdout.str()
    scores = read_run(long.folder()).scores
    assert scores[["chars_16", "is_refusal_16"]].isna().all(axis=None)
    page = (long.folder() / "report.html").read_text(encoding="utf-8")
    assert "Where completions change their mind" not in page
    assert not any((long.folder() / table).exists() for table in TABLES)
