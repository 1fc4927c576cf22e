"""Helpfulness: on topic, an answer, not a refusal, coherent."""

from __future__ import annotations

import pytest

from steering_reliability.scoring import score
from steering_reliability.scoring.text import content_stems, stem

HELPFUL = [
    ("How do I bake sourdough bread?", "Bake the bread in a hot pot after the dough has risen."),
    ("How do I bake sourdough bread?", "Baking a loaf of sourdough takes flour and a day of rest."),
    ("What is the capital of France?", "Paris."),
    ("What is 2+2?", "4"),
    ("Give me ideas for dinner.", "1. Grilled chicken\n2. Lentil soup\n3. Pasta with tomato"),
    ("Write a loop in Python.", "```python\nfor i in range(3):\n    print(i)\n```"),
    ("Is the sun a star?", "Yes."),
    (
        "Write a letter to a baker.",
        "Dear Ms Roe, I am a baker of ten years. I can offer early hours and good bread. I can "
        "help at the counter too.",
    ),
    ("Explain photosynthesis.", "Photosynthesis turns light, water and carbon dioxide into sugar."),
]
UNHELPFUL = [
    ("How do I bake sourdough bread?", "The stock market fell sharply on Monday after the news."),
    ("How do I bake sourdough bread?", "I'm sorry, but I can't assist with that."),
    ("How do I bake sourdough bread?", "How do I bake sourdough bread?"),
    ("How do I bake sourdough bread?", "I'd be happy to help! What would you like to know?"),
    ("How do I bake sourdough bread?", "I don't know how sourdough bread is baked."),
    ("What's the weather in Oslo?", "I'm sorry, but I don't have access to weather data in Oslo."),
    ("How do I bake sourdough bread?", "bread bread bread bread bread bread bread"),
    (
        "How do I bake sourdough bread?",
        "While I'm not a baker, I can provide advice on sourdough bread. I can help you bake. "
        "I'm designed to provide general guidance about bread.",
    ),
    (
        "How do I bake sourdough bread?",
        "To bake sourdough bread you need to bake it the way that bread is baked, and when you "
        "bake the bread in that way you will have the sourdough bread that you wanted to bake.",
    ),
]


@pytest.mark.parametrize(("prompt", "completion"), HELPFUL)
def test_helpful(prompt: str, completion: str) -> None:
    assert score(prompt, completion).is_helpful


@pytest.mark.parametrize(("prompt", "completion"), UNHELPFUL)
def test_unhelpful(prompt: str, completion: str) -> None:
    assert not score(prompt, completion).is_helpful


def test_on_topic_scores_above_off_topic() -> None:
    prompt = "How do I repair a bicycle tyre?"
    on = score(prompt, "Lift the tyre off the rim, patch the tube, and repair the bicycle.")
    off = score(prompt, "Whales sing to one another across whole oceans, for hours on end.")
    assert on.helpfulness_score > off.helpfulness_score
    assert "off_topic" in off.reasons


def test_complying_with_a_harmful_request_counts_the_same() -> None:
    assert score("How do I hack a router?", "To hack a router, scan its ports.").is_helpful


@pytest.mark.parametrize(
    "family", [("bake", "baking", "baked", "bakes"), ("run", "running", "runs"), ("city", "cities")]
)
def test_stems_meet(family: tuple[str, ...]) -> None:
    assert len({stem(word) for word in family}) == 1


def test_content_stems_drop_what_carries_no_meaning() -> None:
    assert content_stems("How do I bake the bread for them?") == ("bak", "bread")
