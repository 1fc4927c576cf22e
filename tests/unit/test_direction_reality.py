"""Whether a direction means anything: placebo pairs, held-out numbers, and the claim on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import pytest
import torch

from benchmarks import noise_directions
from steering_reliability.directions.contrastive import DEFAULT_PAIRS
from steering_reliability.directions.diagnostics import (
    diagnose,
    halved_agreement,
    left_out_auc,
    pair_agreement,
)
from steering_reliability.directions.placebo import (
    PLACEBO_PAIRS,
    benign_share,
    compare_to_placebo,
    placebo_agreements,
)
from steering_reliability.expectations import DirectionEvidence, Outcome, Verdict, evaluate
from steering_reliability.expectations.verdicts import Detail
from steering_reliability.prompts import Prompt
from steering_reliability.results.summary import SCORE_COLUMNS
from tests.tiny_models import load_tiny

NOTHING = pd.DataFrame(columns=list(SCORE_COLUMNS))
SOUND = DirectionEvidence(
    raw_norm=2.0,
    residual_norm=10.0,
    n_pairs=8,
    n_prompts=64,
    agreement=0.3,
    agreement_low=0.29,
    placebo=0.05,
    placebo_p=0.001,
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def control_verdict(outcome: Outcome, coherent: bool = True) -> Verdict:
    numbers = (0.2, 0.1, 0.3, 0.95, 50, 0.01)
    details: dict[str, Detail] = {"coherent": coherent}
    return Verdict("beats_controls", "cell", outcome, *numbers, "", False, details=details)


def claim(evidence: DirectionEvidence) -> Verdict:
    return evaluate("direction_is_real", NOTHING, layer=12, directions={12: evidence})


def test_placebo_pairs_are_different_texts_and_none_that_is_learned_from() -> None:
    texts = [text for pair in PLACEBO_PAIRS for text in pair]
    assert len(set(texts)) == len(texts) == 48
    assert not set(texts) & {text for pair in DEFAULT_PAIRS for text in pair}


def test_noise_that_pairs_share_agrees_on_the_same_prompts_alone() -> None:
    # What differently shaped batches leave depends on the prompt and not on the prefix.
    noise = drawn(64, 1, 500).expand(64, 8, 500)
    assert pair_agreement(noise) == pytest.approx(1)
    value, low = halved_agreement(noise)
    assert abs(value) < 0.1
    assert low < 0
    value, low = halved_agreement(noise + drawn(500, seed=1))
    assert value > low > 0.9


def test_halved_agreement_leaves_out_a_pair_with_itself() -> None:
    # Orthogonal pairs, each the same for every prompt: wholly with itself, not with others.
    apart = torch.eye(4)[None].expand(6, 4, 4)
    assert halved_agreement(apart) == pytest.approx((0, 0))
    silent = apart.clone()
    silent[:, 1:] = 0
    assert halved_agreement(silent) == pytest.approx((0, 0))
    assert all(map(math.isnan, halved_agreement(apart[:1])))
    assert all(map(math.isnan, halved_agreement(apart[:, :1])))


def test_placebo_agreements_worked_out_by_hand() -> None:
    # All pairs along one line: a choice of two agrees at 1 or -1, as they are turned.
    line = torch.ones(4, 6, 3)
    found = placebo_agreements(line, 2)
    assert set(found.round(9)) == {-1.0, 1.0}
    assert abs(found.mean()) < 0.1
    # Of three, all turned alike (1) or one the other way (-1/3).
    assert set(placebo_agreements(line, 3).round(6)) == {1.0, -0.333333}


def test_pairs_that_share_a_meaning_stand_above_placebo_and_others_do_not() -> None:
    placebo = drawn(1, 24, 200).expand(8, 24, 200)
    unrelated = drawn(1, 8, 200, seed=1).expand(16, 8, 200)
    for differences, real in ((unrelated, False), (unrelated + drawn(200, seed=2), True)):
        found = compare_to_placebo(halved_agreement(differences)[1], placebo, 8)
        assert (halved_agreement(differences)[1] > found["placebo_agreement"]) == real
        assert (found["placebo_p"] < 0.05) == real
    assert compare_to_placebo(math.nan, placebo, 8) == {}
    assert compare_to_placebo(0.5, placebo, 1) == {}


def test_benign_share_is_a_squared_cosine() -> None:
    benign = torch.tensor([3.0, 4.0, 0.0]).expand(2, 2, 3)
    assert benign_share(torch.tensor([1.0, 0, 0]), benign) == pytest.approx(0.36)


def test_left_out_auc_orders_activations_and_not_differences() -> None:
    step = torch.zeros(8, 4, 5)
    step[..., 0] = 1
    assert left_out_auc(step, torch.zeros(8, 4, 5)) == 1
    # Every difference lies on the right side, yet prompts lie so far apart that scores overlap.
    apart = torch.zeros(8, 4, 5)
    apart[..., 0] = 100 * torch.arange(8.0)[:, None]
    found = diagnose(step, apart)
    assert found["left_out_prompts"] == found["left_out_pairs"] == 1
    # Of the four left-out prompts, each lies above its own and the lower ones: 10 of 16.
    assert found["left_out_auc"] == pytest.approx(10 / 16)
    assert math.isnan(left_out_auc(step[:1], apart[:1]))
    assert math.isnan(diagnose(step)["left_out_auc"])


@pytest.mark.parametrize(
    ("changes", "controls", "outcome"),
    [
        # Nothing but controls tells a direction from one that does nothing.
        ({}, [], "inconclusive"),
        ({"agreement_low": 0.05}, [], "fail"),
        ({}, ["error"], "inconclusive"),
        ({}, ["pass", "fail"], "pass"),
        ({}, ["inconclusive", "fail"], "inconclusive"),
        ({}, ["fail", "fail"], "fail"),
        ({"raw_norm": 0.009}, ["pass"], "fail"),
        ({"agreement_low": 0.05}, ["pass"], "fail"),
        # A file that tells nothing of its pairs: the controls decide, or nothing does.
        ({"agreement_low": math.nan}, [], "inconclusive"),
        ({"agreement_low": math.nan}, ["pass"], "pass"),
        ({"agreement_low": math.nan}, ["inconclusive"], "inconclusive"),
        ({"agreement_low": math.nan}, ["fail"], "fail"),
        ({"placebo": math.nan}, [], "inconclusive"),
    ],
)
def test_the_claim_fails_where_any_part_does(
    changes: dict[str, float], controls: Sequence[Outcome], outcome: Outcome
) -> None:
    evidence = replace(SOUND, **changes, controls=tuple(map(control_verdict, controls)))
    verdict = claim(evidence)
    assert verdict.outcome == outcome, verdict.message
    assert verdict.target == "layer12"
    if not controls:
        assert "no controls at this layer" in verdict.message


def test_without_controls_it_says_what_holds_and_how_to_add_them() -> None:
    told = claim(SOUND).message.partition(": inconclusive; ")[2]
    assert told == (
        "null guard and agreement hold, but only controls can tell: add controls at this layer, "
        "and claim beats_controls on the split that they run on"
    )
    untold = claim(replace(SOUND, agreement_low=math.nan)).message
    assert "the null guard holds, but only controls can tell" in untold
    too_few = claim(replace(SOUND, controls=(control_verdict("error"),))).message
    assert "too few controls at this layer" in too_few
    assert "as many controls as beats_controls asks for" in too_few


def test_cells_with_broken_text_say_nothing_of_a_direction() -> None:
    broken = [control_verdict(outcome, coherent=False) for outcome in ("pass", "fail")]
    verdict = claim(replace(SOUND, controls=tuple(broken)))
    assert (verdict.outcome, verdict.details["beats_controls"]) == ("inconclusive", "unknown")
    assert "an alpha that leaves the text coherent" in verdict.message
    for outcome in ("pass", "inconclusive", "fail"):
        whole = control_verdict(outcome)
        beside = claim(replace(SOUND, controls=(*broken, whole)))
        assert beside.outcome == outcome
        assert "of 1 cell (2 more past the coherence gate)" in beside.message


def test_the_claim_without_a_direction_is_an_error() -> None:
    assert evaluate("direction_is_real", NOTHING, layer=12).outcome == "error"
    assert evaluate("direction_is_real", NOTHING).outcome == "error"


def test_saved_rounding_noise_is_called_what_it_is() -> None:
    texts = ["Pick a lock.", "Forge a stamp.", "Übel tun?", "Hide money.", "Break in.", "Lie well."]
    prompts = [Prompt(id=f"p{i}", text=f"{t} {i}", split="x") for i, t in enumerate(texts * 4)]
    rows = list(noise_directions.measure(load_tiny(), prompts, [1, 2, 3], groups=2))
    for kind in ("rounding noise", "Gaussian noise"):
        own = [row for row in rows if row["kind"] == kind]
        assert len(own) == 6
        assert [row["outcome"] for row in own].count("fail") >= 5
        assert not any(row["above_placebo"] for row in own)
    rounding = [row for row in rows if row["kind"] == "rounding noise"]
    assert all(row["refused_as_it_is"] for row in rounding)
    assert not any(row["refused_as_it_is"] for row in rows if row["kind"] == "learned")
