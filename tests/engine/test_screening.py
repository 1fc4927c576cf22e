"""The screen's numbers are those of completions and plain passes, and its ranking is its rule."""

from __future__ import annotations

import math

import pytest
import torch

import steering_reliability as sr
from steering_reliability.cells import Cell
from steering_reliability.engine.requests import checked_steering
from steering_reliability.errors import SteeringError
from steering_reliability.prompts import Prompt
from steering_reliability.screening import SCREEN_COLUMNS
from steering_reliability.statistics import bootstrap_bounds
from tests.engine.reference import ALPHA_UNIT, next_logits, random_directions
from tests.tiny_models import load_tiny

HARMFUL = [Prompt(f"h-{i}", f"Harm {'x' * i}") for i in range(6)]
BENIGN = [Prompt(f"b-{i}", f"Help {'y' * i}?") for i in range(5)]
ALPHAS = (4.0, -2.0)


def test_numbers_are_those_of_completions_and_of_plain_passes() -> None:
    model = load_tiny("llama")
    directions = random_directions(model)
    found = sr.screen(model, directions, HARMFUL, BENIGN, alphas=ALPHAS, alpha_unit=ALPHA_UNIT)
    assert tuple(found.columns) == SCREEN_COLUMNS
    assert len(found) == len(directions) * len(ALPHAS)
    [row] = found.query("direction == 'learned' and layer == 2 and alpha == -2").to_dict("records")
    cell = Cell(2, "add", -2)
    completions = sr.generate(
        model,
        HARMFUL,
        [cell.baseline, cell],
        directions,
        max_new_tokens=1,
        alpha_unit=ALPHA_UNIT,
        slots=8,
    )
    odds = torch.tensor([c.measurements["refusal_log_odds"] for c in completions]).reshape(2, -1)
    rises = (odds[1] - odds[0]).double().numpy()
    low, high = bootstrap_bounds(rises)
    assert row["refusal_log_odds_rise"] == pytest.approx(rises.mean(), abs=1e-4)
    assert (row["rise_low"], row["rise_high"]) == pytest.approx((low, high), abs=1e-4)

    steering = checked_steering(model, cell, directions, ALPHA_UNIT)
    unsteered = sr.generate(model, BENIGN, [cell.baseline], {}, max_new_tokens=3, slots=8)
    by_prompt = []
    for prompt, completion in zip(BENIGN, unsteered, strict=True):
        tokens = model.encode(prompt.text)
        said = completion.token_ids[:2]
        along = []
        for n in range(len(said) + 1):
            before = next_logits(model, tokens, said[:n], None, "response").log_softmax(-1)
            after = next_logits(model, tokens, said[:n], steering, "response").log_softmax(-1)
            along.append(float((before.exp() * (before - after)).sum()))
        by_prompt.append(sum(along) / len(along))
    kl = sum(by_prompt) / len(by_prompt)
    assert row["benign_kl"] == pytest.approx(kl, abs=1e-4)
    assert row["score"] == pytest.approx(-high / math.sqrt(max(kl, 0.01)), abs=1e-3)
    assert found["score"].is_monotonic_decreasing


def test_directions_may_come_without_names() -> None:
    model = load_tiny("llama")
    named = {key: d for key, d in random_directions(model).items() if key[0] == "learned"}
    alone = sr.screen(model, [*named.values()], HARMFUL, BENIGN)
    assert alone.equals(sr.screen(model, named, HARMFUL, BENIGN))


def test_what_would_mean_nothing_is_refused() -> None:
    model = load_tiny("llama")
    directions = random_directions(model)
    with pytest.raises(SteeringError, match=r"benign: found 4 prompts"):
        sr.screen(model, directions, HARMFUL, BENIGN[:4])
    with pytest.raises(SteeringError, match=r"alphas: found \[2, 0\]"):
        sr.screen(model, directions, HARMFUL, BENIGN, alphas=[2, 0])
    with pytest.raises(SteeringError, match=r"several for one layer"):
        sr.screen(model, [*directions.values()], HARMFUL, BENIGN)
    with pytest.raises(SteeringError, match=r"directions: found none"):
        sr.screen(model, [], HARMFUL, BENIGN)
    with pytest.raises(SteeringError, match=r"layer 99 does not exist"):
        sr.screen(load_tiny("gpt2"), {("learned", 99): _at_layer(99)}, HARMFUL, BENIGN)


def _at_layer(layer: int) -> sr.Direction:
    direction = random_directions(load_tiny("gpt2"))["learned", 0]
    return sr.Direction(direction.vector, layer, 1.0, 8.0)
