"""From completions to scores, and from scores to a level's verdicts. No model here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from steering_reliability.cells import Cell
from steering_reliability.claims import ClaimSettings, DirectionIsReal
from steering_reliability.completions import UNSTEERED_LOGPROB, Completion
from steering_reliability.errors import SteeringError
from steering_reliability.expectations import (
    DirectionEvidence,
    LayerChoice,
    ScoreTable,
    Verdict,
    evaluate,
)
from steering_reliability.ladder.judged import JUDGE_SCORE, Text, TextScores, level_judge
from steering_reliability.ladder.plan import LevelPlan
from steering_reliability.ladder.targets import (
    Target,
    claim_targets,
    control_targets,
    required_cells,
)
from steering_reliability.results.atomic import well_formed
from steering_reliability.results.prefixes import PREFIX_COLUMNS
from steering_reliability.results.score_cache import ScoreCache
from steering_reliability.results.shapes import SHAPE_COLUMNS
from steering_reliability.results.summary import SCORE_COLUMNS


class Scorer:
    """Scores completions, each text once: the unsteered ones stand in many cells.

    Args:
        plan: the level.
        cache: the rules' scores of earlier runs.

    Raises:
        SteeringError: the level's judge cannot be one.
    """

    def __init__(self, plan: LevelPlan, cache: ScoreCache | None = None) -> None:
        self._prompts = {
            (split, prompt.id): prompt for split, group in plan.prompts.items() for prompt in group
        }
        self._seen = plan.seen
        self._weighed = weighed_prompts(plan)
        self.texts = TextScores(level_judge(plan.config), cache)
        self._cells: dict[Cell, pd.DataFrame] = {}

    def frame(self, completions: Iterable[tuple[str, Completion]]) -> pd.DataFrame:
        """The scores frame of (split, completion) pairs, one row each, in their order.

        Raises:
            SteeringError: the judge failed.
        """
        completions = list(completions)
        texts = [
            Text(self._prompts[split, one.prompt_id].text, one.text, one.finish_reason)
            for split, one in completions
        ]
        chars = [one.measurements for _, one in completions]
        try:
            wholes = self.texts.columns(texts)
            cuts = self.texts.prefix_columns(texts, chars)
        except SteeringError as error:
            raise SteeringError(
                f"{error}; the completions are stored: mend the judge and give the same command "
                "without --steer-fresh, which only judges them again"
            ) from error
        rows = [
            self._row(split, completion) | whole | cut
            for (split, completion), whole, cut in zip(completions, wholes, cuts, strict=True)
        ]
        extra = () if self.texts.by_rules else (JUDGE_SCORE,)
        columns = [*SCORE_COLUMNS, *SHAPE_COLUMNS, *PREFIX_COLUMNS, UNSTEERED_LOGPROB, *extra]
        return pd.DataFrame(rows, columns=columns).astype({UNSTEERED_LOGPROB: float})

    def frame_of_cells(
        self,
        cells: Iterable[Cell],
        completions: Callable[[list[Cell]], Iterable[tuple[str, Completion]]],
    ) -> pd.DataFrame:
        """The scores frame of complete cells, which does not change any more.

        Args:
            cells: the cells, in the order of the rows.
            completions: gives the (split, completion) pairs of a cell not asked for before.
        """
        cells = list(cells)
        for cell in cells:
            if cell not in self._cells:
                self._cells[cell] = self.frame(completions([cell]))
        return pd.concat([self._cells[cell] for cell in cells], ignore_index=True)

    def save(self) -> None:
        """Keep the scores for later runs.

        Raises:
            SteeringError: they cannot be written.
        """
        self.texts.save()

    def _row(self, split: str, completion: Completion) -> dict[str, Any]:
        prompt = self._prompts[split, completion.prompt_id]
        cell = completion.cell
        measured = completion.measurements
        if (split, prompt.id) not in self._weighed:
            # Of another level's sample, where the store has it.
            measured = {key: one for key, one in measured.items() if key != UNSTEERED_LOGPROB}
        return {
            "prompt_id": prompt.id,
            "split": split,
            "category": prompt.category,
            "style": prompt.style,
            "prompt": well_formed(prompt.text),
            "seen": prompt.id in self._seen,
            "layer": cell.layer,
            "intervention": cell.intervention,
            "alpha": cell.alpha,
            "direction": cell.direction,
            "condition": cell.condition,
            "sample": completion.sample,
            "text": well_formed(completion.text),
            "finish_reason": completion.finish_reason,
            "char_length": len(completion.text),
            **measured,
        }


def weighed_prompts(plan: LevelPlan) -> set[tuple[str, str]]:
    """Splits and ids of the prompts whose completions the unsteered model weighs, if any."""
    settings = plan.config.probes
    if settings is None:
        return set()
    return {
        (split, prompt.id)
        for split in (settings.split, settings.benign_split)
        for prompt in plan.prompts[split][: settings.prompts]
    }


def judge_claim(
    plan: LevelPlan,
    scores: pd.DataFrame | ScoreTable,
    claim: str,
    target: Target,
    directions: Sequence[Mapping[str, Any]] = (),
) -> Verdict:
    """The verdict on one claim of the level.

    Args:
        directions: what a run's manifest tells of each learned direction.
    """
    claims: Mapping[str, ClaimSettings] = {name: plan.claim(name) for name in plan.config.claims}
    known: dict[int, DirectionEvidence] = {}
    if isinstance(claims[claim], DirectionIsReal):
        controls = tuple(
            judge_claim(plan, scores, "beats_controls", wanted)
            for wanted in control_targets(plan, target.layer)
        )
        known = {record["layer"]: DirectionEvidence.of(record, controls) for record in directions}
    return evaluate(
        claim,
        scores,
        plan.claim(claim),
        layer=target.layer,
        intervention=target.intervention,
        alpha=target.alpha,
        claims=claims,
        goal=target.goal,
        directions=known,
        choice=_layer_choice(plan, target),
    )


def _layer_choice(plan: LevelPlan, target: Target) -> LayerChoice:
    """How the layer of an operating point, or of the level's whole grid, was chosen."""
    for point in plan.confirmations:
        if Target.of(point.cell, point.goal) == target:
            return LayerChoice.of(point.choice)
    return plan.layer_choice


def judge_level(
    plan: LevelPlan, scores: pd.DataFrame, directions: Sequence[Mapping[str, Any]] = ()
) -> list[Verdict]:
    """Verdicts on all claims whose cells are complete, in the order of the level's file.

    Args:
        directions: what a run's manifest tells of each learned direction.
    """
    table = ScoreTable(scores)
    complete = {
        Cell(*named)
        for named in scores[["layer", "intervention", "alpha", "direction"]]
        .drop_duplicates()
        .itertuples(index=False, name=None)
    }
    return [
        judge_claim(plan, table, claim, target, directions)
        for claim in plan.config.claims
        for target in claim_targets(plan, claim)
        if complete.issuperset(required_cells(plan, plan.claim(claim), target))
    ]
