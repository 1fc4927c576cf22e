"""How completions are built: refusals in full and in part, and answers that turn or are cut off."""

from __future__ import annotations

import pandas as pd

from steering_reliability.results.summary import grid_rows
from steering_reliability.results.tables import CELL_COLUMNS
from steering_reliability.scoring import SHAPES

SHAPE_COLUMNS = ("refusal_kind", "shape")
"""Columns of a scores frame beside `summary.SCORE_COLUMNS`: ``full``, ``partial`` or ``none``, and
one of `SHAPES` or nothing."""

COMPLETION_SHAPES = "completion_shapes"
"""Name of the table."""

TABLE_COLUMNS = (*CELL_COLUMNS, "n", "full_refusal", "partial_refusal", *SHAPES, "cut_off")


def shapes_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Completions of each cell of the grid and split by shape, as counts; a completion may be in
    several columns, or in none.

    Args:
        scores: the level's scores frame; without `SHAPE_COLUMNS`, as in older runs, or with none
            of them known, as where another judge than the rules scored, there are no rows.
    """
    if not set(SHAPE_COLUMNS) <= set(scores.columns) or scores["refusal_kind"].isna().all():
        return pd.DataFrame(columns=list(TABLE_COLUMNS))
    grid = grid_rows(scores)
    marks = pd.DataFrame(
        {
            "n": 1,
            "full_refusal": grid["refusal_kind"] == "full",
            "partial_refusal": grid["refusal_kind"] == "partial",
            **{shape: grid["shape"] == shape for shape in SHAPES},
            "cut_off": grid["finish_reason"] == "length",
        }
    ).astype(int)
    keys = grid.rename(columns={"intervention": "intervention_type"})[list(CELL_COLUMNS)]
    table = pd.concat([keys, marks], axis=1).groupby(list(CELL_COLUMNS), sort=False).sum()
    return table.reset_index()
