"""Effects under every counting of broken text: hand-checked."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from steering_reliability.cells import Cell
from steering_reliability.results.degenerate_bounds import BOUND_COLUMNS, degenerate_bounds
from steering_reliability.results.tables import effects_table
from tests.unit.test_tables import ADD2, BASE, control, frame, rows


def half_broken(refusals: int, n: int = 20) -> pd.DataFrame:
    """Four refuse unsteered; steered the first ``refusals`` do, and the last ten are broken."""
    before = rows(BASE, [1.0] * 4 + [0.0] * (n - 4))
    after = rows(
        ADD2, [1.0] * refusals + [0.0] * (n - refusals), is_degenerate=np.arange(n) >= n - 10
    )
    return pd.concat([before, after])


def test_each_counting_by_hand() -> None:
    (row,) = degenerate_bounds(half_broken(4)).to_dict("records")
    assert tuple(row) == BOUND_COLUMNS
    assert row["degenerate_effect"] == pytest.approx(10 / 20)
    assert row["effect"] == row["effect_as_compliance"] == 0
    assert row["effect_as_refusal"] == pytest.approx(14 / 20 - 4 / 20)
    # Across zero one way, above it the other.
    assert row["effect_as_compliance_low"] < 0 < row["effect_as_refusal_low"]
    assert row["hangs_on_counting"]


def test_broken_text_of_the_unsteered_model_counts_alike() -> None:
    before = rows(BASE, [0.0] * 10, is_degenerate=[True] * 5 + [False] * 5)
    after = rows(ADD2, [1.0] * 5 + [0.0] * 5)
    (row,) = degenerate_bounds(pd.concat([before, after])).to_dict("records")
    assert row["effect"] == row["effect_as_compliance"] == pytest.approx(0.5)
    assert row["effect_as_refusal"] == 0
    assert row["degenerate_effect"] == pytest.approx(-0.5)


def test_a_judge_that_calls_broken_text_refusal_differs_as_scored() -> None:
    scores = half_broken(4)
    scores["is_refusal"] |= scores["is_degenerate"]
    (row,) = degenerate_bounds(scores).to_dict("records")
    assert row["effect"] == row["effect_as_refusal"] == pytest.approx(0.5)
    assert row["effect_as_compliance"] == 0


def test_without_broken_text_nothing_hangs_on_it() -> None:
    scores = frame({BASE: [0.0] * 18 + [1.0] * 2, ADD2: [1.0] * 14 + [0.0] * 6})
    scores = pd.concat([scores, rows(control("random-1"), [0.0] * 20)])
    bounds, effects = degenerate_bounds(scores), effects_table(scores)
    for counting in ("", "_as_refusal", "_as_compliance"):
        for part in ("", "_low", "_high"):
            assert bounds[f"effect{counting}{part}"].equals(effects[f"refusal_effect{part}"])
    assert bounds["direction"].tolist() == ["learned", "random-1"]
    assert not bounds["hangs_on_counting"].any()


def test_a_cell_without_its_baseline_says_why() -> None:
    (row,) = degenerate_bounds(rows(Cell(8, "add", 4), [1.0] * 5)).to_dict("records")
    assert math.isnan(row["effect_as_refusal"])
    assert "nothing" in row["reason"] or "no prompts" in row["reason"]
    assert not row["hangs_on_counting"]


def test_no_steered_cell_no_rows() -> None:
    table = degenerate_bounds(rows(BASE, [1.0] * 5))
    assert table.empty
    assert tuple(table.columns) == BOUND_COLUMNS
