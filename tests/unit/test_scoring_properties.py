"""What holds of every text: no exception, bounds, and invariances."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_reliability.scoring import coherence, score
from steering_reliability.scoring.refusal_rules import RULES, rules_held
from steering_reliability.scoring.text import END_OF_TURN, normalise, split_sentences, split_words

# Words that rules look for, so that random texts reach the branches behind them.
_VOCABULARY = (
    "I we can't cannot not help assist provide sorry but however instead illegal unethical is it "
    "the question as an AI don't have access privacy fictional here are steps: 1. 2. because "
    "everyone should equal rights you never a to of lock bread . , ! \" '"
)
WORDS = st.sampled_from([*_VOCABULARY.split(), "\n"])
TEXTS = st.one_of(st.text(max_size=300), st.lists(WORDS, max_size=60).map(" ".join))
MANY = settings(max_examples=300, deadline=None)


@MANY
@given(prompt=TEXTS, text=TEXTS)
def test_any_text_is_scored_within_bounds(prompt: str, text: str) -> None:
    found = score(prompt, text)
    assert 0 <= found.refusal_score <= 1
    assert 0 <= found.helpfulness_score <= 1
    assert found.is_refusal == (found.refusal_score >= 0.5)
    assert found.is_helpful == (found.helpfulness_score >= 0.5)
    assert found.is_refusal == (found.refusal_kind != "none") == (found.refusal_start is not None)
    assert not (found.is_refusal and found.is_helpful)
    assert not (found.is_degenerate and (found.refusal_score or found.helpfulness_score))
    if found.refusal_start is not None:
        assert 0 <= found.refusal_start < len(text)
    assert found == score(prompt, text)


@MANY
@given(prompt=TEXTS, text=TEXTS, marker=st.sampled_from(END_OF_TURN), tail=TEXTS)
def test_text_after_the_end_of_turn_is_ignored(
    prompt: str, text: str, marker: str, tail: str
) -> None:
    assert score(prompt, text + marker + tail) == score(prompt, text)


@MANY
@given(
    sentences=st.lists(
        st.sampled_from(["I can not help.", "No.", "1. Take 2 of it!", "That's all", "ab_c d e?"]),
        max_size=9,
    ),
    cut=st.integers(min_value=0, max_value=12),
    between=st.sampled_from([" ", "\n", " \n"]),
)
def test_what_is_said_often_recurs_word_by_word(
    sentences: list[str], cut: int, between: str
) -> None:
    """The quick look that comes first misses nothing."""
    text = between.join(sentences)
    text = text[: len(text) - cut]
    words = split_words(text)
    if coherence._says_often(text, len(words)):
        assert coherence._recurs(words, coherence.SAID_OFTEN)


@MANY
@given(prompt=TEXTS, text=TEXTS)
def test_typographic_characters_change_nothing(prompt: str, text: str) -> None:
    curly = text.replace("'", "\u2019").replace('"', "\u201d")
    assert score(prompt.replace("'", "\u2019"), curly) == score(prompt, text)


@MANY
@given(text=TEXTS)
def test_sentences_stand_where_they_say(text: str) -> None:
    plain = normalise(text)
    for sentence in split_sentences(plain):
        assert len(plain) >= sentence.start + len(sentence.text)
        assert sentence.text[0].lower() == plain[sentence.start].lower()[0]


@MANY
@given(text=st.lists(WORDS, max_size=60).map(" ".join))
def test_triggers_never_hide_a_match(text: str) -> None:
    for rule in RULES:
        assert rule.holds(text.lower()) == (rule.pattern.search(text.lower()) is not None)


@MANY
@given(text=st.lists(WORDS, max_size=60).map(" ".join))
def test_rules_are_held_to_hold_where_each_does(text: str) -> None:
    lowered = text.lower()
    held = rules_held(lowered)
    assert [rule for rule, _ in held] == [rule for rule in RULES if rule.holds(lowered)]
    for rule, words in held:
        assert rule.pattern.search(lowered, lowered.index(words)) is not None


@pytest.mark.parametrize(
    "piece", ["i ", "I am not ", "instead of ", "the question is ", "everyone should ", '"', "$$ "]
)
def test_long_texts_cost_no_more_than_their_length(piece: str) -> None:
    text = piece * (100_000 // len(piece)) + "end"
    start = time.process_time()
    score("Why should they be worse?", text)
    assert time.process_time() - start < 5


def test_scoring_imports_no_torch() -> None:
    code = "import sys, steering_reliability.scoring; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
