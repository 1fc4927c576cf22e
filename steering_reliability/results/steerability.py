"""How each prompt answers to more alpha: slopes, and the prompts that go the wrong way.

After Tan et al. 2024, "Analysing the Generalisation and Reliability of Steering Vectors"
(NeurIPS, arXiv 2407.12404): an average effect hides prompts that move against the steering.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pandas as pd

from steering_reliability.cells import Cell
from steering_reliability.claims import PAST_GATE, Coherence
from steering_reliability.expectations import ScoreTable
from steering_reliability.expectations.questions import coherence_gate
from steering_reliability.expectations.tables import MissingScoresError
from steering_reliability.results.summary import SPLITS, check_scores, grid_rows
from steering_reliability.statistics import critical_value, prompt_slopes, wilson_bounds

MEASURES = ("refusal_log_odds", "refusal_score")
"""First-token log-odds of refusal, in nats; score of what is written, 0 to 1."""

STEERABILITY_COLUMNS = (
    "split",
    "layer",
    "intervention_type",
    "prompt_id",
    "category",
    "style",
    "seen",
    "alphas",
    *(f"{measure}_slope" for measure in MEASURES),
    "reason",
)
STEERABILITY_SUMMARY_COLUMNS = (
    "split",
    "layer",
    "intervention_type",
    "group_by",
    "group",
    "measure",
    "n",
    "n_seen",
    "slope_mean",
    "slope_std",
    "anti_steerable",
    "anti_steerable_low",
    "anti_steerable_high",
    "reason",
)

# A slope of equal scores is 0 but for rounding, which must not make the prompt anti-steerable.
_ROUNDING = 1e-12
_SERIES = ["split", "layer", "intervention"]
_PROMPT = ["prompt_id", "category", "style", "seen"]
_GROUPS = ("split", "category", "style")


def steerability_table(scores: pd.DataFrame, coherence: Coherence | None = None) -> pd.DataFrame:
    """Slopes over alpha of every prompt in every series: columns `STEERABILITY_COLUMNS`.

    One row per split, (layer, intervention) and prompt. A slope is the least-squares one, per
    unit of alpha, over the alphas next to 0 whose text is coherent on all prompts together (as
    for ``alpha_monotonicity``), which ``alphas`` lists: broken text refuses nothing, and would
    bend every slope back to 0. Series that steer nothing on a split are left out; a prompt that
    lacks a score has NaN and a ``reason``.

    Args:
        scores: one row per prompt, cell and sample, columns `summary.SCORE_COLUMNS`; samples are
            averaged, controls and other conditions left out.
        coherence: settings of the coherence gate; the design's if None.

    Raises:
        SteeringError: a column is missing, or a completion occurs twice.
    """
    check_scores(scores, "scores")
    grid = grid_rows(scores)
    usable = _coherent_alphas(grid, coherence or Coherence())
    parts: dict[tuple[str, int, str], pd.DataFrame] = {}
    for key, series in _by_prompt(grid).groupby(_SERIES):
        split, layer, intervention = cast("tuple[str, int, str]", key)
        present = set(series.index.get_level_values("alpha"))
        if present - {0.0}:
            alphas = [alpha for alpha in usable[layer, intervention] if alpha in present]
            parts[split, layer, intervention] = _slopes(series, alphas)
    if not parts:
        return pd.DataFrame(columns=list(STEERABILITY_COLUMNS))
    ordered = sorted(parts, key=lambda series: (_split_rank(series[0]), *series))
    table = pd.concat([parts[series] for series in ordered])
    table = table.reset_index().rename(columns={"intervention": "intervention_type"})
    return table[list(STEERABILITY_COLUMNS)]


def steerability_summary(steerability: pd.DataFrame) -> pd.DataFrame:
    """Slopes by split, and by category and style within it: `STEERABILITY_SUMMARY_COLUMNS`.

    A prompt is anti-steerable if its slope goes against what the series is for: below 0 for
    ``add``, which is to raise refusal, and above 0 for ``ablate``, which is to lower it.
    ``anti_steerable`` is the share of such prompts with Wilson's 95% interval, ``slope_std`` the
    standard deviation over prompts (ddof 1). ``n`` counts the prompts that have a slope,
    ``n_seen`` those of them that the direction was learned from. Where there is too little data,
    NaN, and ``reason`` says why.

    Args:
        steerability: from `steerability_table`.
    """
    parts = [_summary(steerability, group, measure) for measure in MEASURES for group in _GROUPS]
    table = pd.concat(parts, ignore_index=True)
    order = pd.DataFrame(
        {
            "rank": table["split"].map(_split_rank),
            **{name: table[name] for name in ("split", "layer", "intervention_type")},
            "group_rank": table["group_by"].map(_GROUPS.index),
            "group": table["group"],
            "measure": table["measure"],
        }
    )
    table = table.loc[order.sort_values(list(order.columns)).index].reset_index(drop=True)
    return table[list(STEERABILITY_SUMMARY_COLUMNS)]


def _coherent_alphas(grid: pd.DataFrame, settings: Coherence) -> dict[tuple[int, str], list[float]]:
    """The alphas of each (layer, intervention) in a row from 0, outwards, with coherent text."""
    table = ScoreTable(grid)
    coherent: dict[tuple[int, str], list[float]] = {}
    for cell in table.cells:
        coherent.setdefault((cell.layer, cell.intervention), [])
    for series, alphas in coherent.items():
        cells = [cell for cell in table.cells if (cell.layer, cell.intervention) == series]
        for side in (
            [cell for cell in cells if cell.alpha > 0],
            [cell for cell in reversed(cells) if cell.alpha < 0],
        ):
            for cell in side:
                if not _is_coherent(table, cell, settings):
                    break
                alphas.append(cell.alpha)
        coherent[series] = sorted([0.0, *alphas])
    return coherent


def _is_coherent(table: ScoreTable, cell: Cell, settings: Coherence) -> bool:
    try:
        return coherence_gate(table, cell, settings)[0]
    except MissingScoresError:
        # Nothing to compare its text with on the gate's splits: harm_confirm alone, for one.
        return True


def _by_prompt(grid: pd.DataFrame) -> pd.DataFrame:
    keys = [*_SERIES, *_PROMPT, "alpha"]
    rows = grid[[*keys, *MEASURES]].astype(dict.fromkeys(["alpha", *MEASURES], float))
    prompts = rows.groupby(keys)[list(MEASURES)]
    means = prompts.mean()
    # A mean over the samples that happen to have a score would be of other samples.
    return means.where(prompts.count().eq(prompts.size(), axis=0))


def _slopes(series: pd.DataFrame, alphas: list[float]) -> pd.DataFrame:
    """One row per prompt of a series that is indexed by prompt and alpha."""
    wide = {measure: series[measure].unstack("alpha") for measure in MEASURES}
    index = wide[MEASURES[0]].index
    reason = pd.Series("", index=index)
    table = pd.DataFrame({"alphas": " ".join(f"{alpha:g}" for alpha in alphas)}, index=index)
    for measure in MEASURES:
        if len(alphas) < 2:
            table[f"{measure}_slope"] = math.nan
            continue
        values = wide[measure].reindex(alphas, axis="columns").to_numpy()
        # From 0 on, so that equal scores give a slope of exactly 0.
        table[f"{measure}_slope"] = prompt_slopes(values - values[:, :1], alphas)
        missing = np.isnan(values).any(axis=1)
        reason = reason.mask(missing & (reason == ""), f"no {measure} at some alpha")
    if len(alphas) < 2:
        reason[:] = f"every alpha but 0 is {PAST_GATE}, a slope needs two alphas"
    return table.assign(reason=reason)


def _summary(steerability: pd.DataFrame, group: str, measure: str) -> pd.DataFrame:
    names = ["split", "layer", "intervention_type"]
    slope = steerability[f"{measure}_slope"].astype(float)
    against = slope.where(steerability["intervention_type"] == "add", -slope) < -_ROUNDING
    rows = steerability[names].assign(
        group=steerability[group],
        slope=slope,
        against=against.astype(float).where(slope.notna()),
        seen=steerability["seen"].astype(bool) & slope.notna(),
        why=steerability["reason"],
    )
    groups = rows.groupby([*names, "group"])
    table = groups.agg(
        n=("slope", "count"),
        n_seen=("seen", "sum"),
        slope_mean=("slope", "mean"),
        slope_std=("slope", "std"),
        anti_steerable=("against", "mean"),
        reason=("why", "first"),
    )
    n = table["n"].to_numpy()
    share = table["anti_steerable"].to_numpy()
    low, high = wilson_bounds(share, np.maximum(n, 1), critical_value(0.95))
    table["anti_steerable_low"], table["anti_steerable_high"] = low, high
    alone = table["reason"].mask(table["n"] > 0, "").mask(table["n"] == 1, "one prompt, no spread")
    table = table.assign(reason=alone, group_by=group, measure=measure).reset_index()
    return table.astype({"n": "int64", "n_seen": "int64"})


def _split_rank(split: str) -> int:
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)
