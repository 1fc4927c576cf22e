"""The probes of a run, one row per cell, as the page lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steering_reliability.expectations.verdicts import number
from steering_reliability.report.labels import MINUS
from steering_reliability.results.probes import MEASURES

_SIGNED = {"refusal_log_odds_change"}


def probe_rows(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``tables/probes.csv``, the measures of a cell side by side as texts."""
    rows: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["measure"] in MEASURES:
            row = rows.setdefault(record["cell"], {**record})
            row[record["measure"]] = _text(record)
    return [row for row in rows.values() if all(measure in row for measure in MEASURES)]


def _text(record: Mapping[str, Any]) -> dict[str, str]:
    signed = record["measure"] in _SIGNED
    value, low, high = (
        number(record[name], signed).replace("-", MINUS) for name in ("estimate", "low", "high")
    )
    return {"value": value, "interval": f"[{low}, {high}]", "n": str(record["n"])}
