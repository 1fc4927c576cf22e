"""Probes of a steered cell are what plain passes, one prompt at a time, give."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from steering_reliability.cells import Cell
from steering_reliability.engine.requests import checked_steering
from steering_reliability.errors import SteeringError
from steering_reliability.log_odds import refusal_log_odds
from steering_reliability.probes import BENIGN_TEXTS, TEXT_PROMPT, probe
from steering_reliability.prompts import Prompt
from steering_reliability.results.probes import probes_table
from tests.engine.reference import ALPHA_UNIT, next_logits, random_directions
from tests.tiny_models import load_tiny

PROMPTS = [Prompt(f"p-{i}", f"Ask {'x' * i}", split="s") for i in range(6)]
TEXTS = ["One.", "Two of it.", "Three", "Four more", "Five"]
CELLS = [Cell(1, "add", 4), Cell(2, "ablate", 1)]


def test_readings_are_those_of_plain_passes() -> None:
    model = load_tiny("llama")
    directions = random_directions(model)
    found = probe(
        model, CELLS, directions, PROMPTS, PROMPTS, texts=TEXTS, benign_tokens=1,
        alpha_unit=ALPHA_UNIT,
    )  # fmt: skip
    odds = refusal_log_odds(model, PROMPTS, CELLS, directions, alpha_unit=ALPHA_UNIT)
    for cell in CELLS:
        steering = checked_steering(model, cell, directions, ALPHA_UNIT)
        readings = found[cell]
        for text, steered, unsteered in zip(
            TEXTS, readings.nll, readings.nll_unsteered, strict=True
        ):
            tokens = model.format.encode_response(text)
            for how, value in ((steering, steered), (None, unsteered)):
                losses = [
                    -next_logits(model, model.encode(TEXT_PROMPT), tokens[:i], how, "response")
                    .double()
                    .log_softmax(-1)[token]
                    for i, token in enumerate(tokens)
                ]
                assert value == pytest.approx(float(torch.stack(losses).mean()), abs=1e-3)
        for prompt, value in zip(PROMPTS, readings.benign_kl, strict=True):
            before, after = (
                next_logits(model, model.encode(prompt.text), [], how, "response")
                .double()
                .log_softmax(-1)
                for how in (None, steering)
            )
            kl = float((before.exp() * (before - after)).sum())
            assert value == pytest.approx(kl, rel=1e-2, abs=1e-5)
        expected = odds[odds["cell"] == cell.id]["log_odds"]
        assert readings.log_odds == pytest.approx(list(expected))
    table = probes_table(found, pd.DataFrame())
    ratio = table[table["measure"] == "perplexity_ratio"]["estimate"].iloc[0]
    first = found[CELLS[0]]
    more = torch.tensor(first.nll).double() - torch.tensor(first.nll_unsteered).double()
    assert ratio == pytest.approx(float(more.mean().exp()), rel=1e-5)
    assert list(table["n"]) == [6, 5, 6] * 2


def test_what_cannot_be_probed_is_said() -> None:
    model = load_tiny("llama")
    directions = random_directions(model)
    with pytest.raises(SteeringError, match="benign: found 2, expected at least 5"):
        probe(model, CELLS, directions, PROMPTS, PROMPTS[:2])
    with pytest.raises(SteeringError, match="cells: found layer1-add-alpha0, expected steered"):
        probe(model, [Cell(1, "add", 0)], directions, PROMPTS, PROMPTS)


def test_the_texts_are_enough_and_differ() -> None:
    assert len(set(BENIGN_TEXTS)) == len(BENIGN_TEXTS) >= 5
