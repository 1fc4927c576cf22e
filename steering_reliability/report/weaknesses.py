"""What weakens the effect of an operating point, with the section of the report that tells it.

Rules that were set without looking at results; experiments/README.md lists them. Descriptions:
nothing here decides a claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steering_reliability.cells import LEARNED, Cell, Goal
from steering_reliability.expectations.verdicts import recorded_interval
from steering_reliability.report.lengths import length_view
from steering_reliability.results.shapes import COMPLETION_SHAPES
from steering_reliability.results.summary import grid_rows

if TYPE_CHECKING:
    import pandas as pd

    from steering_reliability.results.run import RunData

# Of a cell's completions; above it, most were judged before they ended.
MOST = 0.5


@dataclass(frozen=True)
class Weakness:
    """One check that speaks against an effect.

    Attributes:
        text: the check and its number.
        section: of the report that has more of it; empty where there is none.
    """

    text: str
    section: str


def weaknesses(data: RunData, cell: Cell, goal: Goal, split: str) -> list[Weakness]:
    """The checks that an operating point does not withstand; none where it withstands all.

    Args:
        data: the run, its tables written.
        cell: the operating point.
        goal: what it was chosen for.
        split: the one that it was run again on.
    """
    return [
        *_of_sanity(data.manifest.get("sanity") or [], cell, goal),
        *_of_log_odds(data.manifest.get("log_odds") or [], cell, goal),
        *_of_lengths(length_view(data.folder), cell, goal),
        *_of_limit(data, cell, split),
    ]


def _of_sanity(rows: list[Mapping[str, Any]], cell: Cell, goal: Goal) -> Iterator[Weakness]:
    """Conditions under which the effect may be none, or is surely smaller.

    Sanity checks are made of a cell that should raise refusal.
    """
    main = next((row for row in rows if row["check"] == "main"), None)
    if main is None or main["cell"] != cell.id or goal != "raise":
        return
    if main["low"] is not None and main["low"] <= 0:
        effect = recorded_interval(main)
        text = f"on the prompts of the sanity checks: {effect}, which is not clear of 0"
        yield Weakness(text, "sanity")
        return
    for row in rows:
        # What describes confounds has no change, and what is generated anew must be the same.
        if row.get("change_low") is None or row.get("completions") is not None:
            continue
        said = f"sanity check {row['check']}: {recorded_interval(row)}"
        if row["low"] <= 0:
            yield Weakness(f"{said}, not clear of 0", "sanity")
        elif row["change_high"] < 0:
            change = recorded_interval(row, "change", "change_low", "change_high")
            yield Weakness(f"{said}, changed by {change}", "sanity")


def _of_log_odds(rows: list[Mapping[str, Any]], cell: Cell, goal: Goal) -> Iterator[Weakness]:
    """Whether random directions reach the change of log-odds, or it may be none."""
    row = next((r for r in rows if (r["cell"], r["direction"]) == (cell.id, LEARNED)), None)
    # The rank is for what such cells are meant to do.
    if row is None or goal != cell.aim:
        return
    found = []
    if row["rank"] > 1:
        found.append(f"rank {row['rank']} of {row['of']} directions, the others random")
    for low, high, when in (("low", "high", ""), ("refit_low", "refit_high", " learned anew")):
        if row.get(low) is not None and row[low] <= 0 <= row[high]:
            change = recorded_interval(row, "estimate", low, high)
            found.append(f"{change} nats with the direction{when}, not clear of 0")
    if found:
        yield Weakness(f"log-odds of refusal: {'; '.join(found)}", "log-odds")


def _of_lengths(view: Mapping[str, Any] | None, cell: Cell, goal: Goal) -> Iterator[Weakness]:
    """Whether claims about the cell come out otherwise of completions that are cut off earlier."""
    told = view["claims"] if view else []
    claims = [one for one in told if one["target"] in (cell.id, f"{cell.id}-to-{goal}")]
    changed = sum(one["changed"] for one in claims)
    if changed:
        verb = "comes" if changed == 1 else "come"
        yield Weakness(
            f"{changed} of {len(claims)} claims about it {verb} out otherwise at 16 or 32 tokens",
            "lengths",
        )


def _of_limit(data: RunData, cell: Cell, split: str) -> Iterator[Weakness]:
    """Whether most completions were judged before they ended."""
    steered, unsteered = (_cut_off(data.scores, one, split) for one in (cell, cell.baseline))
    if steered is None or steered <= MOST:
        return
    text = f"{steered:.0%} of its completions on {split} hit the token limit"
    if unsteered is not None:
        text += f" (unsteered {unsteered:.0%})"
    has_shapes = (data.folder / "tables" / f"{COMPLETION_SHAPES}.csv").exists()
    yield Weakness(text, "shapes" if has_shapes else "")


def _cut_off(scores: pd.DataFrame, cell: Cell, split: str) -> float | None:
    rows = grid_rows(scores[scores["split"] == split])
    key = (cell.layer, cell.intervention, cell.alpha)
    rows = rows[(rows[["layer", "intervention", "alpha"]] == list(key)).all(axis=1)]
    return None if rows.empty else float((rows["finish_reason"] == "length").mean())
