"""The directions of a level: learned or loaded, their controls, and what is said of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from steering_reliability.cells import LEARNED
from steering_reliability.directions import (
    OTHER_PAIRS,
    PLACEBO_PAIRS,
    Contrasts,
    Direction,
    benign_share,
    build_controls,
    cached_contrasts,
    compare_to_placebo,
    diagnose,
    load_direction,
    save_direction,
)
from steering_reliability.directions.diagnostics import cosine
from steering_reliability.interventions import Directions
from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import LevelPlan
from steering_reliability.ladder.screened import screen_layers
from steering_reliability.models.loaded import LoadedModel


@dataclass(frozen=True)
class LevelDirections:
    """What a level steers with.

    Attributes:
        learned: by layer.
        controls: by (name, layer).
        relearned: by (condition, layer), where a condition learns from a part or other pairs.
        diagnostics: numbers that describe the learned direction, by layer.
        screen: the layers as screened without generating, best first.
        contrasts: what the learned direction was learned from, by layer; none where it was loaded.
    """

    learned: dict[int, Direction]
    controls: Directions
    relearned: Directions
    diagnostics: Mapping[int, dict[str, float]]
    screen: list[dict[str, Any]]
    contrasts: Mapping[int, Contrasts] = field(default_factory=dict)

    def under(self, condition: str) -> Directions:
        """Directions by (name, layer), as a condition has them."""
        named = {(LEARNED, layer): direction for layer, direction in self.learned.items()}
        other = {
            (LEARNED, layer): direction
            for (name, layer), direction in self.relearned.items()
            if name == condition
        }
        return {**named, **self.controls, **other}

    def describe(self) -> list[dict[str, Any]]:
        """What the report tells of each learned direction."""
        return [
            {**direction.describe(), "diagnostics": self.diagnostics.get(layer, {})}
            for layer, direction in self.learned.items()
        ]

    def describe_others(self) -> list[dict[str, Any]]:
        """The same of controls, and of directions that were learned from a part."""
        controls = [
            _record(name, layer, control, control.cosine_with_learned)
            for (name, layer), control in self.controls.items()
        ]
        return controls + [
            _record(name, layer, other, cosine(other.vector, self.learned[layer].vector))
            for (name, layer), other in self.relearned.items()
        ]


def find_directions(plan: LevelPlan, model: LoadedModel, paths: ArtifactPaths) -> LevelDirections:
    """Learn or load a level's directions, and keep them where other levels find them.

    Raises:
        SteeringError: a direction is noise, its file doesn't fit, or a control can't be made.
    """
    contrasts: dict[int, Contrasts] = {}
    if plan.direction_files:
        learned = {
            layer: load_direction(file, model, layer=layer)
            for layer, file in plan.direction_files.items()
        }
    else:
        contrasts = _learn(plan, model, paths)
        learned = {layer: contrast.direction() for layer, contrast in contrasts.items()}
    for direction in learned.values():
        path = paths.direction(direction.hash)
        if not path.exists():
            save_direction(direction, path)
    return LevelDirections(
        learned,
        _controls(plan, learned, contrasts),
        _relearned(plan, model, paths, contrasts),
        _diagnostics(plan, model, paths, learned, contrasts),
        screen_layers(plan, model, learned, paths.directions),
        contrasts,
    )


def _learn(plan: LevelPlan, model: LoadedModel, paths: ArtifactPaths) -> dict[int, Contrasts]:
    settings = plan.config.direction
    layers = sorted({cell.layer for cell in plan.splits_of})
    return cached_contrasts(
        paths.directions, model, plan.learning, layers, pairs=_pairs(plan), at=settings.at
    )


def _pairs(plan: LevelPlan) -> list[tuple[str, str]] | None:
    pairs = plan.config.direction.pairs
    return None if pairs is None else [(pair.refusal, pair.compliance) for pair in pairs]


def _controls(
    plan: LevelPlan, learned: Mapping[int, Direction], contrasts: Mapping[int, Contrasts]
) -> Directions:
    names: dict[int, dict[str, None]] = {layer: {} for layer in learned}
    for cell in plan.splits_of:
        if cell.direction != LEARNED:
            names[cell.layer][cell.direction] = None
    return {
        (name, layer): control
        for layer, direction in learned.items()
        for name, control in build_controls(direction, names[layer], contrasts.get(layer)).items()
    }


def _relearned(
    plan: LevelPlan,
    model: LoadedModel,
    paths: ArtifactPaths,
    contrasts: Mapping[int, Contrasts],
) -> Directions:
    found: dict[tuple[str, int], Direction] = {}
    for name, condition in plan.conditions.items():
        layers = sorted({cell.layer for cell in plan.splits_of if cell.condition == name})
        if condition.half is not None:
            for layer in layers:
                found[name, layer] = contrasts[layer].half(condition.half).direction()
        elif condition.other_pairs and layers:
            other = cached_contrasts(
                paths.directions,
                model,
                plan.learning,
                layers,
                pairs=_other_pairs(plan),
                at=plan.config.direction.at,
            )
            for layer in layers:
                # The level's unit of alpha, so that only the way of the step is another one.
                unit = contrasts[layer].residual_norm
                found[name, layer] = replace(other[layer], residual_norm=unit).direction()
    return found


def _other_pairs(plan: LevelPlan) -> Sequence[tuple[str, str]]:
    given = plan.config.sanity and plan.config.sanity.prefix_pairs
    return [(pair.refusal, pair.compliance) for pair in given] if given else OTHER_PAIRS


def _diagnostics(
    plan: LevelPlan,
    model: LoadedModel,
    paths: ArtifactPaths,
    learned: Mapping[int, Direction],
    contrasts: Mapping[int, Contrasts],
) -> dict[int, dict[str, float]]:
    found = {layer: diagnose(c.differences, c.midpoints) for layer, c in contrasts.items()}
    layers = list(learned)
    if plan.placebo:
        placebo = cached_contrasts(
            paths.directions,
            model,
            plan.placebo,
            layers,
            pairs=plan.config.direction.placebo or PLACEBO_PAIRS,
        )
        for layer, direction in learned.items():
            against = placebo[layer].differences
            found.setdefault(layer, {}).update(
                compare_to_placebo(direction.halved_agreement_low, against, len(direction.pairs))
            )
    if plan.benign_contrast and contrasts:
        benign = cached_contrasts(
            paths.directions, model, plan.benign_contrast, layers, pairs=_pairs(plan)
        )
        for layer, direction in learned.items():
            share = benign_share(direction.vector, benign[layer].differences)
            found[layer]["benign_share"] = share
    # Only JSON's numbers: what could not be compared is left out.
    return {
        layer: {name: value for name, value in numbers.items() if math.isfinite(value)}
        for layer, numbers in found.items()
    }


def _record(
    name: str, layer: int, direction: Direction, cosine_with_learned: float | None
) -> dict[str, Any]:
    return {
        "name": name,
        "layer": layer,
        "hash": direction.hash,
        "cosine_with_learned": cosine_with_learned,
    }
