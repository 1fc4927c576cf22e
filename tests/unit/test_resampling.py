"""Prompts drawn anew: as many of each split, each with all its rows, the same for one seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from claim_frames import block

from steering_reliability.cells import Cell
from steering_reliability.resampling import resampled_tables

STEERED = Cell(12, "add", 2)
SPLITS = {"harm_test": 30, "benign": 20}


def frame(samples: int = 1) -> pd.DataFrame:
    """The steered cell refuses what the unsteered model answers, sample by sample."""
    blocks = []
    for split, n in SPLITS.items():
        for sample in range(samples):
            refused = (np.arange(n) + sample) % 3 == 0
            blocks.append(block(STEERED, split, refused, sample=sample))
            blocks.append(block(STEERED.baseline, split, ~refused, sample=sample))
    return pd.concat(blocks, ignore_index=True).sample(frac=1, random_state=0)


def test_each_split_is_drawn_by_itself_and_cells_stay_paired() -> None:
    rates = {split: set() for split in SPLITS}  # type: dict[str, set[float]]
    for table in resampled_tables(frame(), draws=20):
        assert table.cells == [STEERED.baseline, STEERED]
        for split, n in SPLITS.items():
            after, before = table.aligned((STEERED, STEERED.baseline), "is_refusal", (split,))
            assert len(after) == n
            assert ((after + before) == 1).all()
            rates[split].add(float(after.mean()))
    assert all(len(found) > 5 for found in rates.values())
    assert abs(np.mean(list(rates["harm_test"])) - 1 / 3) < 0.1


def test_all_samples_of_a_prompt_come_along() -> None:
    for table in resampled_tables(frame(samples=3), draws=3):
        (after,) = table.aligned((STEERED,), "is_refusal", ("harm_test",))
        # Of three samples in a row exactly one is refused.
        np.testing.assert_allclose(after, 1 / 3)
        assert len(after) == SPLITS["harm_test"]


def test_the_seed_and_not_the_order_of_rows_fixes_the_draws() -> None:
    def refusals(scores: pd.DataFrame, seed: int) -> list[list[float]]:
        tables = resampled_tables(scores, draws=3, seed=seed)
        return [t.aligned((STEERED,), "is_refusal", ("benign",))[0].tolist() for t in tables]

    scores = frame()
    assert refusals(scores, 1) == refusals(scores.iloc[::-1], 1)
    assert refusals(scores, 1) != refusals(scores, 2)
    first, second, third = refusals(scores, 1)
    assert not first == second == third
