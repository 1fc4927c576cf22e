"""The comparison of learning methods judges what is shipped, and goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import steering_reliability as sr
from benchmarks import directions as comparison
from tests.tiny_models import load_tiny


def prompts(split: str, count: int = 4) -> list[sr.Prompt]:
    texts = [f"How is number {number} of {split} made?" for number in range(count)]
    return [
        sr.Prompt(id=f"{split}-{number}", text=text, split=split)
        for number, text in enumerate(texts)
    ]


def test_its_shipped_variant_is_the_direction_that_is_shipped() -> None:
    model = load_tiny()
    harmful = comparison.read_means(model, prompts("harm_train"), [1, 2])
    benign = comparison.read_means(model, prompts("benign_train"), [1, 2])
    for layer in (1, 2):
        made = comparison.make_direction("response", layer, harmful[layer], benign[layer])
        shipped = sr.learn_direction(model, prompts("harm_train"), layer)
        assert torch.allclose(made.vector, shipped.vector, atol=1e-4)
        assert made.raw_norm == pytest.approx(shipped.raw_norm, rel=1e-3)
        assert made.residual_norm == pytest.approx(shipped.residual_norm, rel=1e-3)


def test_less_the_benign_contrast_leaves_nothing_along_it() -> None:
    model = load_tiny()
    harmful = comparison.read_means(model, prompts("harm_train"), [2])[2]
    benign = comparison.read_means(model, prompts("benign_train"), [2])[2]
    made = comparison.make_direction("minus_benign", 2, harmful, benign)
    shared = benign.contrasts["response"].mean(0)
    assert abs(float(made.vector @ shared / shared.norm())) < 1e-3


def test_a_stopped_comparison_goes_on_from_the_completions_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "VARIANTS", (("response", 1), ("harmful_benign", 2)))
    monkeypatch.setattr(comparison, "SHIPPED", ("response", 1))
    model, kept = load_tiny(), tmp_path / "texts.json"
    harmful, benign = prompts("harm_train"), prompts("benign_train")
    first = comparison.judge_fold(model, 0, harmful, benign, [0.125], kept)
    assert {name: len(found["harmful"]) for name, found in first.items()} == {
        ("unsteered", 0, 0.0): 2,
        ("response", 1, 0.125): 2,
        ("harmful_benign", 2, 0.125): 2,
    }
    written = kept.read_text("utf-8")
    assert comparison.judge_fold(model, 0, harmful, benign, [0.125], kept) == first
    assert kept.read_text("utf-8") == written
