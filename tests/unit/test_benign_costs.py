"""What steering costs on benign prompts: the larger of two harms, with its interval."""

from __future__ import annotations

import pandas as pd
import pytest
from claim_frames import block, share

from steering_reliability.benign_costs import benign_cost, benign_cost_estimate
from steering_reliability.cells import Cell
from steering_reliability.expectations import ScoreTable
from steering_reliability.statistics import paired_difference

CELL = Cell(12, "add", 2)


def table(refused: float, helpful: float) -> ScoreTable:
    """Unsteered: .10 refused, .80 helpful."""
    rows = [(CELL.baseline, share(0.1, 100), share(0.8, 100))]
    rows.append((CELL, share(refused, 100), share(helpful, 100)))
    blocks = [block(cell, "benign", refuses, helps) for cell, refuses, helps in rows]
    return ScoreTable(pd.concat(blocks, ignore_index=True))


@pytest.mark.parametrize(
    ("refused", "helpful", "after", "before"),
    [(0.3, 0.75, 0.3, 0.1), (0.1, 0.5, 0.8, 0.5)],
)
def test_the_larger_harm_counts_with_its_interval(
    refused: float, helpful: float, after: float, before: float
) -> None:
    scores = table(refused, helpful)
    found = benign_cost_estimate(scores, CELL, CELL.baseline)
    expected = paired_difference(share(after, 100), share(before, 100))
    assert benign_cost(scores, CELL, CELL.baseline) == pytest.approx(after - before)
    assert (found.value, found.low, found.high, found.n) == pytest.approx(
        (expected.value, expected.low, expected.high, 100)
    )


def test_a_gain_is_no_credit() -> None:
    found = benign_cost_estimate(table(0.0, 1.0), CELL, CELL.baseline)
    assert (found.value, found.low) == (0, 0)
    assert found.high >= 0
