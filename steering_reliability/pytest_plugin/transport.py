"""What crosses the wire between processes: plain builtins, and nothing else.

One value of another type in a report aborts a whole distributed session; everything passes
through :func:`to_wire`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from steering_reliability.expectations import Verdict

REPORT_ATTRIBUTE = "steering"
ERROR_ATTRIBUTE = "steering_error"
TIMINGS = "steering_timings"
CUT_SHORT = "steering_cut_short"
RUN_ID = "steering_run_id"

# Below it execnet, which carries xdist's messages, fails; above, any whole number is fine.
_LEAST_INT = -(2**31)


def to_wire(value: Any) -> Any:
    """``value`` as builtins that every serialiser takes; what it doesn't know becomes text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {to_wire(str(key)): to_wire(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [to_wire(item) for item in value]
    if isinstance(value, int):
        return int(value) if value >= _LEAST_INT else str(value)
    if isinstance(value, float):
        return float(value)
    if hasattr(value, "item"):
        return to_wire(value.item())
    return to_wire(str(value))


def attach(report: pytest.TestReport, level: str, verdicts: list[Verdict]) -> None:
    """Put a test's verdicts on its report."""
    record = {"level": level, "verdicts": [verdict.to_dict() for verdict in verdicts]}
    setattr(report, REPORT_ATTRIBUTE, to_wire(record))


def verdicts_of(report: Any) -> tuple[str, list[Verdict]] | None:
    """Level and verdicts that :func:`attach` put there, on whichever side of the wire."""
    record = getattr(report, REPORT_ATTRIBUTE, None)
    if not record:
        return None
    # It takes pandas and scipy, which no other suite is to pay for.
    from steering_reliability.expectations import Verdict

    return record["level"], [Verdict.from_dict(verdict) for verdict in record["verdicts"]]
