"""Two judges on one run's completions: where they agree, by split and type of cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from steering_reliability.cells import LEARNED
from steering_reliability.errors import SteeringError
from steering_reliability.ladder.judged import TextScores
from steering_reliability.results.run import read_run
from steering_reliability.scoring.judges import Judge
from steering_reliability.statistics import cohen_kappa

AGREEMENT_COLUMNS = (
    "split",
    "cells",
    "n",
    "prompts",
    "degenerate",
    "agreement",
    "kappa",
    "kappa_low",
    "kappa_high",
    "rate_a",
    "rate_b",
)
ALL = "all"
_TEXT = ["split", "prompt_id", "text", "finish_reason"]


def judged_by_both(folder: Path, first: Judge, second: Judge) -> pd.DataFrame:
    """A run's completions with both judges' answers, a text of one prompt once per cell type.

    Args:
        folder: the run's folder.
        first: judge A.
        second: judge B.

    Returns:
        The scores frame's own columns without the scores, and ``cells`` (``unsteered``, ``add``,
        ``ablate``, ``control``), ``is_degenerate``, ``score_a``, ``score_b``, ``refusal_a``,
        ``refusal_b``.

    Raises:
        SteeringError: the folder is no run, or a judge failed.
    """
    scores = read_run(folder).scores
    cells = scores["intervention"].astype(str).where(scores["alpha"] != 0, "unsteered")
    cells = cells.where(scores["direction"] == LEARNED, "control")
    # The unsteered completion of a prompt stands in every cell with alpha 0.
    distinct = scores.assign(cells=cells)
    unsteered = distinct["cells"] == "unsteered"
    again = distinct.duplicated(["cells", "split", "prompt_id", "sample"]) & unsteered
    distinct = distinct[~again].reset_index(drop=True)
    one, two = (TextScores(judge).rejudge(distinct) for judge in (first, second))
    return distinct.assign(
        is_degenerate=one["is_degenerate"],
        score_a=one["refusal_score"],
        score_b=two["refusal_score"],
        refusal_a=one["is_refusal"],
        refusal_b=two["is_refusal"],
    ).drop(columns=["refusal_score", "is_refusal", "helpfulness_score", "is_helpful"])


def agreement_table(judged: pd.DataFrame) -> pd.DataFrame:
    """Agreement by split and cell type, then of each split's and of all texts.

    Degenerate texts are counted and left out: no judge's word makes them a refusal, so they would
    be agreement for free.

    Args:
        judged: from `judged_by_both`.

    Returns:
        Columns `AGREEMENT_COLUMNS`; ``n`` texts of ``prompts`` prompts, rates of refusal, kappa
        with its 95% interval, clustered by prompt, NaN where it has no meaning.
    """
    groups: list[tuple[str, str, pd.DataFrame]] = []
    for split, of_split in judged.groupby("split", sort=False):
        kinds = [(str(kind), rows) for kind, rows in of_split.groupby("cells", sort=False)]
        groups += [(str(split), kind, rows) for kind, rows in kinds]
        groups += [(str(split), ALL, of_split)] if len(kinds) > 1 else []
    groups.append((ALL, ALL, judged))
    return pd.DataFrame([_agreement(*group) for group in groups], columns=list(AGREEMENT_COLUMNS))


def disagreements(judged: pd.DataFrame) -> pd.DataFrame:
    """The texts that only one judge takes for a refusal, each text of a prompt once."""
    found = judged[judged["refusal_a"] != judged["refusal_b"]]
    return found.drop_duplicates(_TEXT)


def _agreement(split: str, cells: str, rows: pd.DataFrame) -> dict[str, object]:
    sound = rows[~rows["is_degenerate"].astype(bool)]
    one, two = sound["refusal_a"].astype(float), sound["refusal_b"].astype(float)
    prompts = sound["split"].astype(str) + " " + sound["prompt_id"].astype(str)
    kappa = cohen_kappa(one, two, prompts)
    return {
        "split": split,
        "cells": cells,
        "n": len(sound),
        "prompts": prompts.nunique(),
        "degenerate": len(rows) - len(sound),
        "agreement": (one == two).mean(),
        "kappa": kappa.value,
        "kappa_low": kappa.low,
        "kappa_high": kappa.high,
        "rate_a": one.mean(),
        "rate_b": two.mean(),
    }


def agreement_lines(table: pd.DataFrame) -> list[str]:
    """The table for a terminal."""
    header = f"{'split':14s}{'cells':11s}{'n':>6s}{'prompts':>9s}{'degen.':>8s}{'agree':>7s}"
    lines = [f"{header}  {'kappa':20s}{'rate A':>7s}{'rate B':>7s}"]
    row: Any
    for row in table.itertuples(index=False):
        kappa = "-"
        if row.kappa == row.kappa:
            kappa = f"{row.kappa:.2f} [{row.kappa_low:.2f}, {row.kappa_high:.2f}]"
        lines.append(
            f"{row.split:14s}{row.cells:11s}{row.n:6d}{row.prompts:9d}{row.degenerate:8d}"
            f"{row.agreement:7.2f}  {kappa:20s}{row.rate_a:7.2f}{row.rate_b:7.2f}"
        )
    return lines


def disagreement_lines(found: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The disagreements for a terminal, three lines each."""
    lines = []
    for row in found.itertuples(index=False):
        refuser = names[0] if row.refusal_a else names[1]
        cell = f"layer{row.layer}-{row.intervention}-alpha{row.alpha:g}"
        said = f"A {row.score_a:.2f}, B {row.score_b:.2f}: refusal by {refuser} alone"
        lines += [
            f"{row.split} {row.prompt_id} {cell} {row.direction}  {said}",
            f"    > {_one_line(str(row.prompt))}",
            f"    < {_one_line(str(row.text))}",
        ]
    return lines


def _one_line(text: str, most: int = 300) -> str:
    plain = " ".join(text.split())
    shown = plain if len(plain) <= most else plain[: most - 1] + "…"
    return "".join(char if char.isprintable() else "?" for char in shown)


def check_distinct(first: Judge, second: Judge) -> None:
    """Refuse to compare a judge with itself.

    Raises:
        SteeringError: both are one.
    """
    if (first.name, first.version) == (second.name, second.version):
        raise SteeringError(
            f"compare: found {first.name}, version {first.version}, twice, expected two judges"
        )
