"""The layers of a level, screened without generating: would the cheap look have chosen the same?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steering_reliability.benign_costs import BENIGN
from steering_reliability.directions import Direction
from steering_reliability.errors import SteeringError
from steering_reliability.ladder.plan import LevelPlan
from steering_reliability.models.loaded import LoadedModel
from steering_reliability.results.atomic import write_json
from steering_reliability.screening import MIN_PROMPTS, screen

VERSION = 1


def screen_layers(
    plan: LevelPlan, model: LoadedModel, directions: Mapping[int, Direction], folder: Path
) -> list[dict[str, Any]]:
    """Rows of :func:`~steering_reliability.screening.screen`, best first; none if not asked for.

    Harmful prompts are those of the learning split that the directions have not seen.

    Args:
        plan: the level; ``decision.screen`` says how many prompts of each kind.
        model: the model in memory.
        directions: the learned direction by layer.
        folder: where what was screened before is kept.

    Raises:
        SteeringError: too few prompts.
    """
    wanted = plan.config.decision.screen if plan.config.decision else 0
    if not wanted:
        return []
    split = plan.config.direction.learn_from.split
    harmful = [prompt for prompt in plan.prompts.get(split, []) if prompt.id not in plan.seen]
    benign = plan.prompts.get(BENIGN, [])
    if min(len(harmful), len(benign)) < MIN_PROMPTS:
        raise SteeringError(
            f"{plan.config.path}: decision.screen: found {len(harmful)} unseen prompts of {split} "
            f"and {len(benign)} of {BENIGN}, expected at least {MIN_PROMPTS} of each; set it to 0"
        )
    harmful, benign = harmful[:wanted], benign[:wanted]
    alphas = [alpha for alpha in plan.alphas if alpha > 0]
    used = [directions[layer] for layer in plan.layers]
    identity = [
        VERSION,
        model.fingerprint,
        model.format.template_hash,
        [direction.hash for direction in used],
        [prompt.text for prompt in (*harmful, *benign)],
        alphas,
        plan.alpha_unit,
    ]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    path = folder / f"screen-{digest}.json"
    if not path.exists():
        table = screen(model, used, harmful, benign, alphas=alphas, alpha_unit=plan.alpha_unit)
        write_json(path, table.to_dict("records"))
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows
