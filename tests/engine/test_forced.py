"""Teacher-forced passes are those of plain transformers with hooks, one prompt at a time."""

from __future__ import annotations

import math

import pytest
import torch

from steering_reliability.directions.residuals import Continued
from steering_reliability.engine import generate
from steering_reliability.engine.forced import (
    continuation_logprobs,
    first_token_log_odds,
    kl_from_unsteered,
    unsteered_logprobs,
)
from steering_reliability.engine.measures import opening_tokens
from steering_reliability.errors import SteeringError
from steering_reliability.interventions import Steering, resolve_steering
from steering_reliability.models.loaded import LoadedModel
from tests.engine.reference import (
    ALPHA_UNIT,
    BASELINE,
    PROMPTS,
    STEERED,
    next_logits,
    random_directions,
)
from tests.tiny_models import FAMILIES, load_tiny

TEXTS = ["No.", "Certainly, a wren"]
CELLS = [BASELINE, *STEERED]


def _encoded(model: LoadedModel) -> tuple[list[list[int]], list[list[int]]]:
    prompts = [model.encode(prompt.text) for prompt in PROMPTS]
    return prompts, [model.format.encode_response(text) for text in TEXTS]


def _steerings(model: LoadedModel) -> list[Steering | None]:
    directions = random_directions(model)
    return [resolve_steering(cell, directions, ALPHA_UNIT) for cell in CELLS]


@pytest.mark.parametrize("family", FAMILIES)
def test_logprobs_are_those_of_transformers_with_hooks(family: str) -> None:
    model = load_tiny(family)
    prompts, continuations = _encoded(model)
    steerings = _steerings(model)
    found = continuation_logprobs(model, prompts, continuations, steerings)
    for p, prompt in enumerate(prompts):
        for s, steering in enumerate(steerings):
            for c, tokens in enumerate(continuations):
                for i, token in enumerate(tokens):
                    logits = next_logits(model, prompt, tokens[:i], steering, "response")
                    expected = logits.log_softmax(-1)[token].item()
                    assert found[p, s, c, i].item() == pytest.approx(expected, abs=1e-4)
                assert found[p, s, c, len(tokens) :].isnan().all()
    changed = (found[:, 1:] - found[:, :1]).nan_to_num().abs().amax(dim=(0, 2, 3))
    assert (changed > 0.01).all(), "a steering that changes nothing could not be told from none"


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_of_each_prompt_are_weighed_by_the_unsteered_model(family: str) -> None:
    model = load_tiny(family)
    prompts, texts = _encoded(model)
    requests = [Continued(prompts[0], texts), Continued(prompts[1], texts[1:])]
    found = unsteered_logprobs(model, requests)
    for request, logprobs in zip(requests, found, strict=True):
        expected = [
            sum(
                next_logits(model, request.prompt, tokens[:i], None, "response")
                .log_softmax(-1)[token]
                .item()
                for i, token in enumerate(tokens)
            )
            / len(tokens)
            for tokens in request.continuations
        ]
        assert logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_kl_is_that_of_the_whole_next_token_distribution(family: str) -> None:
    model = load_tiny(family)
    prompts, continuations = _encoded(model)
    steerings = _steerings(model)
    forced = continuations[0]
    requests = [Continued(prompt, [forced]) for prompt in prompts]
    found = kl_from_unsteered(model, requests, steerings)
    assert found.shape == (len(prompts), len(steerings), len(forced) + 1)
    assert found[:, 0].abs().max() < 1e-5
    for p, prompt in enumerate(prompts):
        for s, steering in enumerate(steerings):
            for i in range(len(forced) + 1):
                before = next_logits(model, prompt, forced[:i], None, "response").double()
                after = next_logits(model, prompt, forced[:i], steering, "response").double()
                expected = torch.nn.functional.kl_div(
                    after.log_softmax(-1), before.log_softmax(-1), reduction="sum", log_target=True
                ).item()
                assert found[p, s, i].item() == pytest.approx(expected, abs=1e-4)


def test_first_token_log_odds_are_those_that_completions_carry() -> None:
    model = load_tiny("llama")
    prompts, _ = _encoded(model)
    found = first_token_log_odds(model, prompts, _steerings(model), opening_tokens(model))
    completions = generate(
        model,
        PROMPTS,
        CELLS,
        random_directions(model),
        max_new_tokens=1,
        alpha_unit=ALPHA_UNIT,
        slots=8,
    )
    carried = torch.tensor([c.measurements["refusal_log_odds"] for c in completions])
    by_cell = carried.reshape(len(CELLS), len(PROMPTS)).T
    assert torch.allclose(found, by_cell.double(), atol=1e-4)


@pytest.mark.parametrize(("tokens_at_once", "prompts_at_once"), [(1, 1), (9, 2)])
def test_batch_mates_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tokens_at_once: int, prompts_at_once: int
) -> None:
    model = load_tiny("qwen")
    prompts, continuations = _encoded(model)
    steerings = _steerings(model)
    together = continuation_logprobs(model, prompts, continuations, steerings)
    limits = {"_TOKENS_AT_ONCE": tokens_at_once, "_PROMPTS_AT_ONCE": prompts_at_once}
    for name, limit in limits.items():
        monkeypatch.setattr(f"steering_reliability.engine.forced.{name}", limit)
    alone = continuation_logprobs(model, prompts, continuations, steerings)
    assert torch.allclose(together, alone, atol=1e-5, equal_nan=True)


def test_one_token_prompts_have_nothing_to_remember() -> None:
    model = load_tiny("gpt2")
    [tokens] = [model.format.encode_response("No.")]
    found = continuation_logprobs(model, [tokens[:1]], [tokens[1:]], [None])
    expected = next_logits(model, tokens[:1], [], None, "response").log_softmax(-1)[tokens[1]]
    assert found[0, 0, 0, 0].item() == pytest.approx(expected.item(), abs=1e-4)


def test_what_cannot_be_computed_is_refused() -> None:
    model = load_tiny("llama")
    with pytest.raises(SteeringError, match="continuations"):
        continuation_logprobs(model, [[1]], [[]], [None])
    with pytest.raises(SteeringError, match="prompt"):
        continuation_logprobs(model, [[]], [[1]], [None])
    with pytest.raises(SteeringError, match="one length"):
        kl_from_unsteered(model, [Continued([1], [[1]]), Continued([1], [[]])], [None])
    too_long = math.floor(model.text_config.max_position_embeddings)
    with pytest.raises(SteeringError, match="positions"):
        continuation_logprobs(model, [[1] * too_long], [[1, 1]], [None])
