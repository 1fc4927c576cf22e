"""A verdict and how it reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from steering_reliability.cells import Goal
from steering_reliability.statistics import Estimate

Outcome = Literal["pass", "fail", "inconclusive", "error"]
Detail = float | int | str | bool | None

# What is nearer to 0 than this is rounding.
_ZERO = 1e-9


@dataclass(frozen=True)
class Verdict:
    """What the data say about one claim.

    Attributes:
        claim: name of the claim, as in YAML.
        target: what it was made about: a cell's id, ``layer12-add``, or a split.
        outcome: ``inconclusive`` is what is neither pass nor fail; ``error`` is missing data,
            never a verdict.
        estimate: point estimate, NaN where there is none.
        low: lower bound of the interval that decided.
        high: upper bound.
        confidence: of the interval, or of each bound where the claim uses one-sided bounds
            (then ``details["bounds"]`` is ``"one-sided"``).
        n: prompts behind the estimate.
        p_value: of no effect, reported beside the interval; of ``beats_controls`` by rank, that of
            the rank, taken ``details["rank_times"]`` times (``paired_p`` is the other); NaN where
            none is defined.
        message: one sentence with estimate, interval and n.
        required: whether a fail fails the test.
        prompts_to_settle: for an inconclusive claim, prompts that would settle the declared
            least effect at 80% power; None where no number is known to.
        details: further numbers, builtins only; ``layer``, ``intervention`` and ``alpha`` where
            the claim is about them.
    """

    claim: str
    target: str
    outcome: Outcome
    estimate: float
    low: float
    high: float
    confidence: float
    n: int
    p_value: float
    message: str
    required: bool
    prompts_to_settle: int | None = None
    details: dict[str, Detail] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Builtins only, NaN as None: fit for JSON and the xdist wire."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Verdict:
        """The inverse of ``to_dict``; unknown keys are left out."""
        known = {name: record[name] for name in cls.__dataclass_fields__ if name in record}
        for name in ("estimate", "low", "high", "p_value"):
            if known.get(name) is None:
                known[name] = math.nan
        return cls(**known)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    return str(value)


def number(value: float, signed: bool = False, digits: int = 2) -> str:
    """``.25`` or ``+.25``: fixed decimals without the leading zero."""
    if math.isnan(value):
        return "?"
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    text = f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"
    return text.replace("0.", ".", 1) if abs(round(value, digits)) < 1 else text


def bound(value: float, signed: bool = False, digits: int = 2) -> str:
    """A bound of an interval: as ``number``, with more decimals where it would look like 0.

    On which side of 0 it lies may decide, as in ``[+.004, +.31]``.
    """
    while abs(value) > _ZERO and round(value, digits) == 0:
        digits += 1
    return number(value, signed, digits)


def recorded_interval(
    record: Mapping[str, Any],
    value: str = "effect",
    low: str = "low",
    high: str = "high",
    signed: bool = True,
) -> str:
    """``+.02 [-.03, +.08]``, of the three keys of a record."""
    estimate, lower, upper = (number(record[name], signed) for name in (value, low, high))
    return f"{estimate} [{lower}, {upper}]"


def interval(estimate: Estimate, signed: bool = True, digits: int = 2) -> str:
    """``+.25 [+.04, +.43]``."""
    low, high = (bound(part, signed, digits) for part in (estimate.low, estimate.high))
    return f"{number(estimate.value, signed, digits)} [{low}, {high}]"


def p_text(p_value: float) -> str:
    """``p = .06``, ``p = .004`` or ``p < .001``."""
    if p_value < 0.001:
        return "p < .001"
    return f"p = {number(p_value, digits=3 if p_value < 0.01 else 2)}"


def change(value: float) -> str:
    """The verb before a signed change."""
    return "changes by" if value < 0 else "rises by"


def counted(goal: Goal) -> str:
    """How refusal is counted where that is not as it is scored (``ScoreTable.refused``)."""
    return ", degenerate text in place of a refusal counted as one," if goal == "lower" else ""
