"""What a level would have said of shorter completions: the first 16, the first 32, all tokens.

Refusal is decided early and often taken back later, so an effect may hang on where completions are
cut off. Descriptions; nothing here decides a claim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from steering_reliability.cells import DEFAULT_CONDITION, LEARNED
from steering_reliability.completions import PREFIX_TOKENS
from steering_reliability.expectations import Verdict
from steering_reliability.results.summary import controls_table, grid_rows, summarize
from steering_reliability.results.tables import CELL_COLUMNS, effects_table

CUT_COLUMNS = (
    "refusal_score",
    "is_refusal",
    "helpfulness_score",
    "is_helpful",
    "is_degenerate",
)
PREFIX_COLUMNS = tuple(f"{name}_{k}" for k in PREFIX_TOKENS for name in ("chars", *CUT_COLUMNS))
"""Columns of a scores frame beside `summary.SCORE_COLUMNS`; all NaN where a length is unknown."""

PREFIX_LENGTHS, PREFIX_CLAIMS = "prefix_lengths", "prefix_claims"
"""Names of the tables."""

WHOLE = "all"
LENGTHS = (*map(str, PREFIX_TOKENS), WHOLE)
LENGTH_COLUMNS = (
    *CELL_COLUMNS,
    "direction",
    "condition",
    "tokens",
    "n",
    "completions",
    "unknown",
    "is_refusal_mean",
    "is_refusal_low",
    "is_refusal_high",
    "refusal_effect",
    "refusal_effect_low",
    "refusal_effect_high",
    "clear_of_zero",
    "changed",
    "to_refusal",
    "to_no_refusal",
)
CLAIM_COLUMNS = (
    *("claim", "target", "required", "tokens", "outcome", "estimate", "low", "high", "n"),
    *("clear_of_zero", "changed", "message"),
)
_KEYS = [*CELL_COLUMNS, "direction", "condition"]


def at_length(scores: pd.DataFrame, tokens: str) -> pd.DataFrame:
    """The scores frame as if completions had been cut off: rows of unknown length left out.

    Args:
        scores: the level's scores frame.
        tokens: one of `LENGTHS`.
    """
    if tokens == WHOLE:
        return scores
    if f"is_refusal_{tokens}" not in scores.columns:
        return scores.iloc[:0]
    known = scores[scores[f"is_refusal_{tokens}"].notna()]
    return known.assign(
        **{name: known[f"{name}_{tokens}"].astype(float) for name in CUT_COLUMNS},
        char_length=known[f"chars_{tokens}"].astype(float),
    )


def has_prefixes(scores: pd.DataFrame) -> bool:
    """Whether any completion has been scored at another length than the whole."""
    return any(not at_length(scores, str(k)).empty for k in PREFIX_TOKENS)


def prefix_lengths_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Refusal by length, ``prefix_lengths.csv``: columns `LENGTH_COLUMNS`.

    One row per split, cell and length, controls and conditions included. Rates and effects with
    their 95% intervals are those of `summary.summarize` and `tables.effects_table` on completions
    cut off after so many tokens; ``effect`` is against the unsteered model cut off alike.
    ``clear_of_zero`` is +1, -1 or 0: where the interval lies. ``changed`` is the share of
    completions whose refusal verdict is another than that of the whole; ``to_refusal`` and
    ``to_no_refusal`` are the two ways it can go from the cut to the whole. ``unknown`` counts
    completions whose length in tokens was not noted when they were made; they are left out.

    Args:
        scores: the level's scores frame with `PREFIX_COLUMNS`.
    """
    whole = _told(scores, WHOLE)
    parts = [*(_told(scores, str(k)) for k in PREFIX_TOKENS), whole]
    table = pd.concat([part for part in parts if not part.empty], ignore_index=True)
    table["place"] = _cells(whole).get_indexer(_cells(table))
    # Stable, so that of one cell the lengths come as `LENGTHS` has them.
    return table.sort_values("place", kind="stable")[list(LENGTH_COLUMNS)].reset_index(drop=True)


def prefix_claims_table(by_length: dict[str, Sequence[Verdict]]) -> pd.DataFrame:
    """The level's claims by length, ``prefix_claims.csv``: columns `CLAIM_COLUMNS`.

    ``changed`` says whether outcome or ``clear_of_zero`` (+1, -1, 0: where the interval lies) is
    another than for the whole completions; those decide, the others describe.

    Args:
        by_length: verdicts by `LENGTHS`.
    """
    whole = {(v.claim, v.target): v for v in by_length[WHOLE]}
    rows = []
    for tokens in LENGTHS:
        for verdict in by_length.get(tokens, ()):
            other = whole.get((verdict.claim, verdict.target), verdict)
            side = clear_of_zero(verdict.low, verdict.high)
            rows.append(
                {
                    "claim": verdict.claim, "target": verdict.target,
                    "required": verdict.required, "tokens": tokens,
                    "outcome": verdict.outcome, "estimate": verdict.estimate,
                    "low": verdict.low, "high": verdict.high, "n": verdict.n,
                    "clear_of_zero": side,
                    "changed": (verdict.outcome, side)
                    != (other.outcome, clear_of_zero(other.low, other.high)),
                    "message": verdict.message,
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(CLAIM_COLUMNS))


def clear_of_zero(low: float, high: float) -> int:
    """+1 where an interval lies above zero, -1 below, 0 across it or where there is none."""
    if math.isnan(low) or math.isnan(high):
        return 0
    return int(low > 0) - int(high < 0)


def prefix_sentence(table: pd.DataFrame) -> str:
    """What `prefix_lengths_table` comes to, in words, over the grid's cells."""
    grid = grid_rows(table)
    whole = grid[grid["tokens"] == WHOLE].set_index(_KEYS)["clear_of_zero"]
    all_made = grid.loc[grid["tokens"] == WHOLE, "completions"].sum()
    told = []
    for k in PREFIX_TOKENS:
        rows = grid[grid["tokens"] == str(k)].set_index(_KEYS)
        made = rows["completions"].sum()
        if not made:
            told.append(f"of the first {k} tokens nothing is known")
            continue
        changed = float((rows["changed"] * rows["completions"]).sum() / made)
        effects = rows[rows["refusal_effect"].notna()]
        other = int((effects["clear_of_zero"] != whole.reindex(effects.index)).sum())
        told.append(
            f"after {k} tokens {changed:.1%} of {made:.0f} completions have another verdict on "
            f"refusal than as a whole, and of {len(effects)} intervals of effects {other} lie on "
            "another side of zero, or across it where the whole's does not"
        )
        if unknown := all_made - made:
            told[-1] += f" ({unknown:.0f} stored before token offsets were kept are left out)"
    return "; ".join(told) + "."


def _told(scores: pd.DataFrame, tokens: str) -> pd.DataFrame:
    cut = at_length(scores, tokens)
    if cut.empty:
        return pd.DataFrame(columns=list(LENGTH_COLUMNS))
    grid = summarize(cut).assign(direction=LEARNED, condition=DEFAULT_CONDITION)
    others = controls_table(cut)
    rates = grid if others.empty else pd.concat([grid, others], ignore_index=True)
    table = rates.merge(effects_table(cut)[[*_KEYS, *_EFFECT]], on=_KEYS, how="left")
    table = table.merge(_changes(scores, tokens), on=_KEYS, how="left")
    table["tokens"] = tokens
    table["clear_of_zero"] = [
        clear_of_zero(low, high)
        for low, high in zip(table["refusal_effect_low"], table["refusal_effect_high"], strict=True)
    ]
    return table


_EFFECT = ["refusal_effect", "refusal_effect_low", "refusal_effect_high"]


def _cells(table: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(table[_KEYS])


def _changes(scores: pd.DataFrame, tokens: str) -> pd.DataFrame:
    """Shares of completions whose verdict the rest of the text turns, per cell and split."""
    named = scores.rename(columns={"intervention": "intervention_type"})
    after = named["is_refusal"].astype(float)
    before = after if tokens == WHOLE else named[f"is_refusal_{tokens}"].astype(float)
    known = before.notna()
    marked: dict[str, Any] = {
        "changed": (before != after).where(known).astype(float),
        "to_refusal": ((before == 0) & (after == 1)).where(known).astype(float),
        "to_no_refusal": ((before == 1) & (after == 0)).where(known).astype(float),
        "unknown": (~known).astype(int),
    }
    groups = named[_KEYS].assign(**marked).groupby(_KEYS, as_index=False)
    return groups.agg(
        {"changed": "mean", "to_refusal": "mean", "to_no_refusal": "mean", "unknown": "sum"}
    )
