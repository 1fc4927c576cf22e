"""Levels and model profiles: YAML files, checked, with errors that name the key.

Needs pydantic and yaml, neither torch nor pandas: pytest collects with it.
"""

from __future__ import annotations

from steering_reliability.config.folder import find_levels
from steering_reliability.config.layers import LayersFrom, resolve_layers
from steering_reliability.config.level import LevelConfig, load_level
from steering_reliability.config.profile import ModelProfile, Slots, load_profile
from steering_reliability.config.sections import (
    ControlSettings,
    DirectionSettings,
    GenerationSettings,
    LearnFrom,
    PrefixPair,
    PromptSettings,
    SplitSource,
)

__all__ = [
    "ControlSettings",
    "DirectionSettings",
    "GenerationSettings",
    "LayersFrom",
    "LearnFrom",
    "LevelConfig",
    "ModelProfile",
    "PrefixPair",
    "PromptSettings",
    "Slots",
    "SplitSource",
    "find_levels",
    "load_level",
    "load_profile",
    "resolve_layers",
]
