"""Generation over a grid of steered cells.

Public entry: :func:`generate`. The engine knows nothing about splits, levels or claims.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steering_reliability.cells import Cell
from steering_reliability.completions import Completion
from steering_reliability.engine.requests import (
    Engine,
    GenerationSettings,
    Positions,
    Request,
    plan_requests,
)
from steering_reliability.errors import SteeringError
from steering_reliability.interventions import Directions
from steering_reliability.models.loaded import LoadedModel
from steering_reliability.prompts import Prompt

BACKENDS = ("slots", "lens")
DEFAULT_ALPHA_UNIT = 0.125


def make_engine(
    model: LoadedModel, settings: GenerationSettings, longest_prompt: int, backend: str = "slots"
) -> Engine:
    """The engine of that name.

    Args:
        model: the model to steer.
        settings: how to generate.
        longest_prompt: tokens of the longest prompt that will be submitted.
        backend: ``"slots"``, or ``"lens"`` for transformer-lens.

    Raises:
        SteeringError: there is no such backend, or it can't run this model.
    """
    if backend == "slots":
        from steering_reliability.engine.scheduler import SlotEngine

        return SlotEngine(model, settings, longest_prompt)
    if backend == "lens":
        from steering_reliability.engine.lens import LensEngine

        return LensEngine(model, settings)
    raise SteeringError(f"backend: found {backend!r}, expected one of {', '.join(BACKENDS)}")


def generate(
    model: LoadedModel,
    prompts: Sequence[Prompt],
    cells: Sequence[Cell],
    directions: Directions,
    *,
    max_new_tokens: int = 48,
    temperature: float = 0.0,
    top_p: float = 1.0,
    samples: int = 1,
    seed: int = 0,
    positions: Positions = "response",
    alpha_unit: float = DEFAULT_ALPHA_UNIT,
    slots: int | None = None,
    backend: str = "slots",
) -> list[Completion]:
    """Generate every prompt in every cell.

    Args:
        model: from :func:`steering_reliability.load_model`.
        prompts: what is asked.
        cells: where and how to steer; rows of different cells share a batch.
        directions: direction by (name, layer), such as ``{("learned", 12): direction}``.
        max_new_tokens: longest completion in tokens.
        temperature: 0 is greedy.
        top_p: nucleus mass when sampling.
        samples: completions per prompt and cell.
        seed: of the sampling noise, which all cells share.
        positions: ``"response"`` steers the last prompt token and every generated one,
            ``"all"`` every prompt token too.
        alpha_unit: one unit of alpha as a share of the layer's median residual norm. Levels
            take it from their file or the model's profile.
        slots: rows of a batch; the model profile's for this device by default.
        backend: ``"slots"`` or ``"lens"``.

    Returns:
        One completion per cell, prompt and sample, in that order.

    Raises:
        SteeringError: a prompt or a direction is something else, a direction is missing or of
            another width, a layer doesn't exist, or the context can't fit.
    """
    settings = GenerationSettings(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        samples=samples,
        seed=seed,
        positions=positions,
        slots=model.profile.slots.on(model.device.type) if slots is None else slots,
    )
    requests = plan_requests(
        model, prompts, cells, directions, settings, alpha_unit=alpha_unit, backend=backend
    )
    longest = max((len(request.tokens) for request in requests), default=1)
    engine = make_engine(model, settings, longest, backend)
    engine.submit({request.key: request for request in requests}.values())
    by_key: dict[str, Completion] = {}
    while engine.pending:
        by_key.update((completion.key, completion) for completion in engine.pump())
    return [label_completion(by_key[request.key], request) for request in requests]


def label_completion(completion: Completion, request: Request) -> Completion:
    """The completion as that request's own: the unsteered one stands for many cells."""
    return replace(
        completion, prompt_id=request.prompt_id, cell=request.cell, sample=request.sample
    )
