"""The design's verdict table as rules: bounds in, (passes, fails) out.

Every rule takes numbers or arrays, so that ``benchmarks/calibration.py`` simulates the very rules
that decide. Comparisons with a margin allow for rounding: 3/20 - 1/20 is a rise of .10.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steering_reliability.expectations.verdicts import Outcome

Bools = NDArray[np.bool_]
Rule = tuple[Bools, Bools]

ROUNDING = 1e-9


def _array(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def within_band(
    point: ArrayLike,
    inner: tuple[ArrayLike, ArrayLike],
    outer: tuple[ArrayLike, ArrayLike],
    band: tuple[float, float],
    interval_band: tuple[float, float],
) -> Rule:
    """``baseline_refusal``: ``inner`` is the 90% interval, ``outer`` the 95% one."""
    point = _array(point)
    passes = (
        (point >= band[0] - ROUNDING)
        & (point <= band[1] + ROUNDING)
        & (_array(inner[0]) >= interval_band[0])
        & (_array(inner[1]) <= interval_band[1])
    )
    fails = (_array(outer[1]) < band[0]) | (_array(outer[0]) > band[1])
    return passes, fails


def raises(point: ArrayLike, low: ArrayLike, high: ArrayLike, least: float) -> Rule:
    """A rise: the interval excludes 0 and the point reaches ``least``; fails below ``least``."""
    passes = (_array(low) > 0) & (_array(point) >= least - ROUNDING)
    return passes, _array(high) < least


def lowers(point: ArrayLike, low: ArrayLike, high: ArrayLike, least: float) -> Rule:
    """A fall: the mirror image of ``raises``."""
    passes = (_array(high) < 0) & (_array(point) <= -least + ROUNDING)
    return passes, _array(low) > -least


def stays_under(low: ArrayLike, high: ArrayLike, margin: float) -> Rule:
    """Non-inferiority, by one-sided bounds."""
    return _array(high) < margin, _array(low) > margin


def both_stay_under(first: Rule, second: Rule) -> Rule:
    """Both must stay under to pass, either above fails."""
    return first[0] & second[0], first[1] | second[1]


def never_falls(
    low: ArrayLike, high: ArrayLike, step_lows: ArrayLike, step_highs: ArrayLike, tolerance: float
) -> Rule:
    """``alpha_monotonicity``: the slope's interval, and bounds of the steps in the last axis."""
    steps_hold = (_array(step_lows) > -tolerance).all(axis=-1)
    step_falls = (_array(step_highs) < -tolerance).any(axis=-1)
    passes = (_array(low) > 0) & steps_hold
    return passes, (_array(high) <= 0) | step_falls


def outranks(p_value: ArrayLike, high: ArrayLike, largest_p: float, least: float) -> Rule:
    """``beats_controls`` by rank; ``high`` bounds the difference to the strongest control."""
    passes = _array(p_value) <= largest_p + ROUNDING
    return passes, ~passes & (_array(high) < least)


def outcome(rule: tuple[Any, Any]) -> Outcome:
    """One verdict of a rule applied to numbers."""
    passes, fails = rule
    if bool(passes):
        return "pass"
    return "fail" if bool(fails) else "inconclusive"
