"""The slot engine computes what transformers does, and refuses what it can't."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from steering_reliability.cells import Cell
from steering_reliability.engine import generate
from steering_reliability.engine.measures import opening_tokens
from steering_reliability.engine.requests import Positions
from steering_reliability.errors import SteeringError
from steering_reliability.interventions import resolve_steering
from steering_reliability.models.loaded import LoadedModel
from steering_reliability.prompts import Prompt
from tests.engine.reference import (
    ALPHA_UNIT,
    BASELINE,
    PROMPTS,
    STEERED,
    assert_same_greedy,
    next_logits,
    random_directions,
    transformers_generate,
)
from tests.tiny_models import D_MODEL, FAMILIES, N_LAYERS, load_tiny


@pytest.mark.parametrize("positions", ["response", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_those_of_transformers(family: str, positions: Positions) -> None:
    model = load_tiny(family)
    directions = random_directions(model)
    cells = [BASELINE, *STEERED]
    found = generate(
        model,
        PROMPTS,
        cells,
        directions,
        max_new_tokens=8,
        positions=positions,
        alpha_unit=ALPHA_UNIT,
        slots=8,
    )
    expected = []
    for completion, (cell, prompt) in zip(
        found, [(cell, prompt) for cell in cells for prompt in PROMPTS], strict=True
    ):
        steering = resolve_steering(cell, directions, ALPHA_UNIT)
        tokens = transformers_generate(model, model.encode(prompt.text), steering, positions, 8)
        expected.append(
            replace(
                completion,
                prompt_id=prompt.id,
                cell=cell,
                token_ids=tokens,
                finish_reason="length" if len(tokens) == 8 else "stop",
            )
        )
    assert_same_greedy(model, PROMPTS, directions, positions, found, expected)
    unsteered = {c.prompt_id: c.token_ids for c in found if c.cell == BASELINE}
    for cell in STEERED:
        changed = [
            c.prompt_id for c in found if c.cell == cell and c.token_ids != unsteered[c.prompt_id]
        ]
        assert changed, f"{cell.id} changes nothing, so this test could not fail"


def test_steering_the_prompt_too_gives_other_tokens() -> None:
    model = load_tiny("gpt2")
    both = [
        [
            completion.token_ids
            for completion in generate(
                model,
                PROMPTS,
                STEERED,
                random_directions(model),
                max_new_tokens=8,
                positions=positions,
                alpha_unit=ALPHA_UNIT,
                slots=8,
            )
        ]
        for positions in ("response", "all")
    ]
    assert both[0] != both[1]


def test_measurements_are_those_of_the_plain_model() -> None:
    model = load_tiny("llama")
    directions = random_directions(model)
    [completion] = generate(
        model,
        PROMPTS[:1],
        STEERED[:1],
        directions,
        max_new_tokens=6,
        alpha_unit=ALPHA_UNIT,
        slots=4,
    )
    assert completion.finish_reason == "length"
    steering = resolve_steering(STEERED[0], directions, ALPHA_UNIT)
    tokens = model.encode(PROMPTS[0].text)
    logprobs, entropies, first = [], [], None
    for position, token in enumerate(completion.token_ids):
        generated = completion.token_ids[:position]
        log_p = next_logits(model, tokens, generated, steering, "response").double().log_softmax(-1)
        first = log_p.exp() if first is None else first
        logprobs.append(float(log_p[token]))
        entropies.append(float(-(log_p.exp() * log_p).sum()))
    assert first is not None
    refusal, compliance = opening_tokens(model)
    odds = float(first[refusal].sum() / first[compliance].sum())
    assert completion.measurements == pytest.approx(
        {
            "mean_logprob": sum(logprobs) / 6,
            "mean_entropy": sum(entropies) / 6,
            "refusal_log_odds": math.log(odds),
        },
        abs=1e-4,
    )


def test_a_prompt_that_is_all_shared_prefix_but_its_last_token() -> None:
    tiny = load_tiny("llama", chat=False)
    profile = tiny.profile.model_copy(update={"plain_template": "Say" * 30 + "{prompt}"})
    model = LoadedModel(tiny.hf_model, tiny.tokenizer, profile)
    prompts = [Prompt(id="x", text="x"), Prompt(id="xy", text="xy")]
    assert model.encode("x")[:-1] == model.format.shared_prefix
    completions = generate(
        model, prompts, [BASELINE], {}, max_new_tokens=4, alpha_unit=ALPHA_UNIT, slots=4
    )
    for prompt, completion in zip(prompts, completions, strict=True):
        tokens = model.encode(prompt.text)
        assert completion.token_ids == transformers_generate(model, tokens, None, "response", 4)


@pytest.mark.parametrize("backend", ["slots", "lens"])
def test_text_ends_at_the_first_end_of_turn(backend: str) -> None:
    tiny = load_tiny("gpt2")
    [open_ended] = generate(tiny, PROMPTS[:1], [BASELINE], {}, max_new_tokens=8, slots=4)
    tokens = open_ended.token_ids
    cut = next(n for n in range(2, 8) if tokens[n] not in tokens[:n])

    hf_model = copy.deepcopy(tiny.hf_model)
    hf_model.generation_config.eos_token_id = [256, tokens[cut]]
    model = LoadedModel(hf_model, tiny.tokenizer, tiny.profile)
    [ended] = generate(
        model, PROMPTS[:1], [BASELINE], {}, max_new_tokens=8, slots=4, backend=backend
    )
    assert ended.finish_reason == "stop"
    assert ended.token_ids == tokens[:cut]
    assert ended.text == tiny.tokenizer.decode(tokens[:cut])
    # That it stops here is part of what the model says: the end counts as a token.
    logits = [next_logits(tiny, tiny.encode("Hi"), tokens[:n], None, "all") for n in range(cut + 1)]
    logprobs = [float(row.log_softmax(-1)[tokens[n]]) for n, row in enumerate(logits)]
    assert ended.measurements["mean_logprob"] == pytest.approx(sum(logprobs) / (cut + 1), abs=1e-4)

    [full] = generate(
        model, PROMPTS[:1], [BASELINE], {}, max_new_tokens=cut, slots=4, backend=backend
    )
    assert (full.finish_reason, full.token_ids) == ("length", tokens[:cut])


def refusal_of(model: LoadedModel, cell: Cell = BASELINE, **changes: Any) -> str:
    options = {"max_new_tokens": 4, "slots": 4, "alpha_unit": ALPHA_UNIT, **changes}
    directions = options.pop("directions", random_directions(load_tiny("llama")))
    with pytest.raises(SteeringError) as caught:
        generate(model, PROMPTS, [cell], directions, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("backend", ["slots", "lens"])
def test_a_context_beyond_the_models_positions_is_refused(backend: str) -> None:
    message = refusal_of(load_tiny("gpt2"), max_new_tokens=1000, backend=backend)
    assert "GPT2LMHeadModel has 1024 positions" in message
    assert "max_new_tokens" in message


def test_a_context_beyond_the_sliding_window_is_refused() -> None:
    tiny = load_tiny("mistral")
    hf_model = copy.deepcopy(tiny.hf_model)
    hf_model.config.sliding_window = 32
    message = refusal_of(LoadedModel(hf_model, tiny.tokenizer, tiny.profile))
    assert "sliding window of 32 tokens" in message
    assert "--steer-backend lens" in message


@pytest.mark.parametrize("alpha", [0, 2])
def test_an_unknown_layer_is_refused(alpha: float) -> None:
    message = refusal_of(load_tiny("llama"), Cell(N_LAYERS, "add", alpha))
    assert f"layer {N_LAYERS} does not exist, expected 0 to {N_LAYERS - 1}" in message


def test_a_missing_or_wrong_direction_is_refused() -> None:
    model = load_tiny("llama")
    assert "no direction 'random-2' for layer 0" in refusal_of(
        model, Cell(0, "add", 2, direction="random-2")
    )
    direction = random_directions(model)["learned", 0]
    wide = torch.nn.functional.pad(direction.vector, (0, 3))
    message = refusal_of(
        model, STEERED[0], directions={("learned", 0): replace(direction, vector=wide)}
    )
    assert f"shape ({D_MODEL + 3},), expected ({D_MODEL},)" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -1.0),
        ("temperature", math.nan),
        ("top_p", 0.0),
        ("samples", 0),
        ("positions", "prompt"),
        ("slots", 0),
        ("backend", "hooks"),
    ],
)
def test_settings_out_of_range_are_refused(key: str, value: Any) -> None:
    message = refusal_of(load_tiny("llama"), **{key: value})
    assert key in message
    assert repr(value) in message
