"""How single prompts answer to steering, as the page tells it; the numbers are in two tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from steering_reliability.report import labels
from steering_reliability.results.steerability import (
    MEASURES,
    STEERABILITY_COLUMNS,
    STEERABILITY_SUMMARY_COLUMNS,
)
from steering_reliability.statistics import critical_value

FIRST_TOKEN, WRITTEN = MEASURES
WORST = 5
_SERIES = ["split", "layer", "intervention_type"]
# Where less refusal is no failure of what is to raise it.
_HARMLESS = "benign"
_WORDS = ("reason", "alphas", "category", "style", "group")


@dataclass(frozen=True)
class Steerability:
    """What the page shows; empty where the run has no such tables, or damaged ones.

    Attributes:
        overall: a row per (layer, intervention) and split, with the ``alphas`` of the slope, what
            the slope of the written text's refusal score says (``written_...``), and whether the
            two go opposite ways (``contradicted``: both means clear of 0).
        groups: the same by category and style, of the first token alone.
        worst: of every series the ``WORST`` prompts that go furthest against the steering, with
            their text; by what is written where that contradicts the first token (``measure``).
    """

    overall: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    worst: list[dict[str, Any]] = field(default_factory=list)


def steerability_shown(folder: Path, scores: pd.DataFrame) -> Steerability:
    """From ``tables/steerability.csv`` and its summary; the prompts' texts from the scores.

    Args:
        folder: the run folder.
        scores: the run's scores frame.
    """
    slopes = _read(folder, "steerability", STEERABILITY_COLUMNS)
    summary = _read(folder, "steerability_summary", STEERABILITY_SUMMARY_COLUMNS)
    if slopes is None or summary is None:
        return Steerability()
    alphas = slopes.drop_duplicates(_SERIES)[[*_SERIES, "alphas"]]
    shown = summary[summary["measure"] == FIRST_TOKEN].merge(alphas, on=_SERIES, how="left")
    whole = shown["group_by"] == "split"
    overall = shown[whole].merge(_written(summary), on=_SERIES, how="left")
    sides = [_side(overall, name) for name in ("slope", "written_slope")]
    overall["contradicted"] = sides[0] * sides[1] < 0
    return Steerability(
        labels.records(overall), labels.records(shown[~whole]), _worst(slopes, overall, scores)
    )


def _side(rows: pd.DataFrame, slope: str) -> pd.Series[float]:
    """1 or -1 where the mean slope's 95% interval lies above or below 0, and 0 where neither."""
    error = rows[f"{slope}_std"] / np.sqrt(rows["n"].clip(lower=1))
    clear = rows[f"{slope}_mean"].abs() > critical_value(0.95) * error
    return np.sign(rows[f"{slope}_mean"]).where(clear, 0.0)


def _written(summary: pd.DataFrame) -> pd.DataFrame:
    """Of every series, what the scores of the written text say, as columns ``written_...``."""
    told = [name for name in summary.columns if name.startswith(("slope_", "anti_"))]
    rows = summary[(summary["measure"] == WRITTEN) & (summary["group_by"] == "split")]
    return rows[[*_SERIES, *told]].rename(columns={name: f"written_{name}" for name in told})


def _worst(
    slopes: pd.DataFrame, overall: pd.DataFrame, scores: pd.DataFrame
) -> list[dict[str, Any]]:
    told = slopes[_SERIES].merge(overall[[*_SERIES, "contradicted"]], on=_SERIES, how="left")
    contradicted = told["contradicted"].eq(True).to_numpy()
    slope = slopes[f"{FIRST_TOKEN}_slope"].astype(float)
    slope = slope.mask(contradicted, slopes[f"{WRITTEN}_slope"].astype(float))
    measure = pd.Series(FIRST_TOKEN, index=slopes.index).mask(contradicted, WRITTEN)
    wanted = slope.where(slopes["intervention_type"] == "add", -slope)
    rows = slopes.assign(slope=slope, wanted=wanted, measure=measure)
    against = rows[(rows["wanted"] < 0) & (rows["split"] != _HARMLESS)]
    worst = against.sort_values("wanted", kind="stable").groupby(_SERIES, sort=False).head(WORST)
    # In the order of the table, each series' worst first.
    first = slopes.reset_index().groupby(_SERIES)["index"].first().rename("first")
    worst = worst.join(first, on=_SERIES).sort_values(["first", "wanted"], kind="stable")
    texts = scores.drop_duplicates(["split", "prompt_id"])[["split", "prompt_id", "prompt"]]
    return labels.records(worst.merge(texts, on=["split", "prompt_id"], how="left"))


def _read(folder: Path, name: str, columns: tuple[str, ...]) -> pd.DataFrame | None:
    try:
        words = dict.fromkeys(_WORDS, str)
        table = pd.read_csv(folder / "tables" / f"{name}.csv", dtype=words)
    except (OSError, ValueError):
        return None
    if not set(columns).issubset(table.columns):
        return None
    return table.fillna(dict.fromkeys(_WORDS, ""))
