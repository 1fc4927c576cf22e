"""The probes of a run as the page lists them: by cell, and log-odds where they are refitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steering_reliability.cells import LEARNED
from steering_reliability.expectations.verdicts import number
from steering_reliability.report.labels import DASH, MINUS
from steering_reliability.results.probes import MEASURES, OWN_TEXT

# In the order of the page's columns.
_SHOWN = ("benign_kl", "perplexity_ratio", OWN_TEXT, "refusal_log_odds_change")
_WITH_SIGN = {"refusal_log_odds_change"}


def probe_rows(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``tables/probes.csv``, the measures of a cell side by side as texts.

    What a cell wrote is not weighed everywhere; there the row has None under `OWN_TEXT`.
    """
    rows: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["measure"] in _SHOWN:
            row = rows.setdefault(record["cell"], {**record, OWN_TEXT: None})
            row[record["measure"]] = _text(record)
    return [row for row in rows.values() if all(measure in row for measure in MEASURES)]


def probe_counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """How many prompts or texts each measure is a mean of, the least and the most of the rows."""
    counts = {}
    for measure in _SHOWN:
        found = sorted({row[measure]["n"] for row in rows if row[measure]})
        if found:
            counts[measure] = f"{found[0]}" if len(found) == 1 else f"{found[0]} to {found[-1]}"
    return counts


def endpoint_rows(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The learned rows of ``tables/log_odds.csv`` as texts, each with the span of its rivals."""
    rows = []
    for record in records:
        if record["direction"] != LEARNED:
            continue
        rivals = [
            other["estimate"]
            for other in records
            if other["cell"] == record["cell"] and other["direction"] != LEARNED
        ]
        rows.append(
            {
                "cell": record["cell"],
                "value": _signed(record["estimate"]),
                "interval": _span(record["low"], record["high"]),
                "refitted": _span(record.get("refit_low"), record.get("refit_high")),
                "rivals": f"{_signed(min(rivals))} to {_signed(max(rivals))}" if rivals else DASH,
                "rank": f"{record['rank']} of {record['of']}" if rivals else DASH,
                "n": str(record["n"]),
                "meaning": record["meaning"],
            }
        )
    return rows


def _span(low: float | None, high: float | None) -> str:
    return DASH if low is None or high is None else f"[{_signed(low)}, {_signed(high)}]"


def _signed(value: float) -> str:
    return number(value, True).replace("-", MINUS)


def _text(record: Mapping[str, Any]) -> dict[str, Any]:
    signed = record["measure"] in _WITH_SIGN
    value, low, high = (
        number(record[name], signed).replace("-", MINUS) for name in ("estimate", "low", "high")
    )
    return {"value": value, "interval": f"[{low}, {high}]", "n": int(record["n"])}
