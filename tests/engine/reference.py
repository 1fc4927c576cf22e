"""What both backends are tried on, and steering in its plainest form to check them against.

The plain form is transformers alone: one prompt at a time, hooks on the decoder's own blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from steering_reliability.cells import Cell
from steering_reliability.completions import Completion
from steering_reliability.directions.direction import Direction
from steering_reliability.engine import make_engine
from steering_reliability.engine.requests import Engine, GenerationSettings, Request, plan_requests
from steering_reliability.interventions import Directions, Steering, resolve_steering
from steering_reliability.models.loaded import LoadedModel
from steering_reliability.prompts import Prompt

ALPHA_UNIT = 0.125
NEAR_TIE = 1e-3

PROMPTS = [
    Prompt(id="short", text="Hi"),
    Prompt(id="long", text="What is it? " * 3),
    Prompt(id="middle", text="Name a bird"),
]
BASELINE = Cell(0, "add", 0)
STEERED = [
    Cell(0, "add", 4),
    Cell(2, "add", -8),
    Cell(1, "ablate", 1),
    Cell(0, "ablate", 4),
    Cell(0, "ablate", 4, "random-1"),
]


@torch.inference_mode()
def logits_within(
    hf_model: Any, within: Callable[[Any], AbstractContextManager[None]]
) -> tuple[torch.Tensor, torch.Tensor, list[torch.nn.Module]]:
    """A model's logits without and within a context, and the modules that it replaces."""
    ids = torch.arange(12).view(2, 6)
    without = hf_model(ids).logits
    with within(hf_model):
        replaced = [module for module in hf_model.modules() if "forward" in vars(module)]
        return without, hf_model(ids).logits, replaced


def random_directions(model: LoadedModel, residual_norm: float = 8.0) -> Directions:
    """A random unit direction per layer, and one more to control it.

    With norm 8 and unit 1/8, alpha is the coefficient.
    """
    generator = torch.Generator().manual_seed(7)
    directions = {}
    for name in ("learned", "random-1"):
        for layer in range(model.n_layers):
            vector = torch.randn(model.d_model, generator=generator)
            unit = vector / vector.norm()
            directions[name, layer] = Direction(unit, layer, 1.0, residual_norm)
    return directions


@contextmanager
def steered(model: LoadedModel, steering: Steering | None, start: int = 0) -> Iterator[None]:
    """Steer positions from ``start`` on, counted over all forwards within the context."""
    if steering is None:
        yield
        return
    seen = 0
    v = steering.vector

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        nonlocal seen
        h = output[0] if isinstance(output, tuple) else output
        rows = []
        for position in range(h.shape[1]):
            x = h[:, position]
            if seen + position >= start:
                if steering.intervention == "add":
                    x = x + steering.coefficient * v
                elif steering.measured is None:
                    x = x - steering.coefficient * (x @ v)[:, None] * v
                else:
                    length = steering.coefficient * (x @ steering.measured).abs()
                    x = x - length[:, None] * (x @ v).sign()[:, None] * v
            rows.append(x)
        seen += h.shape[1]
        changed = torch.stack(rows, dim=1)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = model.blocks[steering.layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def first_steered(positions: str, n_prompt: int) -> int:
    return 0 if positions == "all" else n_prompt - 1


@torch.inference_mode()
def next_logits(
    model: LoadedModel,
    prompt: Sequence[int],
    generated: Sequence[int],
    steering: Steering | None,
    positions: str,
) -> torch.Tensor:
    """Logits ``[vocabulary]`` after a prompt and the tokens generated so far."""
    ids = torch.tensor([[*prompt, *generated]])
    with steered(model, steering, first_steered(positions, len(prompt))):
        return model.hf_model(input_ids=ids, use_cache=False).logits[0, -1]


@torch.inference_mode()
def transformers_generate(
    model: LoadedModel, prompt: Sequence[int], steering: Steering | None, positions: str, n: int
) -> tuple[int, ...]:
    """Greedy tokens of transformers' own ``generate``, up to the first end of turn."""
    ends = model.end_token_ids
    ids = torch.tensor([list(prompt)])
    with steered(model, steering, first_steered(positions, len(prompt))):
        output = model.hf_model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n,
            do_sample=False,
            eos_token_id=sorted(ends),
            pad_token_id=min(ends),
        )
    tokens = output[0, len(prompt) :].tolist()
    end = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tuple(tokens[:end])


def assert_same_greedy(
    model: LoadedModel,
    prompts: Sequence[Prompt],
    directions: Directions,
    positions: str,
    found: Sequence[Completion],
    expected: Sequence[Completion],
) -> None:
    """Equal tokens, or a near tie of the top two logits where they first differ."""
    by_id = {prompt.id: prompt for prompt in prompts}
    assert len(found) == len(expected) > 0
    for left, right in zip(found, expected, strict=True):
        assert (left.prompt_id, left.cell, left.sample) == (
            right.prompt_id,
            right.cell,
            right.sample,
        )
        if left.token_ids == right.token_ids:
            assert left.finish_reason == right.finish_reason
            continue
        assert_near_tie(
            model, by_id[left.prompt_id], left.cell, directions, positions, left, right.token_ids
        )


def assert_near_tie(
    model: LoadedModel,
    prompt: Prompt,
    cell: Cell,
    directions: Directions,
    positions: str,
    completion: Completion,
    other: Sequence[int],
) -> None:
    pairs = zip(completion.token_ids, other, strict=False)
    same = next(
        (i for i, (a, b) in enumerate(pairs) if a != b), min(len(completion.token_ids), len(other))
    )
    steering = resolve_steering(cell, directions, ALPHA_UNIT)
    logits = next_logits(
        model, model.encode(prompt.text), completion.token_ids[:same], steering, positions
    )
    top = logits.topk(2).values
    assert float(top[0] - top[1]) < NEAR_TIE, (prompt.id, cell.id, same, completion.token_ids)


def run(
    model: LoadedModel, requests: Sequence[Request], given_settings: GenerationSettings
) -> dict[str, Completion]:
    """Completions by key, from an engine of their own."""
    longest = max(len(request.tokens) for request in requests)
    engine = make_engine(model, given_settings, longest)
    engine.submit(requests)
    return drain(engine)


def drain(engine: Engine) -> dict[str, Completion]:
    done: dict[str, Completion] = {}
    while engine.pending:
        done.update((completion.key, completion) for completion in engine.pump())
    return done


def plan(
    model: LoadedModel,
    cells: Sequence[Cell],
    given_settings: GenerationSettings,
    prompts: Sequence[Prompt] = PROMPTS,
    directions: Directions | None = None,
) -> list[Request]:
    """One request per key."""
    requests = plan_requests(
        model,
        prompts,
        cells,
        random_directions(model) if directions is None else directions,
        given_settings,
        alpha_unit=ALPHA_UNIT,
    )
    return list({request.key: request for request in requests}.values())
