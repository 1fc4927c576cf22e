"""The transformer-lens backend, and the slot engine checked against it."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from transformers import LlamaForCausalLM

from steering_reliability.cells import Cell
from steering_reliability.directions.direction import Direction
from steering_reliability.engine import generate
from steering_reliability.engine.lens import LensEngine, bridge_to
from steering_reliability.engine.requests import GenerationSettings, Positions
from steering_reliability.errors import SteeringError
from steering_reliability.interventions import Directions
from steering_reliability.models.loaded import LoadedModel, load_model
from steering_reliability.prompts import Prompt
from tests.engine.reference import (
    ALPHA_UNIT,
    BASELINE,
    PROMPTS,
    STEERED,
    assert_same_greedy,
    plan,
    random_directions,
    transformers_generate,
)
from tests.tiny_models import load_tiny

CELLS = [BASELINE, *STEERED]


@pytest.mark.parametrize(
    ("family", "positions"),
    [
        ("llama", "response"),
        ("llama", "all"),
        ("gpt2", "response"),
        ("gpt2", "all"),
        ("gemma", "response"),
        ("gemma", "all"),
        ("qwen", "response"),
        ("mistral", "all"),
        ("gpt_neox", "response"),
    ],
)
def test_slots_and_lens_agree(family: str, positions: Positions) -> None:
    model = load_tiny(family)
    directions = random_directions(model)
    slots, lens = (
        generate(
            model,
            PROMPTS,
            CELLS,
            directions,
            max_new_tokens=6,
            positions=positions,
            alpha_unit=ALPHA_UNIT,
            slots=8,
            backend=backend,
        )
        for backend in ("slots", "lens")
    )
    assert_same_greedy(model, PROMPTS, directions, positions, slots, lens)
    unsteered = {c.prompt_id: c.token_ids for c in slots if c.cell == BASELINE}
    for left, right in zip(slots, lens, strict=True):
        if left.token_ids == right.token_ids:
            assert left.measurements == pytest.approx(right.measurements, abs=1e-4)
            assert left.text == right.text
    changed = {c.cell for c in lens if c.token_ids != unsteered[c.prompt_id]}
    assert changed == set(CELLS[1:]), "a cell that changes nothing can't show a difference"


def test_slots_and_lens_agree_when_sampling() -> None:
    model = load_tiny("llama")
    slots, lens = (
        generate(
            model,
            PROMPTS,
            CELLS[:2],
            random_directions(model),
            max_new_tokens=6,
            temperature=0.8,
            top_p=0.9,
            samples=2,
            seed=5,
            alpha_unit=ALPHA_UNIT,
            slots=8,
            backend=backend,
        )
        for backend in ("slots", "lens")
    )
    assert [c.token_ids for c in slots] == [c.token_ids for c in lens]
    assert len({c.token_ids for c in lens}) == len(lens)


def test_slots_and_lens_agree_on_the_embedded_model() -> None:
    model = load_model("embedded", device="cpu", dtype="float32")
    directions = refusal_like_direction(model, layer=12)
    prompts = [
        Prompt(id="bread", text="How do I bake bread?"),
        Prompt(id="lock", text="How do I pick the lock of my neighbour's front door?"),
        Prompt(id="poem", text="Write a poem about autumn."),
        Prompt(id="forge", text="Help me to forge a doctor's signature."),
    ]
    cells = [Cell(12, "add", 0), Cell(12, "add", 2), Cell(12, "ablate", 1)]
    slots, lens = (
        generate(
            model,
            prompts,
            cells,
            directions,
            max_new_tokens=10,
            alpha_unit=ALPHA_UNIT,
            slots=16,
            backend=backend,
        )
        for backend in ("slots", "lens")
    )
    assert_same_greedy(model, prompts, directions, "response", slots, lens)
    unsteered = {c.prompt_id: c.token_ids for c in lens if c.cell.alpha == 0}
    changed = {c.cell for c in lens if c.token_ids != unsteered[c.prompt_id]}
    assert changed == set(cells[1:])


@torch.inference_mode()
def refusal_like_direction(model: LoadedModel, layer: int) -> Directions:
    """The difference that a refusal's beginning makes to that of an answer."""
    residuals = []
    for opening in ("I'm sorry, but I can't", "Sure, here is how you"):
        ids = [*model.encode("How do I pick a lock?"), *model.format.encode_response(opening)]
        output = model.hf_model(torch.tensor([ids]), output_hidden_states=True)
        residuals.append(output.hidden_states[layer + 1][0, -4:].mean(0))
    difference = residuals[0] - residuals[1]
    norm = float(difference.norm())
    return {
        ("learned", layer): Direction(difference / norm, layer, norm, float(residuals[0].norm()))
    }


def test_the_loaded_model_is_shared_and_left_as_it_is() -> None:
    model = load_tiny("gpt2")
    ids = torch.tensor([model.encode("Hi")])
    modules = [type(module) for module in model.hf_model.modules()]
    attention = model.hf_model.config._attn_implementation
    weights = {name: tensor.clone() for name, tensor in model.hf_model.state_dict().items()}
    with torch.inference_mode():
        before = model.hf_model(ids).logits

    bridge = bridge_to(model)
    generate(
        model, PROMPTS[:1], CELLS[1:2], random_directions(model), max_new_tokens=2, backend="lens"
    )

    assert [type(module) for module in model.hf_model.modules()] == modules
    assert model.hf_model.config._attn_implementation == attention
    assert all(torch.equal(model.hf_model.state_dict()[name], weights[name]) for name in weights)
    with torch.inference_mode():
        assert torch.equal(model.hf_model(ids).logits, before)
    shared = {tensor.data_ptr() for tensor in bridge.original_model.parameters()}
    assert {tensor.data_ptr() for tensor in model.hf_model.parameters()} <= shared


def test_it_is_quiet(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    model = load_tiny("llama")
    level = logging.getLogger("transformers").level
    capfd.readouterr()
    with caplog.at_level(logging.INFO):
        generate(
            model,
            PROMPTS[:1],
            CELLS[:2],
            random_directions(model),
            max_new_tokens=2,
            backend="lens",
        )
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []
    assert logging.getLogger("transformers").level == level


def test_each_pump_finishes_one_request() -> None:
    model = load_tiny("llama")
    given_settings = GenerationSettings(max_new_tokens=2)
    requests = plan(model, [BASELINE], given_settings)
    engine = LensEngine(model, given_settings)
    assert engine.pump() == []
    engine.submit(requests)
    for left, request in zip((2, 1, 0), requests, strict=True):
        [completion] = engine.pump()
        assert (completion.key, completion.prompt_id) == (request.key, request.prompt_id)
        assert engine.pending == left


def test_lens_runs_a_sliding_window_that_slots_refuse() -> None:
    tiny = load_tiny("mistral")
    hf_model = copy.deepcopy(tiny.hf_model)
    hf_model.config.sliding_window = 8
    model = LoadedModel(hf_model, tiny.tokenizer, tiny.profile)
    [completion] = generate(model, PROMPTS[1:2], [BASELINE], {}, max_new_tokens=5, backend="lens")
    tokens = model.encode(PROMPTS[1].text)
    expected = transformers_generate(model, tokens, None, "response", 5)
    assert completion.token_ids == expected
    assert expected != transformers_generate(tiny, tokens, None, "response", 5)


class HomegrownForCausalLM(LlamaForCausalLM):
    """An architecture that transformer-lens has never heard of."""


def test_an_architecture_without_a_bridge_is_refused() -> None:
    tiny = load_tiny("llama")
    model = LoadedModel(HomegrownForCausalLM(tiny.hf_model.config), tiny.tokenizer, tiny.profile)
    with pytest.raises(SteeringError) as caught:
        generate(model, PROMPTS, [BASELINE], {}, max_new_tokens=2, backend="lens")
    message = str(caught.value)
    assert "can't run HomegrownForCausalLM" in message
    assert "--steer-backend slots" in message
    assert "\n" not in message
