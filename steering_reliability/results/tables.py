"""Differences between cells, with intervals and p-values: ``effects.csv``, ``significance.csv``.

A difference is between shares of the same prompts, several samples of a prompt averaged first.
This module knows the scores frame and nothing of claims' margins: it decides nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pandas as pd

from steering_reliability.cells import LEARNED, Cell, Goal, Intervention
from steering_reliability.results.summary import SPLITS, check_scores
from steering_reliability.statistics import Estimate, holm, paired_difference

MEASURES = {
    "refusal": "is_refusal",
    "helpfulness": "is_helpful",
    "degenerate": "is_degenerate",
}
"""What effects are told of, and the column of the scores frame that each is the share of."""

CELL_COLUMNS = ("split", "layer", "alpha", "intervention_type")
EFFECT_COLUMNS = (
    *CELL_COLUMNS,
    "direction",
    "condition",
    "n",
    "n_seen",
    *(f"{measure}_effect{part}" for measure in MEASURES for part in ("", "_low", "_high", "_p")),
    "reason",
)
SIGNIFICANCE_COLUMNS = (
    *CELL_COLUMNS,
    "against",
    "control",
    "goal",
    "difference",
    "low",
    "high",
    "as_scored",
    "paired_p",
    "p_holm",
    "n",
    "reason",
)

BASELINE = "baseline"
# Whatever fewer prompts say, no exact paired test of them reaches .05: 2 / 2**5 is .0625.
LEAST_PROMPTS = 6

_KEYS = ["split", "layer", "intervention", "alpha", "direction", "condition"]


def effects_table(scores: pd.DataFrame) -> pd.DataFrame:
    """What steering changes, cell by cell: columns `EFFECT_COLUMNS`, controls included.

    One row per split and steered cell. An effect is the share of refusing (helpful, degenerate)
    prompts less that of the unsteered model on the same prompts, with Newcombe's paired 95%
    interval (1998, method 10) and the exact McNemar p-value, as `statistics.paired_difference`
    gives them. ``n`` counts the prompts that both have, ``n_seen`` those of them that the
    direction was learned from. Where there is nothing to compare, NaN, and ``reason`` says why.

    Args:
        scores: one row per prompt, cell and sample, columns `summary.SCORE_COLUMNS`.

    Raises:
        SteeringError: a column is missing, or a completion occurs twice.
    """
    shares = _Shares(scores)
    rows = []
    for split, cell in shares.cells:
        if cell.is_baseline:
            continue
        after, before = shares.pair(split, cell, cell.baseline)
        row = _named(split, cell) | {"direction": cell.direction, "condition": cell.condition}
        row |= {"n": len(after), "n_seen": int((after["seen"] > 0).sum()), "reason": ""}
        for measure, column in MEASURES.items():
            effect = _difference(after[column], before[column])
            row[f"{measure}_effect"] = effect.value
            row[f"{measure}_effect_low"] = effect.low
            row[f"{measure}_effect_high"] = effect.high
            row[f"{measure}_effect_p"] = effect.p_value
            row["reason"] = row["reason"] or effect.reason
        rows.append(row)
    return _frame(rows, EFFECT_COLUMNS)


def significance_table(
    scores: pd.DataFrame, goals: Mapping[tuple[str, Cell], Sequence[Goal]] | None = None
) -> pd.DataFrame:
    """Which differences of refusal stand out of a level: columns `SIGNIFICANCE_COLUMNS`.

    Every steered cell of the grid against the unsteered model (``against`` is ``baseline``) and
    against each kind of control that was run like it on the same split: ``random``, ``shuffled``,
    ``reversed``. ``goal`` says what the cell should do to refusal; a cell that was chosen for both
    goals has a row for each. ``difference`` is the cell's refusal rate less the other's, with the
    interval of `effects_table`; with the goal ``lower``, degenerate text in place of a refusal of
    the unsteered model counts as one, and ``as_scored`` is the difference without that: against
    the unsteered model, the ``refusal_effect`` of `effects_table`.

    Of several controls the row is about the one that is strongest towards the goal, named in
    ``control``. Choosing it makes its own p-value too small, so ``paired_p``, that of the paired
    test, is the largest of those against every control of the kind, 1 where the cell does not outdo
    one: it is small only if all of them are outdone (intersection-union test, Berger 1982,
    Technometrics 24:295). ``p_holm`` is adjusted over all rows of the table (Holm 1979). Under
    `LEAST_PROMPTS` prompts the numbers are NaN and ``reason`` says so; such rows do not count
    among the tests.

    Args:
        scores: one row per prompt, cell and sample, columns `summary.SCORE_COLUMNS`.
        goals: what a cell was chosen for, by split and cell; by default what cells like it are
            meant to do.

    Raises:
        SteeringError: a column is missing, or a completion occurs twice.
    """
    shares = _Shares(scores)
    rows = []
    for split, cell in shares.cells:
        if cell.is_baseline or not cell.in_grid:
            continue
        named = _named(split, cell) | {"p_holm": math.nan}
        against = {BASELINE: [cell.baseline], **shares.controls(split, cell)}
        for name, others in against.items():
            for goal in (goals or {}).get((split, cell)) or (cell.aim,):
                found = _comparison(shares, split, cell, others, goal)
                rows.append(named | {"against": name, "goal": goal} | found)
    table = _frame(rows, SIGNIFICANCE_COLUMNS)
    table["p_holm"] = holm(table["paired_p"])
    return table


class _Shares:
    """Per-prompt shares of every cell on every split, ``cells`` in the order of the tables."""

    def __init__(self, scores: pd.DataFrame) -> None:
        check_scores(scores, "scores")
        columns = [*MEASURES.values(), "seen"]
        rows = scores[[*_KEYS, "prompt_id", *columns]].astype(dict.fromkeys(columns, float))
        prompts = rows.groupby([*_KEYS, "prompt_id"])[columns]
        means = prompts.mean()
        # A mean over the samples that happen to have a score would be of other samples.
        means = means.where(prompts.count().eq(prompts.size(), axis=0)).reset_index(_KEYS)
        self._shares: dict[tuple[str, Cell], pd.DataFrame] = {}
        for key, shares in means.groupby(_KEYS):
            split, layer, intervention, alpha, direction, condition = cast("tuple[Any, ...]", key)
            kind = cast("Intervention", str(intervention))
            cell = Cell(int(layer), kind, float(alpha), str(direction), str(condition))
            self._shares[str(split), cell] = shares[columns]
        self.cells = sorted(self._shares, key=_place)
        self._controls: dict[tuple[str, Cell], dict[str, list[Cell]]] = {}
        for name, cell in self.cells:
            if cell.direction != LEARNED:
                kinds = self._controls.setdefault((name, replace(cell, direction=LEARNED)), {})
                kinds.setdefault(cell.direction.partition("-")[0], []).append(cell)

    def pair(self, split: str, first: Cell, second: Cell) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Shares of two cells on the prompts that both have, in the same order."""
        one = self._shares[split, first]
        two = self._shares.get((split, second))
        if two is None:
            return one.iloc[:0], one.iloc[:0]
        common = one.index.intersection(two.index)
        return one.loc[common], two.loc[common]

    def refused(self, split: str, cell: Cell, found: pd.DataFrame, goal: Goal) -> pd.Series[float]:
        """Refusal of a cell as ``ScoreTable.refused`` counts it, on the prompts of ``found``.

        Where the unsteered model's answer isn't known, it is taken for a refusal.
        """
        refusal = found["is_refusal"]
        if goal == "raise" or cell.is_baseline:
            return refusal
        unsteered = self._shares.get((split, cell.baseline))
        if unsteered is None:
            return refusal + found["is_degenerate"]
        before = unsteered["is_refusal"].reindex(found.index).fillna(1.0)
        return refusal + found["is_degenerate"] * before

    def controls(self, split: str, cell: Cell) -> dict[str, list[Cell]]:
        """Cells that differ from the learned ``cell`` in their direction alone, by kind."""
        return self._controls.get((split, cell), {})


def _comparison(
    shares: _Shares, split: str, cell: Cell, others: Iterable[Cell], goal: Goal
) -> dict[str, object]:
    sign = 1 if goal == "raise" else -1
    found: list[tuple[Cell, Estimate]] = []
    for other in others:
        one, two = shares.pair(split, cell, other)
        estimate = _difference(
            shares.refused(split, cell, one, goal), shares.refused(split, other, two, goal)
        )
        if not estimate.reason and estimate.n < LEAST_PROMPTS:
            reason = f"{estimate.n} prompts, a test at .05 needs at least {LEAST_PROMPTS}"
            estimate = Estimate.missing(reason, estimate.n)
        found.append((other, estimate))
    missing = [pair for pair in found if pair[1].reason]
    other, shown = missing[0] if missing else min(found, key=lambda pair: sign * pair[1].value)
    one, two = shares.pair(split, cell, other)
    as_scored = float((one["is_refusal"] - two["is_refusal"]).mean())
    p_value = shown.p_value
    if len(found) > 1 and not missing:
        outdone = [e.p_value if sign * e.value > 0 else 1.0 for _, e in found]
        p_value = max(outdone)
    return {
        "control": "" if other.is_baseline else other.direction,
        "difference": shown.value,
        "low": shown.low,
        "high": shown.high,
        "as_scored": math.nan if shown.reason else as_scored,
        "paired_p": p_value,
        "n": shown.n,
        "reason": shown.reason,
    }


def _difference(after: pd.Series[float], before: pd.Series[float]) -> Estimate:
    if after.empty:
        return Estimate.missing("no prompts in common with the cell it is compared with")
    return paired_difference(after.to_numpy(), before.to_numpy())


def _named(split: str, cell: Cell) -> dict[str, object]:
    values = (split, cell.layer, cell.alpha, cell.intervention)
    return dict(zip(CELL_COLUMNS, values, strict=True))


def _frame(rows: list[dict[str, object]], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))


def _place(key: tuple[str, Cell]) -> tuple[object, ...]:
    """The order of ``summary.csv``, random-2 before random-10."""
    split, cell = key
    rank = SPLITS.index(split) if split in SPLITS else len(SPLITS)
    direction = re.sub(r"\d+", lambda number: number[0].zfill(9), cell.direction)
    return rank, split, cell.layer, cell.intervention, direction, cell.condition, cell.alpha
