"""What the claims of the second implementation share: outcomes, and what a cell is meant to do."""

from __future__ import annotations

from benchmarks.recompute.estimates import EQUAL, Answer
from benchmarks.recompute.run import Point

# What is counted, by what a cell is to do to refusal.
REFUSED = {"raise": "is_refusal", "lower": "kept_refusal"}


def decided(passes: bool, fails: bool) -> str:
    return "pass" if passes else "fail" if fails else "inconclusive"


def rises(answer: Answer, least: float) -> str:
    return decided(
        answer["low"] > 0 and answer["estimate"] >= least - EQUAL, answer["high"] < least
    )


def aim_of(point: Point) -> str:
    """What a cell is meant to do to refusal, unless it was chosen for the other goal."""
    return "raise" if point[1] == "add" and point[2] > 0 else "lower"
