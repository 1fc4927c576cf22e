"""Trends over alpha: the slope of each prompt, resampled by prompt."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtrit

from steering_reliability.statistics.estimates import Estimate, Floats, floats, too_little
from steering_reliability.statistics.p_values import PERMUTATION_DRAWS, share_as_extreme

BOOTSTRAP_DRAWS = 2000
MIN_PROMPTS = 5


@lru_cache(maxsize=32)
def bootstrap_weights(n: int, seed: int = 0, draws: int = BOOTSTRAP_DRAWS) -> Floats:
    """``[draws, n]`` shares of each prompt in each resample (Efron 1979); rows sum to 1.

    Every estimate on the same prompts uses the same resamples, so comparisons are paired.
    """
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws) / n


def bootstrap_bounds(
    values: ArrayLike, confidence: float = 0.95, one_sided: bool = False, seed: int = 0
) -> tuple[Floats, Floats]:
    """Bounds of a mean over prompts, by the bootstrap.

    Percentiles widened for small samples (Hesterberg 2015, The American Statistician 69:371).

    Args:
        values: ``[..., n]``, one value per prompt in the last axis.
    """
    values = floats(values)
    n = values.shape[-1]
    tail = (1 - confidence) if one_sided else (1 - confidence) / 2
    tail = float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, tail)))
    means = values @ bootstrap_weights(n, seed).T
    low, high = np.quantile(means, (tail, 1 - tail), axis=-1)
    return low, high


def prompt_slopes(scores: ArrayLike, alphas: ArrayLike) -> Floats:
    """Least-squares slope over alpha of each prompt's score.

    Args:
        scores: ``[..., n, k]``, one score per prompt and alpha.
        alphas: ``[k]`` at least two different alphas.

    Returns:
        ``[..., n]``, in score per unit of alpha.
    """
    slopes: Floats = floats(scores) @ _slope_weights(floats(alphas))
    # The weights sum to 0 but for rounding; a score that never changes has a slope of exactly 0.
    return slopes.round(12)


def _slope_weights(alphas: Floats) -> Floats:
    centred = alphas - alphas.mean()
    weights: Floats = centred / (centred @ centred)
    return weights


def trend(
    scores: ArrayLike, alphas: ArrayLike, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Mean over prompts of the slope of the score over alpha.

    The interval resamples prompts; the p-value permutes the alphas within each prompt, which is
    right with ties (Page 1963 gives the ordered alternative, Pitman 1937 the permutation).

    Args:
        scores: ``[n, k]``, in 0 to 1, one row per prompt, one column per alpha.
        alphas: ``[k]``.
    """
    scores, alphas = floats(scores), floats(alphas)
    n = len(scores)
    if (reason := too_little(scores)) is None and n < MIN_PROMPTS:
        reason = f"{n} prompts, a slope needs at least {MIN_PROMPTS}"
    if reason is None and len(alphas) < 2:
        reason = "a slope needs two alphas"
    if reason is not None:
        return Estimate.missing(reason, n, confidence)
    slopes = prompt_slopes(scores, alphas)
    if np.ptp(slopes) == 0:
        return Estimate.missing("every prompt has the same slope", n, confidence)
    low, high = bootstrap_bounds(slopes, confidence, seed=seed)
    weights = tuple(map(float, _slope_weights(alphas)))
    permuted = _permuted_within(n, weights, seed).reshape(PERMUTATION_DRAWS, -1)
    p_value = share_as_extreme(permuted @ scores.ravel() / n, float(slopes.mean()))
    return Estimate(float(slopes.mean()), float(low), float(high), n, p_value, confidence)


@lru_cache(maxsize=16)
def _permuted_within(n: int, weights: tuple[float, ...], seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(weights, (PERMUTATION_DRAWS, n, 1)), axis=2)
