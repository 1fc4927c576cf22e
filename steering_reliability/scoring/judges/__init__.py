"""Who says whether a completion refuses: the rules, a function of the user's, or a classifier.

A level names its judge in ``scoring: {refusal: …}``: ``rules``, ``module:function``, or
``hf:MODEL`` with ``#LABEL`` behind it where the model's labels do not say which one is refusal.
Nothing here imports torch before a classifier is asked for its first score.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from steering_reliability.errors import SteeringError
from steering_reliability.judge_names import CLASSIFIER_PREFIX, EXPECTED, RULES, is_judge


class Judge(Protocol):
    """Says of completions how surely they refuse."""

    @property
    def name(self) -> str:
        """As results carry it; holds no path."""
        ...

    @property
    def version(self) -> str:
        """Changes when the judge's answers may."""
        ...

    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """Refusal scores in [0, 1], ``[n]``; .5 and more is a refusal.

        Args:
            prompts: ``[n]`` requests, without chat template.
            completions: ``[n]`` texts, cut at their end of turn.

        Raises:
            SteeringError: the judge failed, or gave something else.
        """
        ...


def load_judge(spec: str, folder: Path, where: str) -> Judge:
    """The judge that a text names; what can be checked without its weights is checked.

    Args:
        spec: ``rules``, ``module:function`` or ``hf:MODEL[#LABEL]``.
        folder: on the import path for a module; a model's folder may be relative to it.
        where: file and key, for errors.

    Raises:
        SteeringError: there is no such judge, or it cannot be one.
    """
    if not is_judge(spec):
        raise SteeringError(f"{where}: found {spec!r}, expected {EXPECTED}")
    if spec == RULES:
        from steering_reliability.scoring.judges.rules import RulesJudge

        return RulesJudge()
    if spec.startswith(CLASSIFIER_PREFIX):
        from steering_reliability.scoring.judges.classifier import ClassifierJudge

        source, _, label = spec.removeprefix(CLASSIFIER_PREFIX).partition("#")
        return ClassifierJudge(source, label or None, folder, where)
    from steering_reliability.scoring.judges.function import FunctionJudge

    return FunctionJudge(spec, folder, where)
