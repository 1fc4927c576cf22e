"""What steering does beside refusal, from forced texts: readings per cell, and their table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steering_reliability.cells import Cell, Intervention
from steering_reliability.completions import UNSTEERED_LOGPROB
from steering_reliability.results.atomic import write_json
from steering_reliability.results.summary import grid_rows
from steering_reliability.statistics import bootstrap_bounds

Floats = NDArray[np.float64]

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
"""Told beside them of cells whose completions were weighed."""

_RATIOS = ("perplexity_ratio", OWN_TEXT)


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


def probes_table(readings: Mapping[Cell, Readings], scores: pd.DataFrame) -> pd.DataFrame:
    """Rows per cell, one per measure of ``MEASURES`` and `OWN_TEXT`: columns `PROBE_COLUMNS`.

    ``benign_kl`` is the mean over prompts, in nats. ``perplexity_ratio`` is the steered perplexity
    over the unsteered one, by the mean over texts of the change per token.
    ``refusal_log_odds_change`` is the mean over prompts of the paired change, in nats. `OWN_TEXT`
    is the perplexity that the unsteered model gives to what the cell wrote, over that which it
    gives to what it wrote itself, by the mean over prompts of the change per token. Intervals
    are 95% bootstrap ones over ``n`` prompts or texts, and hold for these directions.

    Args:
        readings: by steered cell.
        scores: the level's scores frame; `OWN_TEXT` is told of cells that were weighed.
    """
    rows = []
    for cell, found in readings.items():
        rows += [
            _row(cell, "benign_kl", np.array(found.benign_kl)),
            _row(cell, "perplexity_ratio", np.subtract(found.nll, found.nll_unsteered)),
            _row(
                cell,
                "refusal_log_odds_change",
                np.subtract(found.log_odds, found.log_odds_unsteered),
            ),
        ]
    rows += [_row(cell, OWN_TEXT, changes) for cell, changes in _own_text_changes(scores)]
    return pd.DataFrame(rows, columns=list(PROBE_COLUMNS))


def _row(cell: Cell, measure: str, values: Floats) -> tuple[Any, ...]:
    low, high = bootstrap_bounds(values)
    numbers = [float(values.mean()), float(low), float(high)]
    if measure in _RATIOS:
        numbers = [math.exp(number) for number in numbers]
    where = (cell.id, cell.layer, cell.intervention, cell.alpha)
    return (*where, measure, *numbers, len(values))


def _own_text_changes(scores: pd.DataFrame) -> Iterator[tuple[Cell, Floats]]:
    """Steered cells, and by how much less likely per token their text is than the unsteered."""
    if UNSTEERED_LOGPROB not in scores.columns:
        return
    grid = grid_rows(scores)
    weighed = grid[grid[UNSTEERED_LOGPROB].notna()].set_index(["split", "prompt_id"])
    own = weighed.loc[weighed["alpha"] == 0, UNSTEERED_LOGPROB]
    own = own[~own.index.duplicated()]
    steered = weighed[weighed["alpha"] != 0]
    for key, group in steered.groupby(["layer", "intervention", "alpha"]):
        layer, kind, alpha = cast("tuple[int, Intervention, float]", key)
        changes = (own - group[UNSTEERED_LOGPROB]).dropna().to_numpy()
        if len(changes):
            yield Cell(int(layer), kind, float(alpha)), changes


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
