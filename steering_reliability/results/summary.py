"""From scores to tables: one row per cell and split.

This module knows the scores frame and nothing of how its completions were made or scored.
"""

from __future__ import annotations

import re

import pandas as pd

from steering_reliability.cells import DEFAULT_CONDITION, LEARNED
from steering_reliability.errors import SteeringError
from steering_reliability.statistics import rate

SPLITS = ("harm_train", "harm_test", "benign", "harm_confirm")

_NUMBERS = (
    "refusal_score",
    "is_refusal",
    "helpfulness_score",
    "is_helpful",
    "is_degenerate",
    "char_length",
    "mean_logprob",
    "mean_entropy",
    "refusal_log_odds",
)
SCORE_COLUMNS = (
    "prompt_id",
    "split",
    "category",
    "style",
    "prompt",
    "seen",
    "layer",
    "intervention",
    "alpha",
    "direction",
    "condition",
    "sample",
    "text",
    "finish_reason",
    *_NUMBERS,
)
"""The columns of a scores frame: one row per prompt, cell and sample."""

COUNTED = "refused_or_degenerate"
"""Refusal where it should fall: degenerate text in place of a refusal counts as one."""

_STATISTICS = (
    "refusal_score_mean",
    "refusal_score_std",
    "is_refusal_mean",
    "helpfulness_score_mean",
    "helpfulness_score_std",
    "is_helpful_mean",
    "char_length_mean",
    "char_length_std",
    "n",
    "is_refusal_low",
    "is_refusal_high",
    "is_helpful_low",
    "is_helpful_high",
    "degenerate_mean",
    "mean_logprob_mean",
    "mean_entropy_mean",
    "refusal_log_odds_mean",
    "n_seen",
    "completions",
    *(f"{COUNTED}_{part}" for part in ("mean", "low", "high")),
)
SUMMARY_COLUMNS = ("split", "layer", "alpha", "intervention_type", *_STATISTICS)
CONTROL_COLUMNS = (*SUMMARY_COLUMNS[:4], "direction", "condition", *_STATISTICS)

_CELL = ["split", "layer", "intervention", "alpha", "direction", "condition"]
_MEASURED = [*_NUMBERS, "seen"]
_UNSTEERED = ["split", "layer", "intervention", "condition", "prompt_id"]


def summarize(scores: pd.DataFrame) -> pd.DataFrame:
    """The grid: one row per split, layer, alpha and intervention, columns `SUMMARY_COLUMNS`.

    Several samples of a prompt are averaged first, so ``n`` is the number of prompts, ``*_std``
    the standard deviation over prompts (ddof 1, NaN for a single prompt), ``*_low`` and
    ``*_high`` the bounds of Wilson's 95% interval for the rate, as `statistics.rate` gives it.
    ``n_seen`` counts the prompts that the direction was learned from. ``refused_or_degenerate_*``
    is refusal as it counts where it should fall (``ScoreTable.refused``): degenerate text on a
    prompt that the unsteered model refuses is one; NaN where the unsteered model's answer isn't
    known. Lengths are in characters, log-probabilities and log-odds in nats. Controls and other
    conditions are left out.

    Args:
        scores: one row per prompt, cell and sample, columns `SCORE_COLUMNS`, in any order.

    Raises:
        SteeringError: a column is missing, or a completion occurs twice.
    """
    check_scores(scores, "scores")
    grid = grid_rows(scores)
    return _table(grid, grid)[list(SUMMARY_COLUMNS)]


def controls_table(scores: pd.DataFrame) -> pd.DataFrame:
    """All that is not the grid: as `summarize`, with direction and condition as columns."""
    check_scores(scores, "scores")
    controls = scores[~_of_grid(scores)]
    return _table(controls, scores)[list(CONTROL_COLUMNS)]


def check_scores(scores: pd.DataFrame, where: str) -> None:
    """Refuses a frame that is no scores frame.

    Raises:
        SteeringError: a column is missing, or a completion occurs twice.
    """
    missing = [name for name in SCORE_COLUMNS if name not in scores.columns]
    if missing:
        raise SteeringError(
            f"{where}: found no column {', '.join(missing)}, expected the columns of a scores"
            " frame: run the level again, stored completions are reused"
        )
    twice = scores.duplicated([*_CELL, "prompt_id", "sample"])
    if twice.any():
        row = scores[twice].iloc[0]
        cell = f"layer{row['layer']}-{row['intervention']}-alpha{row['alpha']:g}-{row['direction']}"
        raise SteeringError(
            f"{where}: found {int(twice.sum())} rows repeated, first {row['prompt_id']} in"
            f" {row['split']}, {cell}, sample {row['sample']}, expected one row each: score once"
        )


def grid_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the learned direction; controls and other conditions have their own table.

    Args:
        frame: scores, or any table with the columns ``direction`` and ``condition``.
    """
    return frame[_of_grid(frame)]


def _of_grid(scores: pd.DataFrame) -> pd.Series[bool]:
    return (scores["direction"] == LEARNED) & (scores["condition"] == DEFAULT_CONDITION)


def _table(scores: pd.DataFrame, among: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``scores`` by cell; the unsteered cells that they go by are ``among`` others."""
    by_prompt = _by_prompt(scores)
    unsteered = among[(among["alpha"] == 0) & (among["direction"] == LEARNED)]
    by_prompt[COUNTED] = _counted(by_prompt, _by_prompt(unsteered))
    cells = by_prompt.groupby(_CELL)
    means = cells[_MEASURED].mean()
    deviations = cells[["refusal_score", "helpfulness_score", "char_length"]].std(ddof=1)
    table = means.add_suffix("_mean").join(deviations.add_suffix("_std"))
    table = table.rename(columns={"is_degenerate_mean": "degenerate_mean"})
    table["n"] = cells.size().astype("int64")
    table["n_seen"] = cells["seen"].sum().astype("int64")
    table["completions"] = scores.groupby(_CELL).size().astype("int64")
    for name in ("is_refusal", "is_helpful", COUNTED):
        intervals = [rate(values) for _, values in cells[name]]
        if name == COUNTED:
            # A mean of pandas would leave out the prompts whose unsteered answer isn't known.
            table[f"{name}_mean"] = [interval.value for interval in intervals]
        table[f"{name}_low"] = [interval.low for interval in intervals]
        table[f"{name}_high"] = [interval.high for interval in intervals]
    table = table.reset_index().rename(columns={"intervention": "intervention_type"})
    order = pd.DataFrame(
        {
            "split": table["split"].map(_split_rank),
            "name": table["split"],
            "layer": table["layer"],
            "intervention": table["intervention_type"],
            "direction": table["direction"].map(_natural),
            "condition": table["condition"],
            "alpha": table["alpha"],
        }
    )
    return table.loc[order.sort_values(list(order.columns)).index].reset_index(drop=True)


def _by_prompt(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over the samples of each prompt, one row per cell and prompt."""
    # Sums of floats depend on their order, and the order of rows on which worker was first.
    rows = scores.sort_values([*_CELL, "prompt_id", "sample"], kind="stable")
    rows = rows[[*_CELL, "prompt_id", *_MEASURED]].astype(
        dict.fromkeys(["alpha", *_MEASURED], float)
    )
    return rows.groupby([*_CELL, "prompt_id"], as_index=False)[_MEASURED].mean()


def _counted(by_prompt: pd.DataFrame, unsteered: pd.DataFrame) -> pd.Series[float]:
    """Refusal per prompt as ``ScoreTable.refused`` counts it where it should fall."""
    before = unsteered[[*_UNSTEERED, "is_refusal"]].rename(columns={"is_refusal": "before"})
    known = by_prompt.merge(before, on=_UNSTEERED, how="left")
    counted = known["is_refusal"] + known["is_degenerate"] * known["before"]
    return counted.where(known["alpha"] != 0, known["is_refusal"])


def _split_rank(split: str) -> int:
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)


def _natural(name: str) -> str:
    """A sort key that puts random-2 before random-10."""
    return re.sub(r"\d+", lambda number: number[0].zfill(9), name)
