"""What is asked of an engine: requests, each with the key of everything that determines it.

An engine sees token ids and resolved steering; it knows nothing about splits, levels or claims.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, get_args

from steering_reliability.cells import LEARNED, Cell
from steering_reliability.completions import Completion
from steering_reliability.errors import SteeringError
from steering_reliability.interventions import Directions, Steering, resolve_steering
from steering_reliability.models.loaded import LoadedModel
from steering_reliability.prompts import Prompt, check_are_prompts

# Raised when a change of the engine may change tokens, so that old completions aren't reused.
GENERATION_VERSION = 10

Positions = Literal["response", "all"]


@dataclass(frozen=True)
class GenerationSettings:
    """How completions are generated; every field is part of a completion's key.

    Attributes:
        max_new_tokens: longest completion in tokens.
        temperature: 0 is greedy.
        top_p: nucleus mass, 1 keeps every token.
        samples: completions per prompt and cell; more than 1 only when sampling.
        seed: of the sampling noise.
        positions: ``"response"`` steers the last prompt token and every generated one,
            ``"all"`` every prompt token too.
        slots: rows of a batch; fixed, since on some machines the batch size decides the last bit.
            A multiple of 8 keeps the number of threads from deciding it too.

    Raises:
        SteeringError: a value is out of its range.
    """

    max_new_tokens: int = 48
    temperature: float = 0.0
    top_p: float = 1.0
    samples: int = 1
    seed: int = 0
    positions: Positions = "response"
    slots: int = 128

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
            ("temperature", 0 <= self.temperature < float("inf"), "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "more than 0 and at most 1"),
            ("samples", self.samples >= 1, "1 or more"),
            ("positions", self.positions in get_args(Positions), "'response' or 'all'"),
            ("slots", self.slots >= 1, "1 or more"),
        ):
            if not holds:
                raise SteeringError(
                    f"generation.{name}: found {getattr(self, name)!r}, expected {expected}"
                )


@dataclass(frozen=True)
class Request:
    """One completion to be generated.

    Attributes:
        prompt_id: seeds the sampling noise, and labels the completion.
        tokens: the rendered prompt.
        cell: the cell it is generated for.
        steering: the cell's steering with all units resolved; ``None`` leaves the model alone.
        sample: index of the sample.
        key: hash of everything that determines the completion.
    """

    prompt_id: str
    tokens: tuple[int, ...]
    cell: Cell
    steering: Steering | None
    sample: int
    key: str


class Engine(Protocol):
    """What the slot engine and the transformer-lens backend have in common."""

    def submit(self, requests: Iterable[Request]) -> None:
        """Queue requests; their completions come in about this order."""

    def pump(self) -> list[Completion]:
        """Work for one step, and return what was finished by it."""

    @property
    def pending(self) -> int:
        """Requests not finished yet."""

    @property
    def slots(self) -> int:
        """Rows of a batch now; fewer than the settings say once memory ran out."""


def plan_requests(
    model: LoadedModel,
    prompts: Sequence[Prompt],
    cells: Sequence[Cell],
    directions: Directions,
    settings: GenerationSettings,
    *,
    alpha_unit: float,
    backend: str = "slots",
    again: str = "",
) -> list[Request]:
    """All requests of a grid: cell by cell, then prompt by prompt, then by sample.

    Unsteered cells of different layers and interventions give requests with one and the same
    key: they are one completion.

    Args:
        again: why completions that may be stored are to be made once more; it sets their keys
            apart, and nothing else.

    Raises:
        SteeringError: a prompt is none, a layer doesn't exist, a direction is missing, or was
            made for another width.
    """
    check_are_prompts(prompts)
    encoded = [tuple(model.encode(prompt.text)) for prompt in prompts]
    common = _common_identity(model, settings, backend) | ({"again": again} if again else {})
    requests = []
    for cell in cells:
        steering = checked_steering(model, cell, directions, alpha_unit)
        identity = _steering_identity(cell, steering, directions)
        for prompt, tokens in zip(prompts, encoded, strict=True):
            for sample in range(settings.samples):
                # Noise is keyed by the prompt's id; greedy text doesn't depend on it.
                noise = [prompt.id, sample] if settings.temperature > 0 else None
                key = _digest({**common, **identity, "tokens": tokens, "noise": noise})
                requests.append(Request(prompt.id, tokens, cell, steering, sample, key))
    return requests


def checked_steering(
    model: LoadedModel, cell: Cell, directions: Directions, alpha_unit: float
) -> Steering | None:
    """What a cell does to this model, or ``None`` where it leaves it unsteered.

    Raises:
        SteeringError: the layer doesn't exist, the direction is missing, or was made for another
            width.
    """
    _check_layer(cell, model)
    steering = resolve_steering(cell, directions, alpha_unit)
    _check_width(cell, steering, model)
    return steering


def _common_identity(
    model: LoadedModel, settings: GenerationSettings, backend: str
) -> dict[str, Any]:
    generation = asdict(settings)
    del generation["samples"]
    if settings.temperature == 0:
        # Greedy completions are the same under every seed and nucleus.
        del generation["seed"], generation["top_p"]
    return {
        "version": GENERATION_VERSION,
        "backend": backend,
        "model": model.fingerprint,
        "template": model.format.template_hash,
        "openings": [model.profile.refusal_openings, model.profile.compliance_openings],
        "dtype": str(model.dtype),
        "device": model.device.type,
        "generation": generation,
    }


def _steering_identity(
    cell: Cell, steering: Steering | None, directions: Directions
) -> dict[str, Any]:
    if steering is None:
        return {"steering": None}
    hashes = [directions[(cell.direction, cell.layer)].hash]
    if steering.measured is not None:
        hashes.append(directions[(LEARNED, cell.layer)].hash)
    where_and_how = [steering.layer, steering.intervention, steering.coefficient]
    return {"steering": [*where_and_how, *hashes]}


def _check_layer(cell: Cell, model: LoadedModel) -> None:
    if cell.layer >= model.n_layers:
        raise SteeringError(
            f"cell {cell.id}: layer {cell.layer} does not exist, expected 0 to "
            f"{model.n_layers - 1} for this model of {model.n_layers} layers"
        )


def _check_width(cell: Cell, steering: Steering | None, model: LoadedModel) -> None:
    if steering is not None and steering.vector.shape != (model.d_model,):
        raise SteeringError(
            f"cell {cell.id}: the direction has shape {tuple(steering.vector.shape)}, expected "
            f"({model.d_model},), the width of this model; learn it on this model"
        )


def _digest(identity: dict[str, Any]) -> str:
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
