"""What the engine's benchmarks generate: the grid of ``layer_test`` on the embedded model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import steering_reliability as sr
from steering_reliability.completions import Completion
from steering_reliability.directions import learn_directions
from steering_reliability.engine.requests import GenerationSettings, Request, plan_requests
from steering_reliability.engine.scheduler import SlotEngine
from steering_reliability.interventions import Directions
from steering_reliability.ladder.plan import LevelPlan, Overrides, plan_level
from steering_reliability.models.loaded import LoadedModel

LEVEL = Path(__file__).resolve().parents[1] / "experiments" / "configs" / "layer_test.yaml"


@dataclass(frozen=True)
class EngineRun:
    """What the engine generated.

    Attributes:
        done: completions by request key.
        seconds: from the first request to the last completion, prompts included.
        idle: share of slot-steps without a request while requests were waiting.
        idle_tail: the same share over the whole run, where the tail leaves slots empty.
    """

    done: dict[str, Completion]
    seconds: float
    idle: float
    idle_tail: float

    @property
    def rate(self) -> float:
        """Completions per second."""
        return len(self.done) / self.seconds

    @property
    def token_rate(self) -> float:
        """Generated tokens per second, ends of turn not counted."""
        return sum(len(c.token_ids) for c in self.done.values()) / self.seconds


class Workload:
    """The grid of ``layer_test`` on a model: prompts, directions, one request per completion."""

    def __init__(self, dtype: str = "float32", directions: Directions | None = None) -> None:
        self.plan: LevelPlan = plan_level(LEVEL, Overrides(dtype=dtype))
        self.model = sr.load_model("embedded", dtype=dtype)
        layers = list(self.plan.layers)
        self.directions: Directions = directions or {
            ("learned", layer): direction
            for layer, direction in learn_directions(self.model, self.plan.learning, layers).items()
        }
        self.prompts = [
            (split, prompt)
            for split in self.plan.config.grid_splits
            for prompt in self.plan.prompts[split]
        ]

    def settings(self, slots: int | None = None) -> GenerationSettings:
        """The level's, with another slot count."""
        chosen = self.plan.profile.slots.on(str(self.model.device)) if slots is None else slots
        return GenerationSettings(
            max_new_tokens=self.plan.config.generation.max_new_tokens, slots=chosen
        )

    def requests(
        self, cells: Sequence[sr.Cell], settings: GenerationSettings, n_prompts: int | None = None
    ) -> list[Request]:
        """Distinct requests, over prompts that are spread evenly over the splits."""
        step = 1 if n_prompts is None else max(1, len(self.prompts) // n_prompts)
        chosen = [prompt for _, prompt in self.prompts[::step]][:n_prompts]
        every = plan_requests(
            self.model,
            chosen,
            cells,
            self.directions,
            settings,
            alpha_unit=self.plan.alpha_unit,
        )
        distinct: dict[str, Request] = {}
        for request in every:
            distinct.setdefault(request.key, request)
        return list(distinct.values())


def run_engine(
    model: LoadedModel, settings: GenerationSettings, requests: Sequence[Request]
) -> EngineRun:
    """Generate all requests with an engine of their own."""
    engine = SlotEngine(model, settings, max(len(r.tokens) for r in requests))
    started = time.perf_counter()
    engine.submit(requests)
    done: dict[str, Completion] = {}
    idle = 0.0
    while engine.pending:
        if engine.pending >= settings.slots and engine.steps:
            idle = engine.idle_slot_steps / (engine.steps * settings.slots)
        done.update((completion.key, completion) for completion in engine.pump())
    seconds = time.perf_counter() - started
    return EngineRun(done, seconds, idle, engine.idle_slot_steps / (engine.steps * settings.slots))
