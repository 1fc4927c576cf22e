"""Intervals and p-values of the second implementation, from their definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

EQUAL = 1e-9
# Permutations that the run draws, and those drawn here.
RUN_DRAWS, DRAWS = 1999, 4999
MIN_PROMPTS_OF_A_SLOPE = 5

Array = np.ndarray
Answer = dict[str, Any]


class Drawn(float):
    """A p-value from random draws."""


def wilson(mean: float, n: float, tail: float) -> tuple[float, float]:
    """Bounds that each leave ``tail`` outside."""
    low, high = proportion_confint(mean * n, n, alpha=2 * tail, method="wilson")
    return float(low), float(high)


def effective_n(x: Array) -> float:
    """Prompts, counted as more where several samples make them vary less than zeros and ones."""
    if binary(x) or len(x) < 2 or x.min() == x.max():
        return float(len(x))
    return len(x) / min(1.0, x.var(ddof=1) / (x.mean() * (1 - x.mean())))


def binary(x: Array) -> bool:
    return set(np.unique(x)) <= {0.0, 1.0}


def square_and_add(
    x: float, of_x: tuple[float, float], y: float, of_y: tuple[float, float], phi: float = 0.0
) -> tuple[float, float]:
    """Newcombe's way from two intervals to that of the difference ``x - y``."""
    dl, du = x - of_x[0], of_x[1] - x
    el, eu = y - of_y[0], of_y[1] - y
    low = math.sqrt(max(dl * dl - 2 * phi * dl * eu + eu * eu, 0.0))
    high = math.sqrt(max(du * du - 2 * phi * du * el + el * el, 0.0))
    return x - y - low, x - y + high


def paired(after: Array, before: Array, tail: float) -> Answer:
    """Difference on the same prompts: Newcombe 1998 (Statistics in Medicine 17:2635), method 10."""
    n = len(after)
    x, y = float(after.mean()), float(before.mean())
    if binary(after) and binary(before):
        a = int(((after == 1) & (before == 1)).sum())
        b = int(((after == 1) & (before == 0)).sum())
        c = int(((after == 0) & (before == 1)).sum())
        d = n - a - b - c
        product = (a + b) * (c + d) * (a + c) * (b + d)
        excess: float = a * d - b * c
        if excess > 0:
            excess = max(excess - n / 2, 0)
        phi = excess / math.sqrt(product) if product else 0.0
        p = 1.0 if b + c == 0 else float(mcnemar([[a, b], [c, d]], exact=True).pvalue)
    else:
        covariance = float(np.cov(after, before, ddof=0)[0, 1])
        if covariance > 0:
            shrink = math.sqrt(n / effective_n(after) * n / effective_n(before))
            covariance = max(covariance - shrink / (2 * n), 0.0)
        spread = float(after.std() * before.std())
        phi = covariance / spread if spread else 0.0
        change = after - before
        signs = np.random.default_rng(1).integers(0, 2, (DRAWS, n)) * 2 - 1
        p = share_as_far(signs @ change, change.sum())
    of_x, of_y = wilson(x, effective_n(after), tail), wilson(y, effective_n(before), tail)
    low, high = square_and_add(x, of_x, y, of_y, phi)
    return {"estimate": x - y, "low": low, "high": high, "n": n, "p_value": p}


def share_as_far(draws: Array, observed: float) -> Drawn:
    return Drawn((1 + (np.abs(draws) >= abs(observed) - EQUAL).sum()) / (1 + len(draws)))


def gap_p(first: Array, second: Array) -> Drawn:
    pooled = np.r_[first, second]
    rng = np.random.default_rng(1)
    shuffled = rng.permuted(np.tile(pooled, (DRAWS, 1)), axis=1)
    draws = shuffled[:, : len(first)].mean(1) - shuffled[:, len(first) :].mean(1)
    return share_as_far(draws, first.mean() - second.mean())


def slope(scores: Array, alphas: list[float]) -> tuple[float, float, float, float]:
    """Mean slope over prompts, its bootstrap bounds (seed 0, 2,000 draws) and permutation p."""
    n = len(scores)
    if n < MIN_PROMPTS_OF_A_SLOPE:
        raise ValueError("too few prompts")
    slopes = np.polyfit(alphas, scores.T, 1)[0]
    slopes[np.ptp(scores, axis=1) == 0] = 0.0
    if np.ptp(slopes) < EQUAL:
        raise ValueError("every prompt has the same slope")
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=2000) @ slopes / n
    # Hesterberg 2015: percentiles of the t quantile, widened for the factor n / (n - 1).
    tail = stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(0.025, n - 1))
    low, high = np.quantile(draws, [tail, 1 - tail])
    x = np.asarray(alphas) - np.mean(alphas)
    rng = np.random.default_rng(1)
    trends = [float(rng.permuted(scores, axis=1).sum(0) @ x) for _ in range(DRAWS)]
    p = share_as_far(np.array(trends) / (x @ x) / n, slopes.mean())
    return float(slopes.mean()), float(low), float(high), p
