"""Exact and permutation p-values, reported beside the intervals that decide."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr

from steering_reliability.statistics.estimates import Floats, floats

PERMUTATION_DRAWS = 1999


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided McNemar p-value from the discordant pairs (McNemar 1947; binomial)."""
    discordant = gained + lost
    if discordant == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(gained, lost), discordant, 0.5)))


def sign_flip(changes: ArrayLike, seed: int = 0) -> float:
    """Two-sided permutation p-value of a mean change of 0: each prompt's sign flips at random.

    Counted with the observed one among the draws (Phipson and Smyth 2010).
    """
    changes = floats(changes)
    flipped = _random_signs(len(changes), seed) @ changes
    return share_as_extreme(flipped, float(changes.sum()))


@lru_cache(maxsize=32)
def _random_signs(n: int, seed: int) -> Floats:
    return np.random.default_rng(seed).choice((-1.0, 1.0), size=(PERMUTATION_DRAWS, n))


def share_as_extreme(draws: Floats, observed: float) -> float:
    # The tolerance makes sums that differ in rounding alone count as ties.
    extreme = np.abs(draws) >= abs(observed) - 1e-9
    return float((1 + extreme.sum()) / (len(draws) + 1))


def gap_permutation(first: ArrayLike, second: ArrayLike, seed: int = 0) -> float:
    """Two-sided permutation p-value of equal means in two groups of prompts (Fisher 1935).

    Args:
        first: ``[n]`` changes of the prompts of one split.
        second: ``[m]`` changes of the prompts of the other.
    """
    first, second = floats(first), floats(second)
    pooled = np.concatenate([first, second])
    weights = _random_groups(len(first), len(second), seed)
    centred = pooled - pooled.mean()
    return share_as_extreme(weights @ centred, float(first.mean() - second.mean()))


@lru_cache(maxsize=32)
def _random_groups(n_first: int, n_second: int, seed: int) -> Floats:
    weights = np.r_[np.full(n_first, 1 / n_first), np.full(n_second, -1 / n_second)]
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(weights, (PERMUTATION_DRAWS, 1)), axis=1)


def rank_test(strength: float, rivals: ArrayLike) -> float:
    """p = (1 + rivals at least as strong) / (K + 1): ties count against (Phipson and Smyth 2010).

    Returns:
        NaN without rivals.
    """
    rivals = floats(rivals)
    if len(rivals) == 0:
        return math.nan
    return float((1 + (rivals >= strength - 1e-12).sum()) / (len(rivals) + 1))


def rivals_to_rank(largest_p: float, times: int = 1) -> int:
    """Rivals that `rank_test` needs before its least p, ``times`` over, can reach ``largest_p``."""
    # Rounding must not ask for one more: 3 / .05 is 60.
    return math.ceil(times / largest_p - 1e-9) - 1


def holm(p_values: ArrayLike) -> Floats:
    """Holm's adjusted p-values (Holm 1979), ``[m]``; NaN stays NaN and is not counted."""
    p_values = floats(p_values)
    adjusted = np.full(p_values.shape, math.nan)
    order = np.argsort(p_values, kind="stable")[: int((~np.isnan(p_values)).sum())]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
