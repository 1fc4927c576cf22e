"""How sure a mean is that was measured with something itself learned from a sample."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike
from scipy.special import stdtrit

from steering_reliability.statistics.estimates import Estimate, floats


def refitted_mean(values: ArrayLike, refits: ArrayLike) -> Estimate:
    """A mean over prompts, with an interval that also counts how the direction was learned.

    The variance of the mean over refits, each learned from a bootstrap draw (Efron 1979), is added
    to that of the mean over prompts; the quantile is Student's with the fewer degrees of freedom.

    Args:
        values: of each prompt with the direction itself, ``[n]``.
        refits: the mean over the same prompts of each refit, ``[n_refits]``.

    Returns:
        The mean of ``values`` with a 95% interval; NaN bounds with fewer than two of either.
    """
    values, refits = floats(values), floats(refits)
    n, mean = len(values), float(values.mean()) if len(values) else math.nan
    if min(n, len(refits)) < 2:
        reason = "fewer than two prompts or refits"
        return Estimate(mean, math.nan, math.nan, n, reason=reason)
    variance = values.var(ddof=1) / n + refits.var(ddof=1)
    half = float(stdtrit(min(n, len(refits)) - 1, 0.975) * math.sqrt(variance))
    return Estimate(mean, mean - half, mean + half, n)
