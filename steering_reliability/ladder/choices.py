"""What earlier levels decided: ``artifacts/decisions``, read while a level is planned.

A level whose predecessor chose no layer runs on the one that it screened first; without a screen,
or a decision that can be used, on its file's defaults. What it finds is then provisional.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from steering_reliability.cells import GOALS, Cell, Goal
from steering_reliability.config import LayersFrom, LevelConfig, ModelProfile
from steering_reliability.config import resolve_layers as layers_in_model
from steering_reliability.config.sections import ConfirmSettings
from steering_reliability.layer_choices import NAMED, LayerChoice
from steering_reliability.models.sources import ModelFacts

# 2: decisions say of how many layers theirs is the best. 3: breaking the text lowers no refusal.
# 4: what other prompts would choose is judged anew, and may be nothing.
FORMAT = 4


@dataclass(frozen=True)
class Layers:
    """The layers of a level's grid, and where they come from.

    Attributes:
        indices: layer indices.
        note: which and why, for the header; empty where the file names them itself.
        provisional: taken by default, or from a decision that is provisional itself.
        fingerprint: of the model that the decision was made on; empty where there is none.
        choice: how the decision came by its layer.
    """

    indices: tuple[int, ...]
    note: str = ""
    provisional: bool = False
    fingerprint: str = ""
    choice: LayerChoice = NAMED


@dataclass(frozen=True)
class Confirmation:
    """An operating point to be run on prompts that had no part in its choice.

    Attributes:
        cell: the steered cell.
        goal: what it was chosen for.
        choice: the record of the choice; empty where the cell is the file's default.
    """

    cell: Cell
    goal: Goal
    choice: Mapping[str, Any]


@dataclass(frozen=True)
class Confirmations:
    """What a level confirms, with the same ``note``, ``provisional`` and ``fingerprint``."""

    points: tuple[Confirmation, ...] = ()
    note: str = ""
    provisional: bool = False
    fingerprint: str = ""


class _UnusableError(Exception):
    """A decision that can't be used, and why."""


def profile_digest(profile: ModelProfile) -> str:
    """16 hex digits of how a model is spoken to and steered, by which stale decisions show."""
    settings = profile.model_dump(mode="json", exclude={"slots", "dtype"})
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def choose_layers(
    config: LevelConfig, profile: ModelProfile, facts: ModelFacts, folder: Path | None
) -> Layers:
    """The layers that the level's file names, or those that it takes from a decision.

    Args:
        config: the level.
        profile: the model's settings.
        facts: the model's number of layers and width.
        folder: where decisions are; ``None`` where there are none.
    """
    default = tuple(config.resolve_layers(facts.n_layers))
    if not isinstance(config.layers, LayersFrom):
        return Layers(default)
    level = config.layers.level
    try:
        record = _read(folder, level, profile, facts)
        chosen = _chosen_layer(record)
        if chosen is None:
            return _screened(record, facts)
    except _UnusableError as problem:
        note = f"layer {_listed(default)} by default: {problem}"
        return Layers(default, f"{note}; provisional, {_remedy(level)}", provisional=True)
    note = f"layer {chosen['layer']}, decided by {level}: {_reason(record, 'layer')}"
    provisional = bool(record["provisional"])
    note += "; that decision is provisional" * provisional
    fingerprint = record["model"]["fingerprint"]
    return Layers((int(chosen["layer"]),), note, provisional, fingerprint, LayerChoice.of(chosen))


def choose_confirmations(
    config: LevelConfig, profile: ModelProfile, facts: ModelFacts, folder: Path | None
) -> Confirmations:
    """The operating points that the level confirms, from a decision or by default."""
    settings = config.confirm
    if settings is None:
        return Confirmations()
    default = _default_point(settings, config, facts)
    try:
        record = _read(folder, settings.level, profile, facts)
        points = _chosen_points(record)
    except _UnusableError as problem:
        note = (
            f"{default.cell.id} is run on fresh prompts, {settings.split}, by default: {problem}; "
            f"provisional, run {settings.level} first"
        )
        return Confirmations((default,), note, provisional=True)
    named = " and ".join(f"{point.cell.id} (to {point.goal} refusal)" for point in points)
    verb = "is" if len(points) == 1 else "are"
    note = (
        f"{named}, chosen by {settings.level}, {verb} run again on fresh prompts, {settings.split}"
    )
    provisional = bool(record["provisional"])
    note += "; that choice is provisional" * provisional
    if default.goal not in {point.goal for point in points}:
        points = (*points, default)
        note += (
            f"; it chose no cell to {default.goal} refusal, so {default.cell.id} is run by default"
        )
        provisional = True
    return Confirmations(points, note, provisional, record["model"]["fingerprint"])


def _default_point(
    settings: ConfirmSettings, config: LevelConfig, facts: ModelFacts
) -> Confirmation:
    default = settings.default
    where = f"{config.path or config.level}: confirm.default.layer"
    layer = layers_in_model([default.layer], facts.n_layers, where=where)[0]
    cell = Cell(layer, default.intervention, default.alpha)
    return Confirmation(cell, cell.aim, {})


def _read(
    folder: Path | None, level: str, profile: ModelProfile, facts: ModelFacts
) -> dict[str, Any]:
    """A decision that fits this model.

    Raises:
        _UnusableError: there is none, it is damaged, or it was made on another model.
    """
    path = (folder or Path()) / f"{level}.json"
    if folder is None or not path.exists():
        raise _UnusableError(f"{level} has decided nothing yet")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = record["format"]
        model = record["model"]
        same = (model["n_layers"], model["d_model"]) == (facts.n_layers, facts.d_model)
        same &= record["profile"] == profile_digest(profile)
        name, _ = str(model["name"]), (record["provisional"], model["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise _UnusableError(f"{path} is damaged ({reason})") from error
    if found != FORMAT:
        raise _UnusableError(f"{path} is of format {found}, expected {FORMAT}")
    if not same:
        settings = ", with other settings" if name == profile.name else ""
        raise _UnusableError(
            f"{path} is stale: it was decided on model {name!r}{settings}, not on {profile.name!r}"
        )
    return cast("dict[str, Any]", record)


def _chosen_layer(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    decided = record.get("layer") or (record.get("operating_points") or {}).get("raise") or {}
    chosen = decided.get("chosen")
    if chosen is None:
        return None
    if not isinstance(chosen, Mapping) or not isinstance(chosen.get("layer"), int):
        raise _UnusableError(f"the decision of {record['level']} is damaged")
    _check_choice(record, chosen)
    return chosen


def _screened(record: Mapping[str, Any], facts: ModelFacts) -> Layers:
    """The layer that a level screened first: on this model, and on prompts that decide nothing."""
    level, screen = record["level"], record.get("screen")
    rows = screen if isinstance(screen, list) else []
    # Best first, a row for each layer and alpha.
    layers: list[Any] = [row.get("layer") if isinstance(row, Mapping) else None for row in rows]
    known = [int(layer) for layer in layers if layer in range(facts.n_layers)]
    if not known or len(known) < len(layers):
        raise _UnusableError(f"{level} has chosen no layer")
    layer, tried = known[0], len({*known})
    note = f"layer {layer}, the best of {tried} by the screen of {level}, which chose none"
    return Layers(
        (layer,),
        f"{note}; provisional, name another with --steer-layers",
        provisional=True,
        fingerprint=record["model"]["fingerprint"],
        choice=LayerChoice(tried),
    )


def _chosen_points(record: Mapping[str, Any]) -> tuple[Confirmation, ...]:
    points = []
    for goal in GOALS:
        chosen = ((record.get("operating_points") or {}).get(goal) or {}).get("chosen")
        if chosen:
            try:
                cell = Cell(chosen["layer"], chosen["intervention"], chosen["alpha"])
            except (KeyError, TypeError, ValueError) as error:
                raise _UnusableError(f"the decision of {record['level']} is damaged") from error
            _check_choice(record, chosen)
            points.append(Confirmation(cell, goal, chosen))
    if not points:
        raise _UnusableError(f"{record['level']} has chosen no operating point")
    return tuple(points)


def _check_choice(record: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
    tried, elsewhere = chosen.get("layers_tried", 1), chosen.get("elsewhere_p")
    if not (isinstance(tried, int) and tried >= 1 and isinstance(elsewhere, float | int | None)):
        raise _UnusableError(f"the decision of {record['level']} is damaged")


def _reason(record: Mapping[str, Any], key: str) -> str:
    decided = record.get(key) or (record.get("operating_points") or {}).get("raise") or {}
    return str(decided.get("reason", "no reason given"))


def _remedy(level: str) -> str:
    return f"run {level} first or name a layer with --steer-layers"


def _listed(layers: tuple[int, ...]) -> str:
    return ", ".join(map(str, layers))
