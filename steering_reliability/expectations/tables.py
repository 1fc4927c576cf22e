"""The scores frame, indexed by cell, one value per prompt.

This module knows nothing about claims. It turns the long frame into aligned arrays once, so
that a level's hundreds of claims cost microseconds of lookup each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steering_reliability.cells import Cell, Goal, Intervention
from steering_reliability.errors import SteeringError

Floats = NDArray[np.float64]

KEYS = ["layer", "intervention", "alpha", "direction", "condition"]
_REQUIRED = [*KEYS, "prompt_id", "split", "seen"]


class MissingScoresError(Exception):
    """A claim needs scores that the frame does not hold; becomes the outcome ``error``."""


class ScoreTable:
    """Per-prompt means of every cell of a scores frame.

    Args:
        scores: one row per (prompt, cell, sample), with the columns of the scores frame.

    Attributes:
        splits: every split that has rows.
        cells: every cell that has rows, in order.

    Raises:
        SteeringError: the frame lacks a column.
    """

    def __init__(self, scores: pd.DataFrame) -> None:
        lacking = [name for name in _REQUIRED if name not in scores.columns]
        if lacking:
            raise SteeringError(
                f"scores: columns {', '.join(lacking)} not found, expected a scores frame; "
                "run the level again, stored completions are scored anew"
            )
        self._scores = scores
        self._columns: dict[str, Floats] = {}
        self._means: dict[tuple[object, ...], tuple[NDArray[np.int64], Floats]] = {}
        self._split_codes, splits = pd.factorize(scores["split"])
        self.splits: list[str] = [str(split) for split in splits]
        # Sorted, so that seeded resampling does not depend on the order of the frame's rows.
        prompt_codes, prompts = pd.factorize(scores["prompt_id"], sort=True)
        # A prompt is one of its split: the same id in two splits is two prompts.
        self._prompt_codes = (
            self._split_codes.astype(np.int64) * max(len(prompts), 1) + prompt_codes
        )
        self._seen = scores["seen"].to_numpy(dtype=bool)
        self._rows = self._rows_by_cell(scores)
        self.cells: list[Cell] = sorted(self._rows)

    @staticmethod
    def _rows_by_cell(scores: pd.DataFrame) -> dict[Cell, NDArray[np.int64]]:
        if scores.empty:
            return {}
        keys = [pd.factorize(scores[name]) for name in KEYS]
        combined = np.zeros(len(scores), dtype=np.int64)
        for codes, values in keys:
            combined = combined * len(values) + codes
        order = np.argsort(combined, kind="stable")
        ends = np.flatnonzero(np.diff(combined[order])) + 1
        rows: dict[Cell, NDArray[np.int64]] = {}
        for block in np.split(order, ends):
            layer, intervention, alpha, direction, condition = (
                values[codes[block[0]]] for codes, values in keys
            )
            kind = cast("Intervention", str(intervention))
            cell = Cell(int(layer), kind, float(alpha), str(direction), str(condition))
            rows[cell] = block
        return rows

    def controls(self, cell: Cell, kinds: tuple[str, ...], split: str) -> list[Cell]:
        """Cells like ``cell`` whose direction means nothing, with rows in ``split``."""
        return [
            other
            for other in self.cells
            if (other.layer, other.intervention, other.alpha, other.condition)
            == (cell.layer, cell.intervention, cell.alpha, cell.condition)
            and other.direction.startswith(kinds)
            and self.has(other, split)
        ]

    def has(self, cell: Cell, split: str) -> bool:
        """Whether the cell has rows in the split."""
        if cell not in self._rows or split not in self.splits:
            return False
        return bool((self._split_codes[self._rows[cell]] == self.splits.index(split)).any())

    def values(
        self,
        cell: Cell,
        column: str,
        splits: Iterable[str],
        unseen: bool = False,
        style: str | None = None,
    ) -> tuple[NDArray[np.int64], Floats]:
        """Prompts (as codes, ascending) and their means over samples, ``[n]`` each.

        Args:
            column: a numeric or boolean column of the frame.
            splits: splits taken together.
            unseen: whether to leave out prompts that the direction was learned from.
            style: the one style of prompts that counts; all do if None.

        Raises:
            MissingScoresError: the cell, a split of it, or a score of it is missing.
        """
        splits = tuple(splits)
        key = (cell, column, splits, unseen, style)
        if key not in self._means:
            self._means[key] = self._mean_by_prompt(cell, column, splits, unseen, style)
        return self._means[key]

    def _mean_by_prompt(
        self, cell: Cell, column: str, splits: tuple[str, ...], unseen: bool, style: str | None
    ) -> tuple[NDArray[np.int64], Floats]:
        if cell not in self._rows:
            raise MissingScoresError(f"no completions of {cell.id}")
        rows = self._rows[cell]
        codes = [self.splits.index(split) for split in splits if split in self.splits]
        keep = np.isin(self._split_codes[rows], codes)
        if unseen:
            keep &= ~self._seen[rows]
        if style is not None:
            keep &= self._of_style(style)[rows]
        rows = rows[keep]
        if len(rows) == 0:
            which = f", style {style}" if style is not None else ""
            raise MissingScoresError(f"no completions of {cell.id} on {', '.join(splits)}{which}")
        values = self._column(column)[rows]
        if np.isnan(values).any():
            count = int(np.isnan(values).sum())
            raise MissingScoresError(f"{count} completions of {cell.id} have no {column}")
        prompts, places = np.unique(self._prompt_codes[rows], return_inverse=True)
        means = np.bincount(places, weights=values) / np.bincount(places)
        return prompts, means

    def _column(self, name: str) -> Floats:
        if name not in self._columns:
            if name not in self._scores.columns:
                raise MissingScoresError(f"the scores have no column {name}")
            column = self._scores[name].to_numpy(dtype=np.float64, na_value=np.nan)
            self._columns[name] = column
        return self._columns[name]

    def _of_style(self, style: str) -> NDArray[np.bool_]:
        if "style" not in self._scores.columns:
            raise MissingScoresError("the scores have no column style")
        return np.asarray(self._scores["style"] == style, dtype=bool)

    def aligned(
        self,
        cells: Iterable[Cell],
        column: str,
        splits: Iterable[str],
        unseen: bool = False,
        style: str | None = None,
    ) -> list[Floats]:
        """Per-prompt means of several cells in the same order of prompts, ``[n]`` each.

        Raises:
            MissingScoresError: the cells were not run on the same prompts, or scores are missing.
        """
        cells, splits = list(cells), tuple(splits)
        found = [self.values(cell, column, splits, unseen, style) for cell in cells]
        first = found[0][0]
        for cell, (prompts, _) in zip(cells, found, strict=True):
            if not np.array_equal(prompts, first):
                odd = len(np.setxor1d(prompts, first))
                raise MissingScoresError(
                    f"{cell.id} and {cells[0].id} differ in {odd} prompts on {', '.join(splits)}"
                )
        return [means for _, means in found]

    def refused(
        self, cells: Iterable[Cell], goal: Goal, splits: Iterable[str], unseen: bool = False
    ) -> list[Floats]:
        """Refusal of several cells, per prompt, as it counts for what steering should do to it.

        Breaking the text is no way to lower refusal: with that goal a prompt that the unsteered
        model refuses still counts as refused where the steered text is degenerate. With the other
        goal nothing is to be done, as degenerate text is no refusal.

        Returns:
            As ``aligned`` does, ``[n]`` each; several samples of a prompt are averaged first.

        Raises:
            MissingScoresError: as ``aligned``.
        """
        cells, splits = list(cells), tuple(splits)
        refusals = self.aligned(cells, "is_refusal", splits, unseen)
        if goal == "raise":
            return refusals
        found = []
        for cell, refusal in zip(cells, refusals, strict=True):
            if cell.is_baseline:
                found.append(refusal)
                continue
            _, before = self.aligned((cell, cell.baseline), "is_refusal", splits, unseen)
            (broken,) = self.aligned((cell,), "is_degenerate", splits, unseen)
            found.append(refusal + broken * before)
        return found

    def has_unseen(self, cell: Cell, split: str) -> bool:
        """Whether the cell has prompts in the split that the direction was not learned from."""
        if not self.has(cell, split):
            return False
        rows = self._rows[cell]
        of_split = self._split_codes[rows] == self.splits.index(split)
        return bool((of_split & ~self._seen[rows]).any())
