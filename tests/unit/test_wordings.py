"""The pairs in other words: nothing of their wording is that of the pairs they stand in for."""

from __future__ import annotations

import itertools
import re

from steering_reliability.directions import DEFAULT_PAIRS, OTHER_PAIRS
from steering_reliability.log_odds import COMPLIANCE_TEXTS, REFUSAL_TEXTS


def couples(text: str) -> set[tuple[str, str]]:
    words = re.findall(r"[a-z']+", text.lower())
    return set(itertools.pairwise(words))


def test_no_two_words_in_a_row_are_those_of_other_texts() -> None:
    others = [text for pair in OTHER_PAIRS for text in pair]
    assert len(set(others)) == 16
    for text in [*REFUSAL_TEXTS, *COMPLIANCE_TEXTS, *(t for pair in DEFAULT_PAIRS for t in pair)]:
        for other in others:
            assert not couples(text) & couples(other), (text, other)


def test_no_telling_word_is_that_of_the_shipped_pairs() -> None:
    # Short words are those of any English sentence.
    def telling(pairs: tuple[tuple[str, str], ...]) -> set[str]:
        texts = " ".join(text for pair in pairs for text in pair).lower()
        return {word for word in re.findall(r"[a-z']+", texts) if len(word) > 4}

    assert not telling(OTHER_PAIRS) & telling(DEFAULT_PAIRS)
