"""What steering does beside refusal, from forced texts: readings per cell, and their table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from steering_reliability.cells import DEFAULT_CONDITION, LEARNED, Cell, Intervention
from steering_reliability.completions import UNSTEERED_LOGPROB
from steering_reliability.results.atomic import write_json
from steering_reliability.statistics import bootstrap_bounds

PROBE_COLUMNS = (
    "cell",
    "layer",
    "intervention_type",
    "alpha",
    "measure",
    "estimate",
    "low",
    "high",
    "n",
)
MEASURES = ("benign_kl", "perplexity_ratio", "refusal_log_odds_change")
OWN_TEXT = "own_text_perplexity_ratio"
"""What `own_text_table` measures, beside them."""


@dataclass(frozen=True)
class Readings:
    """Of one steered cell, one number per prompt or text.

    Attributes:
        benign_kl: per benign prompt, KL(unsteered || steered) of the next token, in nats.
        nll: per benign text, mean negative log-probability of its tokens under steering, in nats.
        nll_unsteered: the same of the unsteered model.
        log_odds: per harmful prompt, log-odds of refusal against compliance texts, in nats.
        log_odds_unsteered: the same of the unsteered model.
    """

    benign_kl: tuple[float, ...]
    nll: tuple[float, ...]
    nll_unsteered: tuple[float, ...]
    log_odds: tuple[float, ...]
    log_odds_unsteered: tuple[float, ...]


def probes_table(readings: Mapping[Cell, Readings]) -> pd.DataFrame:
    """Three rows per cell, one per measure of ``MEASURES``: columns `PROBE_COLUMNS`.

    ``benign_kl`` is the mean over prompts, in nats. ``perplexity_ratio`` is the steered perplexity
    over the unsteered one, by the mean over texts of the change per token.
    ``refusal_log_odds_change`` is the mean over prompts of the paired change, in nats. Intervals
    are 95% bootstrap ones over ``n`` prompts or texts, and hold for these directions.
    """
    rows = []
    for cell, found in readings.items():
        where = (cell.id, cell.layer, cell.intervention, cell.alpha)
        more_nll = np.subtract(found.nll, found.nll_unsteered)
        changes = np.subtract(found.log_odds, found.log_odds_unsteered)
        for measure, values in zip(
            MEASURES, (np.array(found.benign_kl), more_nll, changes), strict=True
        ):
            low, high = bootstrap_bounds(values)
            numbers = [float(values.mean()), float(low), float(high)]
            if measure == "perplexity_ratio":
                numbers = [math.exp(number) for number in numbers]
            rows.append((*where, measure, *numbers, len(values)))
    return pd.DataFrame(rows, columns=list(PROBE_COLUMNS))


def own_text_table(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per steered cell of the grid whose completions were weighed: columns `PROBE_COLUMNS`.

    The perplexity that the unsteered model gives to what the cell wrote, over that which it gives
    to what it wrote itself, by the mean over prompts of the change per token; 95% bootstrap
    interval over ``n`` prompts.
    """
    if UNSTEERED_LOGPROB not in scores.columns:
        return pd.DataFrame(columns=list(PROBE_COLUMNS))
    grid = (scores["direction"] == LEARNED) & (scores["condition"] == DEFAULT_CONDITION)
    weighed = scores[grid & scores[UNSTEERED_LOGPROB].notna()]
    where = ["split", "prompt_id"]
    own = weighed[weighed["alpha"] == 0].drop_duplicates(where).set_index(where)[UNSTEERED_LOGPROB]
    rows = []
    steered = weighed[weighed["alpha"] != 0]
    for key, group in steered.groupby(["layer", "intervention", "alpha"]):
        layer, kind, alpha = cast("tuple[int, Intervention, float]", key)
        cell = Cell(int(layer), kind, float(alpha))
        changes = (own - group.set_index(where)[UNSTEERED_LOGPROB]).dropna().to_numpy()
        if not len(changes):
            continue
        low, high = bootstrap_bounds(changes)
        numbers = [math.exp(float(number)) for number in (changes.mean(), low, high)]
        where_found = (cell.id, cell.layer, cell.intervention, cell.alpha)
        rows.append((*where_found, OWN_TEXT, *numbers, len(changes)))
    return pd.DataFrame(rows, columns=list(PROBE_COLUMNS))


def write_readings(folder: Path, digest: str, readings: Readings, run_id: str) -> None:
    """Keep a cell's readings, atomically.

    Raises:
        SteeringError: the folder cannot be written.
    """
    write_record(folder, digest, asdict(readings), run_id)


def read_readings(folder: Path, digest: str, run_id: str | None = None) -> Readings | None:
    """What was read off a cell; None if nothing was, by that run if one is named."""
    record = read_record(folder, digest, run_id)
    if record is None:
        return None
    try:
        return Readings(**{name: tuple(map(float, values)) for name, values in record.items()})
    except (ValueError, TypeError):
        return None


def write_record(folder: Path, digest: str, record: Mapping[str, Any], run_id: str) -> None:
    """Keep what a run read without generating, atomically, under a digest of what decides it.

    Raises:
        SteeringError: the folder cannot be written.
    """
    write_json(folder / f"{digest}.json", {**record, "run_id": run_id})


def read_record(folder: Path, digest: str, run_id: str | None = None) -> dict[str, Any] | None:
    """What was kept; None if nothing was, the file is damaged, or another run read it.

    Args:
        folder: of the records.
        digest: of what decides the record.
        run_id: the only run whose record counts; any run's does if None.
    """
    try:
        record = dict(json.loads((folder / f"{digest}.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    made_by = record.pop("run_id", None)
    return record if run_id in (None, made_by) else None
