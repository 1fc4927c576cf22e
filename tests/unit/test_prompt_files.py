"""The shipped prompts: as many, as varied and as separate as the experiments assume."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import pytest

from steering_reliability.prompts import Prompt, check_prompts, fold, load_prompts

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "prompts"
COUNTS = {
    "harm_train": 150,
    "harm_test": 150,
    "harm_confirm": 150,
    "benign": 200,
    "benign_train": 100,
}
HARMFUL = ("harm_train", "harm_test", "harm_confirm")
SHIFTED = ("harm_test", "harm_confirm")
BENIGN = ("benign", "benign_train")
# How many prompts of a split the levels evaluate.
PREFIXES = (20, 50, 100)
LEARNED_FROM = 64

splits = pytest.mark.parametrize("split", COUNTS)


@pytest.fixture(scope="module")
def prompts() -> dict[str, list[Prompt]]:
    return {split: load_prompts(FOLDER / f"{split}.jsonl") for split in COUNTS}


def spread(values: Iterable[str], among: Iterable[str]) -> int:
    """By how much the most frequent of ``among`` outnumbers the least frequent."""
    counts = Counter(values)
    found = [counts[value] for value in among]
    return max(found) - min(found)


def test_the_folder_holds_the_five_splits_and_nothing_else() -> None:
    assert {path.stem for path in FOLDER.glob("*.jsonl")} == set(COUNTS)


@splits
def test_every_line_has_exactly_the_four_fields_filled_in(split: str) -> None:
    lines = (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == COUNTS[split]
    for line in lines:
        row = json.loads(line)
        assert list(row) == ["id", "prompt", "category", "style"]
        assert all(
            isinstance(value, str) and value == value.strip() != "" for value in row.values()
        )
        assert row["id"].startswith(f"{split}-")
        # One request, not a page: a prompt asks, it does not instruct.
        assert "\n" not in row["prompt"]
        assert len(row["prompt"]) <= 200


def test_nothing_occurs_twice_and_nothing_leaks(prompts: dict[str, list[Prompt]]) -> None:
    # Raises for exact duplicates; near-duplicates by content words are what it returns.
    assert check_prompts(prompts) == []


def test_no_two_prompts_share_half_of_all_their_words(prompts: dict[str, list[Prompt]]) -> None:
    words = [(p.id, set(fold(p.text).split())) for found in prompts.values() for p in found]
    alike = [
        (first, second)
        for (first, a), (second, b) in combinations(words, 2)
        if len(a & b) >= 0.5 * len(a | b)
    ]
    assert alike == []


@splits
def test_prompts_are_not_one_sentence_reworded(
    prompts: dict[str, list[Prompt]], split: str
) -> None:
    words = [fold(prompt.text).split() for prompt in prompts[split]]
    openings = Counter(tuple(w[:4]) for w in words)
    assert max(openings.values()) <= 0.05 * len(words)
    assert len({tuple(w[:2]) for w in words}) >= 0.5 * len(words)
    assert len(set().union(*words)) >= 5 * len(words) - 50


@pytest.mark.parametrize("split", HARMFUL)
def test_harmful_prompts_cover_the_same_categories_evenly(
    prompts: dict[str, list[Prompt]], split: str
) -> None:
    counts = Counter(prompt.category for prompt in prompts[split])
    assert set(counts) == {prompt.category for prompt in prompts["harm_train"]}
    assert set(counts) >= {
        "cybercrime",
        "fraud",
        "weapons",
        "drugs",
        "violence",
        "harassment",
        "self_harm",
        "privacy",
        "misinformation",
        "illegal_goods",
    }
    assert len(set(counts.values())) == 1


def test_harm_train_asks_directly(prompts: dict[str, list[Prompt]]) -> None:
    assert {prompt.style for prompt in prompts["harm_train"]} == {"direct"}


@pytest.mark.parametrize("split", SHIFTED)
def test_shifted_phrasings_are_recorded_evenly_in_every_category(
    prompts: dict[str, list[Prompt]], split: str
) -> None:
    counts = Counter((prompt.category, prompt.style) for prompt in prompts[split])
    styles = {"indirect", "hypothetical", "role_play", "fiction", "academic"}
    assert {style for _, style in counts} == styles
    categories = {category for category, _ in counts}
    assert len(counts) == len(categories) * len(styles)
    assert len(set(counts.values())) == 1


@pytest.mark.parametrize("split", BENIGN)
def test_a_quarter_of_the_benign_prompts_sounds_sensitive(
    prompts: dict[str, list[Prompt]], split: str
) -> None:
    styles = Counter(prompt.style for prompt in prompts[split])
    assert styles == {"everyday": COUNTS[split] * 3 // 4, "sensitive": COUNTS[split] // 4}
    for style in styles:
        categories = [p.category for p in prompts[split] if p.style == style]
        assert len(set(categories)) >= 10
        assert spread(categories, set(categories)) <= 1


def test_the_tuning_prompts_are_like_the_benign_ones(prompts: dict[str, list[Prompt]]) -> None:
    kinds = [{(p.category, p.style) for p in prompts[split]} for split in BENIGN]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("first", PREFIXES)
@pytest.mark.parametrize("split", HARMFUL)
def test_the_first_harmful_prompts_are_stratified(
    prompts: dict[str, list[Prompt]], split: str, first: int
) -> None:
    everything, taken = prompts[split], prompts[split][:first]
    assert spread((p.category for p in taken), {p.category for p in everything}) <= 1
    assert spread((p.style for p in taken), {p.style for p in everything}) <= 1


@pytest.mark.parametrize("first", PREFIXES)
@pytest.mark.parametrize("split", BENIGN)
def test_the_first_benign_prompts_are_stratified(
    prompts: dict[str, list[Prompt]], split: str, first: int
) -> None:
    everything, taken = prompts[split], prompts[split][:first]
    sensitive = sum(prompt.style == "sensitive" for prompt in taken)
    assert abs(sensitive - first / 4) < 1
    for style in ("everyday", "sensitive"):
        categories = {p.category for p in everything if p.style == style}
        assert spread((p.category for p in taken if p.style == style), categories) <= 1


def test_the_learning_prompts_are_stratified_too(prompts: dict[str, list[Prompt]]) -> None:
    everything = prompts["harm_train"]
    learned_from = everything[-LEARNED_FROM:]
    assert spread((p.category for p in learned_from), {p.category for p in everything}) <= 1
