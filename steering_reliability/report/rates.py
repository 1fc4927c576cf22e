"""Rates of cells and of controls, as the page lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from steering_reliability.cells import Cell
from steering_reliability.report import labels
from steering_reliability.report.labels import ordered_interventions, ordered_splits
from steering_reliability.results.summary import COUNTED, SUMMARY_COLUMNS

_CELL = ["layer", "intervention_type", "alpha"]


def cell_rows(summary: pd.DataFrame, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The grid by layer, intervention, split and alpha: what is compared stands together.

    ``is_counted`` says whether the cell is meant to lower refusal, so that verdicts go by
    `COUNTED`; not where a run of before that column has none.

    Args:
        summary: ``summary.csv`` with ``is_coherent``.
        manifest: tells what cells were chosen for.
    """
    splits = ordered_splits(summary["split"])
    interventions = ordered_interventions(summary["intervention_type"])
    rows = _marked(summary, manifest).assign(
        split_rank=summary["split"].map(splits.index),
        rank=summary["intervention_type"].map(interventions.index),
    )
    ordered = rows.sort_values(["layer", "rank", "split_rank", "alpha"], kind="stable")
    return labels.records(ordered)


def control_rows(
    controls: pd.DataFrame, summary: pd.DataFrame, manifest: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Controls, each cell's led by the learned direction's row of the grid; else as `cell_rows`."""
    rows: list[dict[str, Any]] = []
    keys = ["split", *_CELL]
    grid, others = _marked(summary, manifest), _marked(controls, manifest)
    for cell, group in others.groupby(keys, sort=False):
        same = grid[(grid[keys] == list(cell)).all(axis=1)]
        rows += [
            {**row, "direction": "learned", "condition": "default", "is_learned": True}
            for row in labels.records(same)
        ]
        rows += [{**row, "is_learned": False} for row in labels.records(group)]
    return rows


def learned_from(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Of every split that the direction was learned from: ``split``, how many ``seen``, ``n``."""
    prompts = scores.groupby(["split", "prompt_id"])["seen"].max().astype(bool)
    seen = prompts.groupby("split").sum()
    counts = prompts.groupby("split").size()
    return [
        {"split": split, "seen": int(seen[split]), "n": int(counts[split])}
        for split in ordered_splits(seen.index[seen > 0])
    ]


def _marked(table: pd.DataFrame, manifest: Mapping[str, Any]) -> pd.DataFrame:
    lowering = {
        (point["layer"], point["intervention"], point["alpha"])
        for point in manifest.get("confirmations") or []
        if point["goal"] == "lower"
    }
    marks = [
        alpha != 0 and ((layer, kind, alpha) in lowering or Cell(layer, kind, alpha).aim == "lower")
        for layer, kind, alpha in table[_CELL].itertuples(index=False)
    ]
    known = table.reindex(columns=list(dict.fromkeys([*table.columns, *SUMMARY_COLUMNS])))
    meant = pd.Series(marks, table.index, dtype=bool)
    return known.assign(is_counted=meant & known[f"{COUNTED}_mean"].notna())
