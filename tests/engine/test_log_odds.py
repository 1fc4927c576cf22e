"""The continuous endpoint: its texts, its numbers, its intervals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from steering_reliability.cells import Cell
from steering_reliability.config.profile import load_profile
from steering_reliability.directions import DEFAULT_PAIRS, collect_contrasts
from steering_reliability.engine.requests import checked_steering
from steering_reliability.errors import SteeringError
from steering_reliability.log_odds import (
    COMPLIANCE_TEXTS,
    REFUSAL_TEXTS,
    log_odds_effects,
    refitted_effect,
    refusal_log_odds,
)
from steering_reliability.prompts import Prompt
from tests.engine.reference import ALPHA_UNIT, next_logits, random_directions
from tests.tiny_models import load_tiny

PROMPTS = [Prompt(f"p-{i}", f"Ask {'x' * i}", split="s") for i in range(6)]
LEARNED_FROM = [Prompt(f"l-{i}", f"Learn {'y' * i}") for i in range(4)]
CELL = Cell(1, "add", 4)


def test_no_text_was_used_in_learning_or_opens_as_the_profiles_do() -> None:
    texts = [*REFUSAL_TEXTS, *COMPLIANCE_TEXTS]
    assert len(set(texts)) == len(texts) == 8
    learned = {tuple(text.split()[:2]) for pair in DEFAULT_PAIRS for text in pair}
    assert not learned & {tuple(text.split()[:2]) for text in texts}
    for name in ("embedded", "gpt2-medium", "llama-3.1-8b-instruct"):
        profile = load_profile(name)
        openings = [*profile.refusal_openings, *profile.compliance_openings]
        words = {tuple(opening.split()) for opening in openings}
        for text in texts:
            assert not any(tuple(text.split()[: len(opening)]) == opening for opening in words)


def test_log_odds_are_those_of_plain_passes() -> None:
    model = load_tiny("llama")
    directions = random_directions(model)
    found = refusal_log_odds(
        model, PROMPTS[:2], [CELL.baseline, CELL], directions, alpha_unit=ALPHA_UNIT
    )
    assert list(found["cell"]) == ["unsteered"] * 2 + [CELL.id] * 2
    steerings = [None, checked_steering(model, CELL, directions, ALPHA_UNIT)]
    expected = []
    for steering in steerings:
        for prompt in PROMPTS[:2]:
            sides = []
            for texts in (REFUSAL_TEXTS, COMPLIANCE_TEXTS):
                sums = []
                for text in texts:
                    tokens = model.format.encode_response(text)
                    log_p = 0.0
                    for i, token in enumerate(tokens):
                        logits = next_logits(
                            model, model.encode(prompt.text), tokens[:i], steering, "response"
                        )
                        log_p += float(logits.double().log_softmax(-1)[token])
                    sums.append(log_p)
                sides.append(float(torch.tensor(sums).double().logsumexp(0)))
            expected.append(sides[0] - sides[1])
    assert found["log_odds"].to_numpy() == pytest.approx(expected, abs=2e-3)
    assert abs(expected[0] - expected[2]) > 0.05


def test_effects_are_paired_by_prompt() -> None:
    model = load_tiny("llama")
    table = refusal_log_odds(model, PROMPTS, [CELL], random_directions(model), alpha_unit=1)
    shuffled = table.sample(frac=1, random_state=1)
    [effect] = log_odds_effects(shuffled).to_dict("records")
    before, after = table["log_odds"].to_numpy().reshape(2, -1)
    changes = after - before
    assert effect["effect"] == pytest.approx(changes.mean())
    assert effect["low"] < changes.mean() < effect["high"]
    # The bootstrap of a mean, widened for few prompts, comes near Student's interval.
    low, high = stats.t.interval(0.95, 5, changes.mean(), stats.sem(changes))
    assert effect["high"] - effect["low"] == pytest.approx(high - low, rel=0.3)
    few = log_odds_effects(table[table["prompt_id"].isin(["p-0", "p-1"])])
    assert few["low"].isna().all()
    assert few["effect"].notna().all()


def test_refitting_widens_the_interval_by_what_the_direction_is_unsure_of() -> None:
    model = load_tiny("llama")
    contrasts = collect_contrasts(model, LEARNED_FROM, [CELL.layer])[CELL.layer]
    mean = contrasts.differences.mean(dim=(0, 1), keepdim=True)
    certain = replace(contrasts, differences=mean.expand_as(contrasts.differences))
    sure = refitted_effect(model, PROMPTS, CELL, certain, refits=6)
    unsure = refitted_effect(model, PROMPTS, CELL, contrasts, refits=6)
    directions = {("learned", CELL.layer): contrasts.direction()}
    [row] = log_odds_effects(refusal_log_odds(model, PROMPTS, [CELL], directions)).to_dict(
        "records"
    )
    assert unsure.value == pytest.approx(row["effect"], abs=1e-4)
    assert sure.value == pytest.approx(row["effect"], abs=1e-3)
    table = refusal_log_odds(model, PROMPTS, [CELL], directions)
    before, after = table["log_odds"].to_numpy().reshape(2, -1)
    half = stats.t.ppf(0.975, 5) * stats.sem(after - before)
    # The same direction in every refit adds nothing.
    assert sure.high - sure.value == pytest.approx(half, rel=1e-2)
    assert unsure.high - unsure.low > 1.01 * (sure.high - sure.low)
    again = refitted_effect(model, PROMPTS, CELL, contrasts, refits=6)
    assert (again.low, again.high) == (unsure.low, unsure.high)
    assert math.isfinite(unsure.low)
    assert np.isfinite(unsure.high)


def test_what_would_mean_nothing_is_refused() -> None:
    model = load_tiny("llama")
    contrasts = collect_contrasts(model, LEARNED_FROM, [CELL.layer])[CELL.layer]
    with pytest.raises(SteeringError, match="was learned from"):
        refitted_effect(model, [*PROMPTS, LEARNED_FROM[0]], CELL, contrasts)
    with pytest.raises(SteeringError, match="at layer 1"):
        refitted_effect(model, PROMPTS, Cell(2, "add", 4), contrasts)
    with pytest.raises(SteeringError, match="at layer 1"):
        refitted_effect(model, PROMPTS, CELL.baseline, contrasts)
    with pytest.raises(SteeringError, match="prompts: found 4"):
        refitted_effect(model, PROMPTS[:4], CELL, contrasts)
    with pytest.raises(SteeringError, match="prompts: found none"):
        refusal_log_odds(model, [], [CELL], random_directions(model))
