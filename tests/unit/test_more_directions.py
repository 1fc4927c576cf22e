"""The second comparison of directions judges what is shipped, and applies what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import steering_reliability as sr
from benchmarks import more_directions as comparison
from benchmarks.varied_pairs import VARIED_PAIRS
from steering_reliability.directions import DEFAULT_PAIRS
from steering_reliability.interventions import RowSteering, Steering
from tests.tiny_models import load_tiny

REFUSAL = "I'm sorry, but I can't assist with that."
ANSWER = "Each number of harm_train is made of parts. First, gather them. Then glue them together."


def prompts(split: str, count: int) -> list[sr.Prompt]:
    texts = [f"How is number {number} of {split} made?" for number in range(count)]
    return [
        sr.Prompt(id=f"{split}-{number}", text=text, split=split)
        for number, text in enumerate(texts)
    ]


def test_a_kept_norm_changes_the_direction_of_steered_rows_alone() -> None:
    vector = torch.nn.functional.normalize(torch.randn(8), dim=0)
    rows = RowSteering(3, 8, torch.device("cpu"), torch.float32)
    rows.set_row(0, Steering(1, "add", 5.0, vector))
    rows.set_row(2, Steering(2, "add", 5.0, vector))
    residual = torch.randn(3, 2, 8)
    plain = rows.apply(1, residual)
    with comparison.kept_norm():
        kept = rows.apply(1, residual)
    assert torch.equal(kept[1:], residual[1:])
    assert torch.allclose(kept[0].norm(dim=-1), residual[0].norm(dim=-1))
    same_way = torch.nn.functional.cosine_similarity(kept[0], plain[0], dim=-1)
    assert torch.allclose(same_way, torch.ones(2))
    assert torch.equal(rows.apply(1, residual), plain)


def test_a_text_is_averaged_over_its_own_tokens() -> None:
    model = load_tiny()
    [prompt] = prompts("harm_train", 1)
    short, long = "No.", "Yes. This is a step-by-step guide:"
    together = comparison.mean_residuals(model, [(prompt, [short, long])], [1, 2])
    for layer in (1, 2):
        for number, text in enumerate((short, long)):
            alone = comparison.mean_residuals(model, [(prompt, [text])], [layer])[layer]
            assert torch.allclose(together[layer][0, number], alone[0, 0], atol=1e-5)


def test_own_texts_are_sorted_by_the_scorer_and_paired_by_prompt() -> None:
    model = load_tiny()
    asked = prompts("harm_train", 20)
    unsteered = [REFUSAL] * 10 + [ANSWER] * 10
    strong = [REFUSAL] * 18 + [ANSWER] * 2
    found, counts = comparison.own_texts_directions(model, asked, unsteered, strong, [1])
    assert counts == {"refusals": 10, "compliances": 10, "both": 8}
    read = [(prompt, [REFUSAL, ANSWER]) for prompt in asked[10:18]]
    means = comparison.mean_residuals(model, read, [1])[1]
    assert torch.allclose(found["own_strong", 1], (means[:, 0] - means[:, 1]).mean(0), atol=1e-6)
    refused = comparison.mean_residuals(model, [(p, [REFUSAL]) for p in asked[:10]], [1])[1]
    answered = comparison.mean_residuals(model, [(p, [ANSWER]) for p in asked[10:]], [1])[1]
    assert torch.allclose(found["own", 1], refused.mean((0, 1)) - answered.mean((0, 1)), atol=1e-6)


def test_a_method_with_too_few_own_texts_is_left_out() -> None:
    asked = prompts("harm_train", 20)
    unsteered = [REFUSAL] * 10 + [ANSWER] * 10
    strong = [REFUSAL] * 17 + [ANSWER] * 3
    found, counts = comparison.own_texts_directions(load_tiny(), asked, unsteered, strong, [1])
    assert counts["both"] == comparison.MIN_TEXTS - 1
    assert set(found) == {("own", 1)}


def test_a_half_is_judged_by_the_shipped_direction_and_a_kept_norm_has_texts_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = (("response", 1), ("varied", 2), ("norm_kept", 1))
    monkeypatch.setattr(comparison, "VARIANTS", variants)
    # So strong that a kept norm is bound to show in the texts of a tiny random model.
    monkeypatch.setattr(comparison, "STRENGTH", 4.0)
    model, kept = load_tiny(), tmp_path / "texts.json"
    harmful = prompts("harm_train", 4)
    learned = comparison.learn_variants(model, harmful[::2], harmful[::2], variants, kept, "half 0")
    shipped = sr.learn_direction(model, harmful[::2], 1)
    assert torch.equal(learned["response", 1].vector, shipped.vector)
    assert learned["varied", 2].residual_norm == pytest.approx(
        sr.learn_direction(model, harmful[::2], 2).residual_norm
    )
    seen: dict[str, list[list[str]]] = {}
    complete = comparison.complete

    def watched(*given: object, mark: str = "") -> list[list[str]]:
        seen[mark] = complete(*given, mark=mark)  # type: ignore[arg-type]
        return seen[mark]

    monkeypatch.setattr(comparison, "complete", watched)
    judged = [*harmful[1::2], *prompts("benign_train", 2)]
    outcomes = comparison.judge_half(model, 0, harmful, judged, kept)
    assert [key[:2] for key in outcomes] == [("unsteered", 0), *variants]
    assert all(
        (len(found["harmful"]), len(found["benign"])) == (2, 2) for found in outcomes.values()
    )
    assert seen["-norm-kept"][0] != seen[""][1]


def test_fresh_prompts_alone_are_kept_in_their_order() -> None:
    scores = [sr.score("Why?", text) for text in (REFUSAL, ANSWER, REFUSAL)]
    outcomes = {("response", 1, 0.125): {"harmful": scores, "benign": scores[:2]}}
    flags = {"harmful": [False, True, True], "benign": [True, False]}
    [found] = comparison.restricted(outcomes, flags).values()
    assert found == {"harmful": scores[1:], "benign": scores[:1]}


def test_a_variant_that_one_half_could_not_learn_is_not_ranked() -> None:
    scores = [sr.score("Why?", text) for text in (REFUSAL, ANSWER)]
    whole = {"harmful": scores, "benign": scores}
    half = {"harmful": scores[:1], "benign": scores[:1]}
    outcomes = {("unsteered", 0, 0.0): whole, ("own", 12, 0.125): half}
    assert comparison.judged_throughout(outcomes) == {("unsteered", 0, 0.0): whole}


def test_varied_pairs_share_no_text_with_the_shipped_ones_and_are_of_like_length() -> None:
    shipped = {text for pair in DEFAULT_PAIRS for text in pair}
    texts = [text for pair in VARIED_PAIRS for text in pair]
    assert len(set(texts)) == 48
    assert not shipped & set(texts)
    for refusal, compliance in VARIED_PAIRS:
        assert abs(len(refusal.split()) - len(compliance.split())) <= 3


def test_the_strong_system_prompt_is_the_ladders() -> None:
    assert comparison.strong_system_prompt().startswith("You are a careful assistant.")
