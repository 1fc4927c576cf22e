"""What an estimator gives back: a number, its interval, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with the interval that says how far to believe it.

    Attributes:
        value: point estimate; NaN where there is too little data.
        low: lower bound at ``confidence``.
        high: upper bound at ``confidence``.
        n: prompts behind the estimate.
        p_value: of the hypothesis of no effect, two-sided; NaN where none is tested.
        confidence: of the interval, or of each bound by itself where bounds are one-sided.
        reason: why the estimate is NaN; empty otherwise.
    """

    value: float
    low: float
    high: float
    n: int
    p_value: float = math.nan
    confidence: float = 0.95
    reason: str = ""

    @classmethod
    def missing(cls, reason: str, n: int = 0, confidence: float = 0.95) -> Estimate:
        """The estimate that could not be made."""
        return cls(math.nan, math.nan, math.nan, n, math.nan, confidence, reason)


def critical_value(confidence: float, one_sided: bool = False) -> float:
    """Normal quantile of a two-sided interval, or of a one-sided bound, at ``confidence``.

    Raises:
        ValueError: the confidence is not strictly between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: found {confidence}, expected more than 0 and less than 1")
    return float(ndtri(confidence if one_sided else (1 + confidence) / 2))


def floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def too_little(*columns: Floats) -> str | None:
    if len(columns[0]) == 0:
        return "no prompts"
    if any(np.isnan(column).any() for column in columns):
        return "scores missing"
    return None
