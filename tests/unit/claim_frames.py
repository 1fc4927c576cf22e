"""Scores frames made of given zeros and ones, for the tests of expectations and decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from steering_reliability.cells import Cell

Values = Sequence[float] | np.ndarray


def block(
    cell: Cell,
    split: str,
    refusal: Values,
    helpful: Values | None = None,
    degenerate: Values | None = None,
    seen: bool | Sequence[bool] = False,
    sample: int = 0,
) -> pd.DataFrame:
    """Rows of one cell on one split, one per prompt, in the columns that claims read."""
    n = len(refusal)
    refused = np.asarray(refusal, dtype=float)
    return pd.DataFrame(
        {
            "prompt_id": [f"{split}-{i:03d}" for i in range(n)],
            "split": split,
            "layer": cell.layer,
            "intervention": cell.intervention,
            "alpha": cell.alpha,
            "direction": cell.direction,
            "condition": cell.condition,
            "sample": sample,
            "seen": seen,
            "refusal_score": refused,
            "is_refusal": refused > 0.5,
            "is_helpful": np.asarray(1 - refused if helpful is None else helpful) > 0.5,
            "is_degenerate": np.asarray(np.zeros(n) if degenerate is None else degenerate) > 0.5,
        }
    )


def share(rate: float, n: int, start: int = 0) -> np.ndarray:
    """``n`` zeros with ``rate * n`` ones, the first at ``start``, wrapping round."""
    values = np.zeros(n)
    values[(start + np.arange(round(rate * n))) % n] = 1
    return values


def grid(
    rates: Mapping[Cell, Mapping[str, float]],
    n: int = 100,
    baseline: Mapping[str, float] | None = None,
    degenerate: Mapping[Cell, float] | None = None,
) -> pd.DataFrame:
    """A frame with the given refusal rate per cell and split, and every cell's baseline."""
    baseline = {"harm_train": 0.2, "harm_test": 0.2, "benign": 0.05} | dict(baseline or {})
    blocks = []
    for cell, splits in rates.items():
        for split, rate in splits.items():
            broken = share((degenerate or {}).get(cell, 0.0), n, start=n // 2)
            blocks.append(block(cell, split, share(rate, n), degenerate=broken))
    copies = {(cell.baseline, split) for cell, splits in rates.items() for split in splits}
    for cell, split in sorted(copies):
        blocks.append(block(cell, split, share(baseline[split], n)))
    return pd.concat(blocks, ignore_index=True)
