"""What one section of a level names in another: splits, alphas, points, texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steering_reliability.config.reading import as_written, wrong
from steering_reliability.config.sections import ProbeSettings, PromptBaseline, SanitySettings

if TYPE_CHECKING:
    from steering_reliability.config.level import LevelConfig


def check_sections(level: LevelConfig) -> None:
    """Raise for the first thing that a section names and the level lacks."""
    if level.uses_learn_from:
        _check_split(level, "direction.learn_from.split", level.direction.learn_from.split)
    _check_controls(level)
    if level.confirm is not None:
        _check_split(level, "confirm.split", level.confirm.split)
        if not level.grid_splits:
            raise wrong(level.confirm.split, "another split for the grid", key="confirm.split")
    if level.prompt_baseline is not None:
        _check_baseline(level, level.prompt_baseline)
    if level.probes is not None:
        _check_probes(level, level.probes)
    if level.sanity is not None:
        _check_sanity(level, level.sanity)
    _check_claims(level)


def _check_controls(level: LevelConfig) -> None:
    controls = level.controls
    if controls.names:
        _check_split(level, "controls.split", controls.split)
    for alpha in controls.alphas or ():
        _check_alpha(level, "controls.alphas", alpha)
    for alpha in controls.ablate_alphas:
        _check_alpha(level, "controls.ablate_alphas", alpha)
    if controls.ablate_alphas and "ablate" not in level.interventions:
        raise wrong(
            as_written(controls.ablate_alphas),
            "none, since the level does not ablate; add ablate to the interventions",
            key="controls.ablate_alphas",
        )
    if controls.ablate_alphas and not controls.random:
        raise wrong(
            controls.random,
            "1 or more with ablate_alphas, which only random directions control",
            key="controls.random",
        )
    if controls.shuffled and level.direction.file is not None:
        raise wrong(
            controls.shuffled,
            "0 with direction.file, which does not tell what could be shuffled",
            key="controls.shuffled",
        )


def _check_baseline(level: LevelConfig, baseline: PromptBaseline) -> None:
    for split in baseline.splits:
        _check_grid_split(level, "prompt_baseline.splits", split)


def _check_probes(level: LevelConfig, probes: ProbeSettings) -> None:
    _check_grid_split(level, "probes.split", probes.split)
    _check_grid_split(level, "probes.benign_split", probes.benign_split)
    if level.generation.positions != "response":
        raise wrong(
            level.generation.positions,
            "response with probes, which steer no earlier token; leave probes out",
            key="generation.positions",
        )


def _check_sanity(level: LevelConfig, sanity: SanitySettings) -> None:
    _check_split(level, "sanity.split", sanity.split)
    if level.confirm is None:
        raise wrong("no confirm", "an operating point to check, see confirm", key="sanity")
    own = {text for pair in level.direction.pairs or () for text in (pair.refusal, pair.compliance)}
    for pair in sanity.prefix_pairs or ():
        for text in (pair.refusal, pair.compliance):
            if text in own:
                expected = "another text than those of direction.pairs"
                raise wrong(text, expected, key="sanity.prefix_pairs")


def _check_claims(level: LevelConfig) -> None:
    for claim, settings in level.claims.items():
        for key, value in settings:
            if key == "split" or key.endswith("_split"):
                _check_split(level, f"claims.{claim}.{key}", value)
            elif key in ("alpha", "alphas") and value is not None:
                for alpha in [value] if key == "alpha" else value:
                    _check_alpha(level, f"claims.{claim}.{key}", alpha)


def _check_split(level: LevelConfig, key: str, split: str) -> None:
    if split not in level.prompts.splits:
        known = ", ".join(level.prompts.splits)
        raise wrong(split, f"a split of this level: {known}", key=key)


def _check_grid_split(level: LevelConfig, key: str, split: str) -> None:
    _check_split(level, key, split)
    if split not in level.grid_splits:
        raise wrong(split, f"a split of the grid: {', '.join(level.grid_splits)}", key=key)


def _check_alpha(level: LevelConfig, key: str, alpha: float) -> None:
    if alpha not in level.alphas:
        known = ", ".join(f"{known:g}" for known in level.alphas)
        raise wrong(as_written(alpha), f"an alpha of this level: {known}", key=key)
