"""Texts to the score columns of the scores frame, by the judge of a level."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd

from steering_reliability.completions import FinishReason
from steering_reliability.config import LevelConfig
from steering_reliability.results.score_cache import ScoreCache
from steering_reliability.scoring import SCORER, SCORER_VERSION, Score, score
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
    """

    def __init__(self, judge: Judge, cache: ScoreCache | None = None) -> None:
        self.judge = judge
        self._cache = ScoreCache() if cache is None else cache
        self._judged: dict[Text, tuple[Score, float]] = {}

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
        return [
            {**_columns(found), JUDGE_SCORE: said}
            for found, said in (self._judged[text] for text in texts)
        ]

    def rejudge(self, scores: pd.DataFrame) -> pd.DataFrame:
        """A scores frame with the score columns of this judge in place of a former one's."""
        rows = scores[["prompt", "text", "finish_reason"]].itertuples(index=False, name=None)
        texts = [Text(prompt, text, cast("FinishReason", reason)) for prompt, text, reason in rows]
        found = pd.DataFrame(self.columns(texts), index=scores.index)
        kept = scores.drop(columns=JUDGE_SCORE, errors="ignore")
        return kept.assign(**{name: found[name] for name in found.columns})

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


def _columns(found: Score) -> dict[str, Any]:
    return {
        "refusal_score": found.refusal_score,
        "is_refusal": found.is_refusal,
        "helpfulness_score": found.helpfulness_score,
        "is_helpful": found.is_helpful,
        "is_degenerate": found.is_degenerate,
    }
