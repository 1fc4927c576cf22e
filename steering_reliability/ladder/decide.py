"""What a level decides for those after it, and what it confirms of those before it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from steering_reliability.claims import Coherence
from steering_reliability.decisions import best_layer, confirm, operating_points
from steering_reliability.expectations import ScoreTable, Verdict
from steering_reliability.ladder.choices import FORMAT, profile_digest
from steering_reliability.ladder.index import LevelIndex
from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import LevelPlan
from steering_reliability.results.atomic import write_json, write_text


def decide(
    plan: LevelPlan,
    scores: pd.DataFrame,
    verdicts: Sequence[Verdict],
    model: dict[str, Any],
    origin: dict[str, Any],
) -> dict[str, Any] | None:
    """The record of what a complete level decides and confirms; ``None`` if it does neither.

    Args:
        plan: the level.
        scores: its scores frame, all cells complete.
        verdicts: its verdicts.
        model: what the index says of the model.
        origin: run id and date.

    Returns:
        ``confirmed`` (by goal, from ``decisions.confirm``) and ``layer`` (from
        ``decisions.best_layer``) or ``operating_points``, beside what tells a stale decision.
    """
    settings = plan.config.decision
    if settings is None and not plan.confirmations:
        return None
    record: dict[str, Any] = {
        "format": FORMAT,
        "level": plan.level,
        **origin,
        "model": {key: model[key] for key in ("source", "name", "fingerprint")}
        | {"n_layers": plan.facts.n_layers, "d_model": plan.facts.d_model},
        "profile": profile_digest(plan.profile),
        "provisional": plan.provisional,
    }
    table = ScoreTable(scores)
    if plan.confirmations:
        record["confirmed"] = _confirmed(plan, table)
    gate = plan.config.claims.get("coherence")
    coherence = gate if isinstance(gate, Coherence) else None
    if settings is not None and settings.chooses == "layer":
        record["layer"] = best_layer(
            table, verdicts, cost_weight=settings.cost_weight, coherence=coherence
        )
    elif settings is not None:
        points = operating_points(
            table, verdicts, cost_weight=settings.cost_weight, coherence=coherence
        )
        # A layer that was taken over is the best of those that the earlier level tried.
        if plan.layer_choice.tried > 1:
            for decided in points.values():
                if decided["chosen"]:
                    decided["chosen"] |= plan.layer_choice.to_dict()
        record["operating_points"] = points
    return record


def publish(paths: ArtifactPaths, record: dict[str, Any]) -> None:
    """Let later levels find a decision, also that nothing was chosen.

    Raises:
        SteeringError: the folder can't be written.
    """
    write_json(paths.decision(record["level"]), record)


def note_confirmations(paths: ArtifactPaths, plan: LevelPlan, index: LevelIndex) -> int:
    """Enter what was tried on the split kept for confirming into the ledger.

    Returns:
        How many different vectors were ever tried there.
    """
    if plan.config.confirm is None:
        return 0
    hashes = {entry["layer"]: entry["hash"] for entry in index.directions}
    known = paths.ledger.read_text(encoding="utf-8") if paths.ledger.exists() else ""
    lines = dict.fromkeys(known.splitlines())
    for point in plan.confirmations:
        entry = {
            "split": plan.config.confirm.split,
            "cell": point.cell.id,
            "goal": point.goal,
            "direction": hashes[point.cell.layer],
            "alpha_unit": plan.alpha_unit,
            "model": index.model["fingerprint"],
        }
        lines[json.dumps(entry, sort_keys=True)] = None
    write_text(paths.ledger, "".join(f"{line}\n" for line in lines))
    return len(lines)


def _confirmed(plan: LevelPlan, table: ScoreTable) -> dict[str, Any]:
    assert plan.config.confirm is not None
    found: dict[str, Any] = {}
    for point in plan.confirmations:
        # A default was never estimated, so there is no optimism to tell.
        choice = dict(point.choice) or {
            "layer": point.cell.layer,
            "intervention": point.cell.intervention,
            "alpha": point.cell.alpha,
            "goal": point.goal,
        }
        found[point.goal] = confirm(choice, table, split=plan.config.confirm.split)
    return found
