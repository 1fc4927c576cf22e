"""Texts to the score columns of the scores frame, by the judge of a level."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd

from steering_reliability.completions import PREFIX_TOKENS, FinishReason
from steering_reliability.config import LevelConfig
from steering_reliability.results.prefixes import CUT_COLUMNS, PREFIX_COLUMNS
from steering_reliability.results.score_cache import ScoreCache
from steering_reliability.results.shapes import SHAPE_COLUMNS
from steering_reliability.scoring import SCORER, SCORER_VERSION, SHAPES, Score, score
from steering_reliability.scoring.judges import Judge, load_judge
from steering_reliability.scoring.text import cut_at_end_of_turn

JUDGE_SCORE = "judge_score"
"""What another judge than the rules said, before broken text was ruled out."""


class Text(NamedTuple):
    """What is judged: a request, its completion, and how that ended."""

    prompt: str
    completion: str
    finish_reason: FinishReason


def level_judge(config: LevelConfig) -> Judge:
    """The judge of a level.

    Raises:
        SteeringError: it cannot be one.
    """
    folder = config.path.parent if config.path else Path()
    where = f"{config.path or config.level}: scoring.refusal"
    return load_judge(config.scoring.refusal, folder, where)


def scoring_record(judge: Judge) -> dict[str, dict[str, str]]:
    """Who judged what, as the manifest has it."""
    rules = {"name": SCORER, "version": SCORER_VERSION}
    refusal = {"name": judge.name, "version": judge.version}
    return {"refusal": refusal, "helpfulness": rules, "coherence": rules}


class TextScores:
    """Scores texts, each once; another judge than the rules is asked for many at a time.

    Args:
        judge: says whether a text refuses; helpfulness and coherence are the rules'.
        cache: the rules' scores of earlier runs.

    Attributes:
        prefix_cost: texts that were cut off and scored so far, and the seconds it took.
    """

    def __init__(self, judge: Judge, cache: ScoreCache | None = None) -> None:
        self.judge = judge
        self._cache = ScoreCache() if cache is None else cache
        self._judged: dict[Text, tuple[Score, float]] = {}
        self.prefix_cost = {"texts": 0, "seconds": 0.0}

    @property
    def by_rules(self) -> bool:
        """Whether the rules judge refusal, so that there is no column of another's scores."""
        return self.judge.name == SCORER

    def save(self) -> None:
        """Keep the rules' scores for later runs.

        Raises:
            SteeringError: they cannot be written.
        """
        self._cache.save()

    def columns(self, texts: Sequence[Text]) -> list[dict[str, Any]]:
        """The score columns of each text, in their order.

        Raises:
            SteeringError: the judge failed.
        """
        if self.by_rules:
            return [_columns(self._cache.score(*text)) for text in texts]
        self._ask(texts)
        # How a refusal is built is for the rules to say, not for a judge that gives a number.
        unknown = dict.fromkeys(SHAPE_COLUMNS)
        return [
            {**_columns(found), **unknown, JUDGE_SCORE: said}
            for found, said in (self._judged[text] for text in texts)
        ]

    def prefix_columns(
        self, texts: Sequence[Text], chars: Sequence[Mapping[str, float]]
    ) -> list[dict[str, Any]]:
        """Score columns of each text's first 16 and 32 tokens, as completions cut off there.

        Args:
            texts: whole completions.
            chars: of each, ``chars_16`` and ``chars_32``; what is missing or NaN, as in
                completions stored before they were noted, leaves the columns NaN.

        Raises:
            SteeringError: the judge failed.
        """
        started = time.perf_counter()
        found: list[dict[str, Any]] = [{} for _ in texts]
        for k in PREFIX_TOKENS:
            ends = [float(one.get(f"chars_{k}", math.nan)) for one in chars]
            known = [i for i, end in enumerate(ends) if not math.isnan(end)]
            scored = self.columns([_cut(texts[i], int(ends[i])) for i in known])
            for i, columns in zip(known, scored, strict=True):
                found[i] |= {f"{name}_{k}": float(columns[name]) for name in CUT_COLUMNS}
                found[i][f"chars_{k}"] = ends[i]
            self.prefix_cost["texts"] += len(known)
        self.prefix_cost["seconds"] += time.perf_counter() - started
        return found

    def rejudge(self, scores: pd.DataFrame) -> pd.DataFrame:
        """A scores frame with the score columns of this judge in place of a former one's."""
        rows = scores[["prompt", "text", "finish_reason"]].itertuples(index=False, name=None)
        texts = [Text(prompt, text, cast("FinishReason", reason)) for prompt, text, reason in rows]
        found = pd.DataFrame(self.columns(texts), index=scores.index)
        kept = scores.drop(columns=JUDGE_SCORE, errors="ignore")
        marks = scores.reindex(columns=[f"chars_{k}" for k in PREFIX_TOKENS]).astype(float)
        ends = [dict(zip(marks.columns, row, strict=True)) for row in marks.to_numpy()]
        cut = self.prefix_columns(texts, ends)
        prefixes = pd.DataFrame(cut, index=scores.index, columns=list(PREFIX_COLUMNS))
        columns = {name: found[name] for name in found.columns}
        columns |= {name: prefixes[name] for name in PREFIX_COLUMNS}
        return kept.assign(**columns)

    def _ask(self, texts: Iterable[Text]) -> None:
        fresh = [text for text in dict.fromkeys(texts) if text not in self._judged]
        if not fresh:
            return
        said = self.judge.scores(
            [text.prompt for text in fresh],
            [cut_at_end_of_turn(text.completion) for text in fresh],
        )
        for text, value in zip(fresh, said, strict=True):
            prompt, completion, reason = text
            found = score(prompt, completion, finish_reason=reason, refusal_score=value)
            self._judged[text] = (found, value)


def _cut(text: Text, end: int) -> Text:
    if end >= len(text.completion):
        return text
    return Text(text.prompt, text.completion[:end], "length")


def _columns(found: Score) -> dict[str, Any]:
    return {
        "refusal_score": found.refusal_score,
        "is_refusal": found.is_refusal,
        "helpfulness_score": found.helpfulness_score,
        "is_helpful": found.is_helpful,
        "is_degenerate": found.is_degenerate,
        "refusal_kind": found.refusal_kind,
        "shape": next((reason for reason in found.reasons if reason in SHAPES), ""),
    }
