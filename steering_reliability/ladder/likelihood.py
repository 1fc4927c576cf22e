"""How likely the unsteered model finds what cells wrote: of a sample, kept with the completions.

Steering that breaks a model makes text that the model itself would not write; text that loops it
finds likely. So the number describes, and the rules of ``scoring/coherence.py`` decide without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from steering_reliability.cells import Cell
from steering_reliability.completions import UNSTEERED_LOGPROB
from steering_reliability.directions.residuals import Continued
from steering_reliability.engine.forced import unsteered_logprobs
from steering_reliability.engine.requests import Request
from steering_reliability.ladder.index import LevelIndex
from steering_reliability.ladder.judge import weighed_prompts
from steering_reliability.ladder.plan import LevelPlan
from steering_reliability.models.loaded import LoadedModel
from steering_reliability.results.records import StoredCompletion


def weigh(
    plan: LevelPlan,
    model: LoadedModel,
    index: LevelIndex,
    requests: Mapping[str, Request],
    done: Mapping[str, StoredCompletion],
    cells: Iterable[Cell],
) -> list[StoredCompletion]:
    """Those completions of the sample that had no `UNSTEERED_LOGPROB`, with it.

    The sample is that of the level's probes: of each of their two splits the first prompts, once
    per cell of the grid. A completion without a token has no likelihood.

    Args:
        plan: the level.
        model: the model in memory.
        index: which completion is whose.
        requests: by key.
        done: complete cells' completions by key.
        cells: cells that are complete.
    """
    sample = weighed_prompts(plan)
    if not sample:
        return []
    by_prompt: dict[tuple[int, ...], dict[str, StoredCompletion]] = {}
    for cell in cells:
        if not cell.in_grid:
            continue
        for split, prompt_id, number, key in index.rows(cell):
            one = done[key]
            lacking = one.token_ids and UNSTEERED_LOGPROB not in one.measurements
            if lacking and number == 0 and (split, prompt_id) in sample:
                by_prompt.setdefault(tuple(requests[key].tokens), {})[key] = one
    texts = [
        Continued(list(prompt), [list(one.token_ids) for one in group.values()])
        for prompt, group in by_prompt.items()
    ]
    return [
        replace(one, measurements={**one.measurements, UNSTEERED_LOGPROB: logprob})
        for group, logprobs in zip(
            by_prompt.values(), unsteered_logprobs(model, texts), strict=True
        )
        for one, logprob in zip(group.values(), logprobs, strict=True)
    ]
