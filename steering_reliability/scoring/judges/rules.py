"""The package's own judge: the rules of ``scoring``."""

from __future__ import annotations

from collections.abc import Sequence

from steering_reliability.scoring import SCORER, SCORER_VERSION, score


class RulesJudge:
    """The rules as a judge."""

    name = SCORER
    version = SCORER_VERSION

    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """As `Judge.scores`; a degenerate completion's is 0."""
        pairs = zip(prompts, completions, strict=True)
        return [score(prompt, completion).refusal_score for prompt, completion in pairs]
