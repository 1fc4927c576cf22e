"""The numbers that drawings need beyond ``summary.csv``: effects, with their intervals.

An effect is a paired difference of refusal rates to the same prompts unsteered. This module
draws nothing and words nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from steering_reliability.cells import Cell
from steering_reliability.report.labels import records
from steering_reliability.results.summary import grid_rows
from steering_reliability.statistics import Estimate, difference_of_estimates, paired_difference

_GAP_SPLITS = ("harm_train", "harm_test")
_EFFECT = ("effect", "effect_low", "effect_high", "n")
GAP_COLUMNS = (
    *("layer", "intervention_type", "alpha"),
    *(f"{split}_{name}" for split in _GAP_SPLITS for name in _EFFECT),
    *("gap", "gap_low", "gap_high"),
)
"""Of ``tables/generalization_gap.csv``."""


def _per_prompt(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per prompt and cell, several samples averaged."""
    keys = ["split", "layer", "intervention", "alpha", "prompt_id"]
    shares = rows[[*keys, "is_refusal"]].astype({"is_refusal": float})
    return shares.groupby(keys, sort=False)["is_refusal"].mean().reset_index()


def paired_effects(scores: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Effect of every steered cell on every split, with its 95% interval.

    Args:
        scores: the scores frame; give it only the prompts that should count.
        summary: ``summary.csv`` with ``is_coherent``.

    Returns:
        ``split, layer, intervention_type, alpha, effect, effect_low, effect_high, n,
        is_coherent``; cells without an unsteered counterpart are left out.
    """
    shares = _per_prompt(grid_rows(scores))
    coherent = summary.set_index(["split", "layer", "intervention_type", "alpha"])["is_coherent"]
    records = []
    for (split, layer, intervention), rows in shares.groupby(
        ["split", "layer", "intervention"], sort=False
    ):
        table = rows.pivot(index="prompt_id", columns="alpha", values="is_refusal")
        if 0 not in table:
            continue
        for alpha in sorted(set(table.columns) - {0}):
            pairs = table[[0, alpha]].dropna()
            effect = paired_difference(pairs[alpha].to_numpy(), pairs[0].to_numpy())
            records.append(
                {
                    "split": split,
                    "layer": layer,
                    "intervention_type": intervention,
                    "alpha": alpha,
                    "effect": effect.value,
                    "effect_low": effect.low,
                    "effect_high": effect.high,
                    "n": effect.n,
                    "is_coherent": bool(coherent.get((split, layer, intervention, alpha), True)),
                }
            )
    return pd.DataFrame.from_records(records)


def trade_off_cells(scores: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Per cell: effect on harm_test and helpfulness on benign, the unsteered cells included."""
    keys = ["layer", "intervention_type", "alpha"]
    names = {
        "is_helpful_mean": "helpful",
        "is_helpful_low": "helpful_low",
        "is_helpful_high": "helpful_high",
    }
    benign = summary[summary["split"] == "benign"]
    benign = benign[[*keys, *names, "is_coherent"]].rename(columns=names)
    effects = paired_effects(scores[scores["split"] == "harm_test"], summary)
    if effects.empty or benign.empty:
        return pd.DataFrame()
    cells = benign.merge(effects.drop(columns=["split", "is_coherent"]), on=keys, how="left")
    cells.loc[cells["alpha"] == 0, ["effect", "effect_low", "effect_high"]] = 0.0
    return cells.dropna(subset=["effect", "helpful"])


def prompting_point(manifest: Mapping[str, Any], controls: pd.DataFrame) -> dict[str, float] | None:
    """Where the system prompt in place of steering lies among `trade_off_cells`; None without one.

    Args:
        manifest: the run's; its ``prompt_baseline`` tells the effect.
        controls: ``controls.csv``, which has the interval of helpfulness.
    """
    found = (manifest.get("prompt_baseline") or {}).get("prompting")
    if not found:
        return None
    place = {"effect": found["effect"], "effect_low": found["low"], "effect_high": found["high"]}
    place |= {"helpful": found["helpful"], "helpful_low": math.nan, "helpful_high": math.nan}
    rows = controls[(controls["split"] == "benign") & (controls["alpha"] == 0)]
    for row in rows.to_dict("records"):
        cell = Cell(row["layer"], row["intervention_type"], 0, row["direction"], row["condition"])
        if cell.id == found["cell"]:
            place |= {f"helpful_{part}": row[f"is_helpful_{part}"] for part in ("low", "high")}
    return place


def gap_effects(scores: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Effects on harm_train and harm_test for cells that have both.

    Prompts the direction was learned from are left out of harm_train where others exist: on
    them a gap would be flattered.
    """
    train = scores[scores["split"] == "harm_train"]
    unseen = train[~train["seen"].astype(bool)]
    test = scores[scores["split"] == "harm_test"]
    chosen = pd.concat([train if unseen.empty else unseen, test])
    effects = paired_effects(chosen, summary)
    if effects.empty:
        return effects
    both = effects.groupby(["layer", "intervention_type", "alpha"])["split"].transform("nunique")
    return effects[both == 2]


def gap_table(scores: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """The effects of `gap_effects` side by side, with their `gap`: columns `GAP_COLUMNS`.

    Args:
        scores: the scores frame.
        summary: ``summary.csv``.
    """
    effects = gap_effects(scores, summary.assign(is_coherent=True))
    rows: list[tuple[Any, ...]] = []
    if effects.empty:
        return pd.DataFrame(rows, columns=list(GAP_COLUMNS))
    for key, pair in effects.groupby(["layer", "intervention_type", "alpha"], sort=False):
        by_split = {row["split"]: row for row in records(pair)}
        train, test = (by_split[split] for split in _GAP_SPLITS)
        found = gap(train, test)
        told = [one[name] for one in (train, test) for name in _EFFECT]
        rows.append((*key, *told, found.value, found.low, found.high))
    return pd.DataFrame(rows, columns=list(GAP_COLUMNS))


def gap(train: Mapping[str, Any], test: Mapping[str, Any]) -> Estimate:
    """Effect on harm_train less effect on harm_test, from two rows of `gap_effects`."""
    return difference_of_estimates(_estimate(train), _estimate(test))


def _estimate(row: Mapping[str, Any]) -> Estimate:
    return Estimate(row["effect"], row["effect_low"], row["effect_high"], int(row["n"]))
