"""How far two judges agree, beyond what their rates alone would give."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from steering_reliability.statistics.estimates import Estimate, critical_value, floats
from steering_reliability.statistics.rates import wilson_bounds
from steering_reliability.statistics.trends import bootstrap_weights


def cohen_kappa(
    first: ArrayLike,
    second: ArrayLike,
    clusters: ArrayLike,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Cohen's kappa (1960) of two yes-or-no judges, with an interval clustered by prompt.

    The interval resamples whole clusters (Field and Welsh 2007) and takes percentiles; resamples
    in which both judges say one thing throughout have no kappa and are left out. Where the judges
    never disagree no resample does either; the lower bound then follows from Wilson's for the
    agreement, at the chance agreement that was observed.

    Args:
        first: ``[n]`` zeros and ones.
        second: ``[n]``, of the same texts in the same order.
        clusters: ``[n]`` labels; texts of one prompt share one.
        confidence: of the interval.
        seed: of the resampling.

    Returns:
        The estimate; ``n`` counts clusters. NaN with a reason where both judges say one and the
        same thing of every text, or there is but one cluster.

    Raises:
        ValueError: the lengths differ.
    """
    one, two = floats(first), floats(second)
    labels, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    if not one.shape == two.shape == cluster.shape:
        raise ValueError(
            f"found {one.shape}, {two.shape}, {cluster.shape} values, expected equal shapes"
        )
    n = len(labels)
    if n < 2:
        return Estimate.missing(f"{n} prompts", n, confidence)
    # Columns: texts, agreements, yes of the first, yes of the second, summed by cluster.
    columns = np.stack([np.ones_like(one), (one == two).astype(float), one, two], axis=1)
    sums = np.zeros((n, 4))
    np.add.at(sums, cluster, columns)
    total = sums.sum(axis=0)
    value = float(_kappas(total[None])[0])
    if np.isnan(value):
        return Estimate.missing("both say the same of every text", n, confidence)
    if total[1] == total[0]:
        low, _ = wilson_bounds(1.0, n, critical_value(confidence))
        rate = total[2] / total[0]
        chance = rate**2 + (1 - rate) ** 2
        return Estimate(value, float((low - chance) / (1 - chance)), 1.0, n, confidence=confidence)
    resampled = _kappas(bootstrap_weights(n, seed) @ sums)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(resampled, (tail, 1 - tail))
    return Estimate(value, float(low), float(high), n, confidence=confidence)


def _kappas(
    sums: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """``[k]`` kappas of ``[k, 4]`` sums."""
    texts, agreed, yes_one, yes_two = sums.T
    observed, p, q = agreed / texts, yes_one / texts, yes_two / texts
    chance = p * q + (1 - p) * (1 - q)
    # Rounding must not make a chance of 1 look like less.
    defined = chance < 1 - 1e-12
    return np.where(defined, (observed - chance) / np.where(defined, 1 - chance, 1.0), np.nan)
