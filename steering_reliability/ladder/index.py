"""Which stored completion is which of a level: written by whoever has the model in memory.

The controller of a distributed run never loads the model, and a run can be finished long after
it was interrupted; both find a level's completions through this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steering_reliability.cells import Cell
from steering_reliability.errors import SteeringError
from steering_reliability.results.atomic import write_json
from steering_reliability.results.store import CompletionStore

FORMAT = 3


@dataclass(frozen=True)
class LevelIndex:
    """Keys of every completion of a level.

    Attributes:
        model: source, name, name of the weights, fingerprint, device, dtype, layers and width.
        directions: what the report tells of each learned direction.
        controls: the same of each control direction, with its name.
        keys: by cell, then one key per prompt and sample, split by split.
        splits: by cell, the splits that it is run on.
        prompts: prompt ids by split.
        samples: completions per prompt and cell.
        screen: the layers as screened without generating, best first.
        probes: by steered cell, under which digest its probes are kept.
        endpoints: by cell, under which digest its refitted log-odds are kept.
        limits: by cell, how many prompts of each of its splits it is run on, the first ones.
    """

    model: dict[str, Any]
    directions: list[dict[str, Any]]
    controls: list[dict[str, Any]]
    keys: dict[Cell, list[str]]
    splits: dict[Cell, tuple[str, ...]]
    prompts: dict[str, list[str]]
    samples: int
    screen: list[dict[str, Any]] = field(default_factory=list)
    probes: dict[Cell, str] = field(default_factory=dict)
    endpoints: dict[Cell, str] = field(default_factory=dict)
    limits: dict[Cell, tuple[int, ...]] = field(default_factory=dict)

    def rows(self, cell: Cell) -> Iterator[tuple[str, str, int, str]]:
        """(split, prompt id, sample, key) of a cell's completions."""
        keys = iter(self.keys[cell])
        limits = self.limits.get(cell) or [None] * len(self.splits[cell])
        for split, limit in zip(self.splits[cell], limits, strict=True):
            for prompt_id in self.prompts[split][:limit]:
                for sample in range(self.samples):
                    yield split, prompt_id, sample, next(keys)


def write_index(path: Path, index: LevelIndex) -> None:
    """Write an index atomically; every process of a run writes the same one."""
    cells = [
        {
            "cell": [cell.layer, cell.intervention, cell.alpha, cell.direction, cell.condition],
            "splits": index.splits[cell],
            "keys": keys,
            "probe": index.probes.get(cell),
            "endpoint": index.endpoints.get(cell),
            "limits": index.limits.get(cell),
        }
        for cell, keys in index.keys.items()
    ]
    record = {
        "format": FORMAT,
        "model": index.model,
        "directions": index.directions,
        "controls": index.controls,
        "prompts": index.prompts,
        "samples": index.samples,
        "screen": index.screen,
        "cells": cells,
    }
    write_json(path, record)


def read_index(path: Path) -> LevelIndex:
    """Read an index.

    Raises:
        SteeringError: there is none, or it is damaged or another version's.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']}")
        return LevelIndex(
            model=record["model"],
            directions=record["directions"],
            controls=record["controls"],
            keys={Cell(*entry["cell"]): entry["keys"] for entry in record["cells"]},
            splits={Cell(*entry["cell"]): tuple(entry["splits"]) for entry in record["cells"]},
            prompts=record["prompts"],
            samples=record["samples"],
            screen=record["screen"],
            probes=_by_cell(record["cells"], "probe"),
            endpoints=_by_cell(record["cells"], "endpoint"),
            limits={c: tuple(sizes) for c, sizes in _by_cell(record["cells"], "limits").items()},
        )
    except FileNotFoundError as error:
        raise SteeringError(
            f"{path}: not there, expected the index of a level that was run; run the level"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SteeringError(
            f"{path}: damaged or of another version ({error}); delete it and run the level again, "
            "completions in the store are not lost"
        ) from error


def count_stored(path: Path, store: Path) -> tuple[int, int]:
    """Distinct completions of a level that the store holds, and all there are to be.

    Args:
        path: the level's index.
        store: the store's file.

    Raises:
        SteeringError: either cannot be read.
    """
    keys = {key for keys in read_index(path).keys.values() for key in keys}
    with CompletionStore(store) as opened:
        return len(opened.get_many(keys)), len(keys)


def _by_cell(entries: list[dict[str, Any]], name: str) -> dict[Cell, Any]:
    """What is told of some of the cells only; an index of before does not tell it."""
    return {Cell(*entry["cell"]): entry[name] for entry in entries if entry.get(name)}
