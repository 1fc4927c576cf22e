"""Directions in the residual stream: learned from contrasts, their controls, and their files.

Torch is imported when something is learned or loaded, not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steering_reliability.directions.cache import cached_contrasts as cached_contrasts
    from steering_reliability.directions.cache import cached_directions as cached_directions
    from steering_reliability.directions.contrastive import DEFAULT_PAIRS as DEFAULT_PAIRS
    from steering_reliability.directions.contrastive import Contrasts as Contrasts
    from steering_reliability.directions.contrastive import collect_contrasts as collect_contrasts
    from steering_reliability.directions.contrastive import learn_direction as learn_direction
    from steering_reliability.directions.contrastive import learn_directions as learn_directions
    from steering_reliability.directions.controls import build_controls as build_controls
    from steering_reliability.directions.diagnostics import diagnose as diagnose
    from steering_reliability.directions.direction import Direction as Direction
    from steering_reliability.directions.formats import check_direction as check_direction
    from steering_reliability.directions.formats import load_direction as load_direction
    from steering_reliability.directions.formats import save_direction as save_direction
    from steering_reliability.directions.imported import import_direction as import_direction
    from steering_reliability.directions.placebo import PLACEBO_PAIRS as PLACEBO_PAIRS
    from steering_reliability.directions.placebo import benign_share as benign_share
    from steering_reliability.directions.placebo import compare_to_placebo as compare_to_placebo
    from steering_reliability.directions.wordings import OTHER_PAIRS as OTHER_PAIRS

_HOMES = {
    "DEFAULT_PAIRS": "contrastive",
    "Contrasts": "contrastive",
    "Direction": "direction",
    "OTHER_PAIRS": "wordings",
    "PLACEBO_PAIRS": "placebo",
    "benign_share": "placebo",
    "build_controls": "controls",
    "cached_contrasts": "cache",
    "cached_directions": "cache",
    "check_direction": "formats",
    "collect_contrasts": "contrastive",
    "compare_to_placebo": "placebo",
    "diagnose": "diagnostics",
    "import_direction": "imported",
    "learn_direction": "contrastive",
    "learn_directions": "contrastive",
    "load_direction": "formats",
    "save_direction": "formats",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
