"""What a level decides for those after it, and what it runs again of those before it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from steering_reliability.cells import DEFAULT_CONDITION, Cell
from steering_reliability.claims import Coherence
from steering_reliability.decisions import (
    DECIDE_NOTHING,
    best_layer,
    confirm,
    operating_points,
    resampled_choices,
)
from steering_reliability.expectations import ScoreTable, Verdict
from steering_reliability.ladder.choices import FORMAT, profile_digest
from steering_reliability.ladder.index import LevelIndex
from steering_reliability.ladder.judge import judge_claim
from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import LevelPlan
from steering_reliability.ladder.targets import Target, claim_targets
from steering_reliability.resampling import DRAWS, resampled_tables
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
    if settings is not None:
        choices = _choices(plan, table, verdicts)
        # A layer that was taken over is the best of those that the earlier level tried.
        if settings.chooses == "operating_point" and plan.layer_choice.tried > 1:
            for decided in choices.values():
                if decided["chosen"]:
                    decided["chosen"] |= plan.layer_choice.to_dict()
        record |= choices if settings.chooses == "layer" else {"operating_points": choices}
    return record


def resample(
    plan: LevelPlan,
    scores: pd.DataFrame,
    verdicts: Sequence[Verdict],
    record: dict[str, Any] | None,
    draws: int = DRAWS,
) -> None:
    """Enter into a decision what the level would choose on other prompts of the same kind.

    Each draw of prompts is judged anew, so that whatever leaves a cell out does so there too;
    verdicts that tests came to by themselves stay as they are.

    Args:
        plan: the level.
        scores: its scores frame.
        verdicts: its verdicts.
        record: from ``decide``; each of its choices, if any, gets ``resamples``.
        draws: how many times prompts are drawn.
    """
    if record is None or plan.config.decision is None:
        return
    layer = {"layer": record["layer"]} if "layer" in record else {}
    decided = layer or record["operating_points"]
    own = [verdict for verdict in verdicts if verdict.claim not in plan.config.claims]
    asked = _asked_of_cells(plan)
    chosen: dict[str, list[dict[str, Any] | None]] = {name: [] for name in decided}
    for table in resampled_tables(_deciding_rows(scores, decided), draws):
        judged = [judge_claim(plan, table, claim, target) for claim, target in asked]
        for name, choice in _choices(plan, table, [*own, *judged]).items():
            chosen[name].append(choice["chosen"])
    for name, choice in decided.items():
        choice["resamples"] = resampled_choices(chosen[name])


def _choices(
    plan: LevelPlan, table: ScoreTable, verdicts: Sequence[Verdict]
) -> dict[str, dict[str, Any]]:
    """The level's choices by name: ``layer``, or the operating points by goal."""
    settings = plan.config.decision
    assert settings is not None
    gate = plan.config.claims.get("coherence")
    coherence = gate if isinstance(gate, Coherence) else None
    if settings.chooses == "layer":
        weight = settings.cost_weight
        return {"layer": best_layer(table, verdicts, cost_weight=weight, coherence=coherence)}
    return operating_points(table, verdicts, cost_weight=settings.cost_weight, coherence=coherence)


def _asked_of_cells(plan: LevelPlan) -> list[tuple[str, Target]]:
    """The claims that can leave a cell out: about one, or about the alphas of its layer."""
    return [
        (claim, target)
        for claim in plan.config.claims
        if claim not in DECIDE_NOTHING | {"direction_is_real"}
        for target in claim_targets(plan, claim)
        if target.layer is not None
    ]


def _deciding_rows(scores: pd.DataFrame, decided: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The rows under the level's own conditions, without cells that lack scores.

    A draw may leave out the very prompts that such a cell lacks.
    """
    rows = scores[scores["condition"] == DEFAULT_CONDITION]
    lacking = {cell for choice in decided.values() for cell in choice["left_out"]}
    if not lacking:
        return rows
    keys = ["layer", "intervention", "alpha"]
    ids = [Cell(*named).id for named in rows[keys].itertuples(index=False, name=None)]
    return rows[~pd.Series(ids, index=rows.index).isin(lacking)]


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
