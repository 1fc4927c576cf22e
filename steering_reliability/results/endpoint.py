"""Log-odds of refusal at an operating point: how sure they are, and what random directions reach.

A continuous endpoint beside the refusal rate; it describes and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from steering_reliability.cells import LEARNED, Cell
from steering_reliability.results.probes import read_record, write_record
from steering_reliability.statistics import Estimate, bootstrap_bounds, refitted_mean

ENDPOINT_COLUMNS = (
    *("cell", "layer", "intervention_type", "alpha", "direction", "n", "estimate", "low", "high"),
    *("refits", "refit_low", "refit_high", "rank", "of", "meaning"),
)


@dataclass(frozen=True)
class Endpoint:
    """Log-odds of refusal against compliance texts, per harmful prompt, in nats.

    Attributes:
        unsteered: of the unsteered model, ``[n_prompts]``.
        steered: with the learned direction.
        refits: with each direction that was learned anew from a bootstrap draw of learning prompts
            and pairs; none where the direction came from a file.
        rivals: with each random direction that is run beside the cell, by name.
    """

    unsteered: tuple[float, ...]
    steered: tuple[float, ...]
    refits: tuple[tuple[float, ...], ...]
    rivals: Mapping[str, tuple[float, ...]]


def endpoint_table(endpoints: Mapping[Cell, Endpoint]) -> pd.DataFrame:
    """The learned direction and its rivals, per cell: columns `ENDPOINT_COLUMNS`.

    ``estimate`` is the mean change against the unsteered model, in nats, with a 95% bootstrap
    interval over prompts, for that very direction; ``refit_low`` and ``refit_high`` count too how
    the direction was learned (`statistics.refitted_mean`). ``rank`` 1 of ``of`` directions moves
    refusal most the way that the cell is meant to.
    """
    rows = [row for cell, found in endpoints.items() for row in _rows(cell, found)]
    return pd.DataFrame(rows, columns=list(ENDPOINT_COLUMNS))


def write_endpoint(folder: Path, digest: str, endpoint: Endpoint, run_id: str) -> None:
    """Keep what was read, atomically.

    Raises:
        SteeringError: the folder cannot be written.
    """
    rivals = {name: list(values) for name, values in endpoint.rivals.items()}
    record = {
        "unsteered": list(endpoint.unsteered),
        "steered": list(endpoint.steered),
        "refits": [list(values) for values in endpoint.refits],
        "rivals": rivals,
    }
    write_record(folder, digest, record, run_id)


def read_endpoint(folder: Path, digest: str, run_id: str | None = None) -> Endpoint | None:
    """What was read at a cell; None if nothing was, by that run if one is named."""
    record = read_record(folder, digest, run_id)
    if record is None:
        return None
    try:
        return Endpoint(
            unsteered=_floats(record["unsteered"]),
            steered=_floats(record["steered"]),
            refits=tuple(_floats(values) for values in record["refits"]),
            rivals={str(name): _floats(values) for name, values in record["rivals"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _rows(cell: Cell, found: Endpoint) -> list[dict[str, Any]]:
    changes = {
        name: np.subtract(values, found.unsteered)
        for name, values in {LEARNED: found.steered, **found.rivals}.items()
    }
    wanted = 1 if cell.aim == "raise" else -1
    ranked = sorted(changes, key=lambda name: -wanted * changes[name].mean())
    refitted = refitted_mean(
        changes[LEARNED], [np.subtract(one, found.unsteered).mean() for one in found.refits]
    )
    rows = []
    for name, values in changes.items():
        low, high = bootstrap_bounds(values)
        row = {
            "cell": cell.id,
            "layer": cell.layer,
            "intervention_type": cell.intervention,
            "alpha": cell.alpha,
            "direction": name,
            "n": len(values),
            "estimate": float(values.mean()),
            "low": float(low),
            "high": float(high),
            "refits": 0,
            "rank": ranked.index(name) + 1,
            "of": len(ranked),
            "meaning": "",
        }
        if name == LEARNED:
            row |= {"refits": len(found.refits)}
            row |= {"refit_low": refitted.low, "refit_high": refitted.high}
            row |= {"meaning": _means(row, refitted)}
        rows.append(row)
    return rows


def _means(row: Mapping[str, Any], refitted: Estimate) -> str:
    if math.isnan(refitted.low):
        said = (
            "the direction was not learned here, or is rounding noise with other prompts: no refits"
        )
    else:
        ratio = (refitted.high - refitted.low) / (row["high"] - row["low"] or math.nan)
        crosses = refitted.low <= 0 <= refitted.high
        said = (
            f"learning prompts and pairs drawn anew {row['refits']} times, the interval is "
            f"{ratio:.1f} times as wide: "
            + (
                "with other prompts or pairs the effect may be none"
                if crosses
                else "the effect does not hang on just these learning prompts and pairs"
            )
        )
    if row["of"] == 1:
        return f"{said}; no random direction was run beside it"
    return (
        f"{said}; rank {row['rank']} of {row['of']} directions, where one that means nothing "
        f"would come first in 1 of {row['of']} cases"
    )


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(map(float, values))
