"""Log-odds at an operating point: the interval that refits count in, and the rank among rivals."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steering_reliability.cells import Cell
from steering_reliability.report.probes import endpoint_rows
from steering_reliability.results.endpoint import (
    ENDPOINT_COLUMNS,
    Endpoint,
    endpoint_table,
    read_endpoint,
    write_endpoint,
)
from steering_reliability.statistics import refitted_mean

CELL = Cell(12, "add", 4)
RNG = np.random.default_rng(0)
BEFORE = tuple(RNG.normal(size=12))


def shifted(by: float) -> tuple[float, ...]:
    return tuple(np.add(BEFORE, by) + RNG.normal(scale=0.1, size=12))


FOUND = Endpoint(
    BEFORE, shifted(3), tuple(map(shifted, (1, 2, 3, 4, 5))),
    {"random-1": shifted(-4), "random-2": shifted(3.5), "random-3": shifted(0)},
)  # fmt: skip


def test_refits_widen_the_interval_by_their_spread() -> None:
    values = RNG.normal(3, 1, size=20)
    alone = refitted_mean(values, [3.0] * 30)
    half = 2.093 * values.std(ddof=1) / math.sqrt(20)
    assert alone.high - alone.value == pytest.approx(half, rel=1e-3)
    spread = refitted_mean(values, np.linspace(1, 5, 30))
    assert spread.high - spread.low > 3 * (alone.high - alone.low)
    assert math.isnan(refitted_mean(values, []).low)


@pytest.mark.parametrize(("alpha", "rank"), [(4, [2, 4, 1, 3]), (-4, [3, 1, 4, 2])])
def test_the_rank_follows_what_the_cell_is_for(alpha: float, rank: list[int]) -> None:
    table = endpoint_table({replace(CELL, alpha=alpha): FOUND})
    assert tuple(table.columns) == ENDPOINT_COLUMNS
    assert list(table["direction"]) == ["learned", "random-1", "random-2", "random-3"]
    assert list(table["rank"]) == rank
    assert table["meaning"][0].endswith("would come first in 1 of 4 cases")
    assert table["meaning"][0].startswith("learning prompts and pairs drawn anew 5 times")


def test_the_learned_row_tells_both_intervals() -> None:
    table = endpoint_table({CELL: FOUND})
    learned = table.iloc[0]
    assert learned["estimate"] == pytest.approx(3, abs=0.1)
    assert learned["refit_low"] < learned["low"] < learned["high"] < learned["refit_high"]
    assert "with other prompts or pairs the effect may be none" in learned["meaning"]
    sure = endpoint_table({CELL: replace(FOUND, refits=(shifted(3), shifted(3.1)) * 4)}).iloc[0]
    assert "does not hang on just these" in sure["meaning"]
    [row] = endpoint_rows(table.astype(object).where(table.notna(), None).to_dict("records"))
    assert float(row["value"]) == pytest.approx(3, abs=0.1)
    assert row["rank"] == "2 of 4"
    low, high = row["rivals"].replace("\N{MINUS SIGN}", "-").split(" to ")
    assert (float(low), float(high)) == pytest.approx((-4, 3.5), abs=0.1)


def test_without_refits_or_rivals_nothing_is_made_up() -> None:
    table = endpoint_table({CELL: replace(FOUND, refits=(), rivals={})})
    assert table["refit_low"].isna().all()
    assert "not learned here" in table["meaning"][0]
    [row] = endpoint_rows(table.astype(object).where(table.notna(), None).to_dict("records"))
    assert row["refitted"] == row["rivals"] == row["rank"]


def test_what_was_kept_is_found_again_by_the_run_that_counts(tmp_path: Path) -> None:
    write_endpoint(tmp_path, "d", FOUND, "run-1")
    assert read_endpoint(tmp_path, "d") == FOUND
    assert read_endpoint(tmp_path, "d", "run-1") == FOUND
    assert read_endpoint(tmp_path, "d", "run-2") is None
    (tmp_path / "d.json").write_text(json.dumps({"steered": 3}), encoding="utf-8")
    assert read_endpoint(tmp_path, "d") is None
    (tmp_path / "d.json").write_text("{", encoding="utf-8")
    assert read_endpoint(tmp_path, "d") is None
