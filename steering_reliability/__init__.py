"""pytest for steering vectors: declare what steering must do, and have it checked.

The names below are the public interface; each is loaded when it is first used, so that
importing the package, as pytest does for its plugin, costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steering_reliability.cells import Cell as Cell
    from steering_reliability.completions import Completion as Completion
    from steering_reliability.directions import Direction as Direction
    from steering_reliability.directions import import_direction as import_direction
    from steering_reliability.directions import learn_direction as learn_direction
    from steering_reliability.directions import learn_directions as learn_directions
    from steering_reliability.directions import load_direction as load_direction
    from steering_reliability.directions import save_direction as save_direction
    from steering_reliability.engine import generate as generate
    from steering_reliability.errors import SteeringError as SteeringError
    from steering_reliability.log_odds import refusal_log_odds as refusal_log_odds
    from steering_reliability.models.loaded import LoadedModel as LoadedModel
    from steering_reliability.models.loaded import load_model as load_model
    from steering_reliability.prompts import Prompt as Prompt
    from steering_reliability.prompts import load_prompts as load_prompts
    from steering_reliability.scoring import Score as Score
    from steering_reliability.scoring import score as score
    from steering_reliability.screening import screen as screen

_HOMES = {
    "Cell": "cells",
    "Completion": "completions",
    "Direction": "directions",
    "LoadedModel": "models.loaded",
    "Prompt": "prompts",
    "Score": "scoring",
    "SteeringError": "errors",
    "generate": "engine",
    "import_direction": "directions",
    "learn_direction": "directions",
    "learn_directions": "directions",
    "load_direction": "directions",
    "load_model": "models.loaded",
    "load_prompts": "prompts",
    "refusal_log_odds": "log_odds",
    "save_direction": "directions",
    "score": "scoring",
    "screen": "screening",
}

__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
