"""How many prompts would settle a claim, by the same intervals that decide it.

A study of n prompts settles an effect if, were the effect true, its interval would clear the
bound in the stated share of repetitions (power). The interval is worked out at the outcome that
this share of repetitions beats: the expected one, moved towards the bound by the normal
quantile times the standard deviation. Pairs are taken to have latent normal scores with
correlation ``CORRELATION``, as the simulations of the design and of ``benchmarks/calibration.py``
do; with less correlation more prompts are needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from steering_reliability.statistics.estimates import critical_value, floats
from steering_reliability.statistics.rates import mover_bounds, newcombe_bounds, wilson_bounds

POWER = 0.80
CORRELATION = 0.5
MOST_PROMPTS = 100_000

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def planning_rate(values: ArrayLike) -> float:
    """Rate to plan with: Jeffreys' posterior mean, for none of twenty is not a rate of 0."""
    values = floats(values)
    return float((values.sum() + 0.5) / (len(values) + 1))


def both_probability(first: float, second: float, correlation: float = CORRELATION) -> float:
    """Chance that two latent normal scores both pass their thresholds.

    Plackett's identity (1954), integrated over the correlation by Gauss-Legendre.

    Args:
        first: chance of the first, strictly between 0 and 1.
        second: chance of the second, strictly between 0 and 1.
        correlation: of the two latent scores, more than -1 and less than 1.
    """
    h, k = float(ndtri(first)), float(ndtri(second))
    r = correlation * (_NODES + 1) / 2
    density = np.exp(-(h * h - 2 * r * h * k + k * k) / (2 * (1 - r * r)))
    integral = float((_WEIGHTS * density / np.sqrt(1 - r * r)).sum()) * correlation / 2
    return float(ndtr(h) * ndtr(k)) + integral / (2 * math.pi)


def prompts_for_difference(
    before: float,
    effect: float,
    bound: float = 0.0,
    confidence: float = 0.95,
    one_sided: bool = False,
    power: float = POWER,
) -> int | None:
    """Prompts at which the interval of a paired difference clears ``bound`` at ``power``.

    Args:
        before: unsteered rate, 0 to 1.
        effect: true difference, above the bound (its lower limit must clear it) or below.
        bound: 0 to show an effect, a margin to show that there is none.

    Returns:
        None if no number up to ``MOST_PROMPTS`` does, or the effect leaves the scale.
    """
    # A rate observed as exactly 0 or 1 is not known to be that.
    before = min(max(before, 0.005), 0.995)
    after = before + effect
    if not 0 <= after <= 1:
        return None
    both = both_probability(min(max(after, 0.005), 0.995), before)
    discordant = max(after + before - 2 * both, abs(effect))
    z = critical_value(confidence, one_sided)
    spread = math.sqrt(max(discordant - effect * effect, 0.0))
    sign = 1 if effect > bound else -1

    def clears(n: int) -> bool:
        seen = effect - sign * float(ndtri(power)) * spread / math.sqrt(n)
        seen = max(min(seen, discordant), -discordant)
        gained, lost = (discordant + seen) / 2, (discordant - seen) / 2
        neither = 1 - both - discordant
        low, high = newcombe_bounds(n * both, n * gained, n * lost, n * max(neither, 0.0), z)
        return float(low) > bound if sign > 0 else float(high) < bound

    return _smallest(clears)


def prompts_for_gap(
    before: float,
    effect: float,
    margin: float,
    confidence: float = 0.95,
    power: float = POWER,
) -> int | None:
    """Prompts per split that show a gap of effects below ``margin``, were the gap 0.

    Args:
        before: unsteered rate of either split.
        effect: effect of steering in both splits.
        margin: one-sided bound that the gap's upper limit must stay under.
    """
    before = min(max(before, 0.005), 0.995)
    after = min(max(before + effect, 0.005), 0.995)
    both = both_probability(after, before)
    gained, lost = max(after - both, 0.0), max(before - both, 0.0)
    effect = gained - lost
    z = critical_value(confidence, one_sided=True)
    spread = math.sqrt(2 * max(gained + lost - effect * effect, 0.0))

    def clears(n: int) -> bool:
        neither = max(1 - both - gained - lost, 0.0)
        low, high = newcombe_bounds(n * both, n * gained, n * lost, n * neither, z)
        _, above = mover_bounds(effect, low, high, effect, low, high)
        return float(above) + float(ndtri(power)) * spread / math.sqrt(n) < margin

    return _smallest(clears)


def prompts_for_rate(
    rate: float, low: float, high: float, confidence: float, power: float = POWER
) -> int | None:
    """Prompts at which the interval of a rate lies within ``low`` to ``high`` at ``power``.

    Args:
        rate: true rate, strictly between ``low`` and ``high``.
    """
    z = critical_value(confidence)
    # Either side may be missed, so each gets half of what the power leaves.
    miss = float(ndtri(1 - (1 - power) / 2))

    def clears(n: int) -> bool:
        spread = miss * math.sqrt(rate * (1 - rate) / n)
        least, _ = wilson_bounds(max(rate - spread, 0.0), n, z)
        _, most = wilson_bounds(min(rate + spread, 1.0), n, z)
        return float(least) >= low and float(most) <= high

    return _smallest(clears)


def prompts_for_slope(
    spread: float, slope: float, confidence: float = 0.95, power: float = POWER
) -> int | None:
    """Prompts at which the interval of a mean slope excludes 0 at ``power``.

    Args:
        spread: standard deviation of the slope over prompts, as observed.
        slope: least slope worth having, not 0.
    """
    if not spread > 0 or slope == 0:
        return None
    need = ((critical_value(confidence) + float(ndtri(power))) * spread / slope) ** 2
    return math.ceil(need) if need <= MOST_PROMPTS else None


def _smallest(clears: Callable[[int], bool]) -> int | None:
    low, high = 1, 2
    while not clears(high):
        low, high = high, high * 2
        if low > MOST_PROMPTS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if clears(middle) else (middle, high)
    return high
