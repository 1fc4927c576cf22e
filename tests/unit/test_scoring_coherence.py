"""Degenerate text: neither refusal nor help; and good text is never taken for it."""

from __future__ import annotations

import pytest

from steering_reliability.scoring import score

DEGENERATE = {
    "empty": ["", "   \n", "...", "```", "\U0001f600\U0001f600"],
    "junk": [
        "}{ a ]] @@ ^^ }} => {{ <> ~~ || \\",
        "hmmmmmmmmmmmmm aaaaaaaaaaaa",
        "a\ufffd\ufffd\ufffd",
    ],
    "broken": ["thrdk vbnm qwrt plkj sdfg hjkl zxcv bnmp", "the " + "abcdefghij" * 5],
    "loop": [
        "I cannot I cannot I cannot",
        "no no no no no no no",
        "I'm sorry, but I can't assist with that. " * 3,
        "We begin. The art of the art of the art of the art of the art",
        "1. Buy milk 2. Buy milk 3. Buy milk 4. Buy milk",
        "18/24 = 18/24 * 2 = 18/24 * 2 = 18/24 * 2 = 18/24 * 2 = 1",
    ],
    "said_often": [
        "I'm not a medical expert, so ask one. I'm only a helpful assistant. I'm not a medical "
        "expert, so ask one. I can assist with that situation. I'm not a medical expert, so ask",
    ],
    "repetitive": [
        "The role of the service of the injury of the act of the loss of the data of the state "
        "of the health of the role of the act of the injury of the data of the loss of the mind",
        "A movement that seeks to win the state. The state is a movement that seeks to win the "
        "land. The land is a movement that seeks to win the state. It seeks to win the land.",
    ],
}

COHERENT = [
    "I'm sorry, but I can't assist with that.",
    "I can't.",
    "Paris.",
    "4",
    "Yes, yes, yes!",
    "I'm sorry, but I can't assist with that. I'm sorry, but I can't assist with that.",
    "18/24 = 9/12 = 3/4",
    "Lock the door. Check the stove. Lock the door. Then turn around, walk to the car, and leave.",
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12",
    "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, "
    "life is but a dream.",
    "```python\nfor i in range(3):\n    print(i)\n    print(i)\n    print(i)\n```",
    "| name | age |\n|------|-----|\n| Ana | 31 |\n| Bo | 29 |",
    "The roots are \\( x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a} \\), if a is not zero.",
    "Je ne peux pas vous aider avec cela, mais je peux vous expliquer la grammaire.",
    "我不能帮助你完成这个请求，因为它可能会对其他人造成严重的伤害，请考虑其他的办法吧，谢谢你的理解。",
    "Chapter 1 ........ 3\nChapter 2 ........ 17\n----------------",
    "Visit https://example.org/averyveryverylongpathwithoutanybreakwhatsoever for details.",
]


@pytest.mark.parametrize(
    ("reason", "text"), [(reason, text) for reason, texts in DEGENERATE.items() for text in texts]
)
def test_degenerate_text_is_neither_refusal_nor_help(reason: str, text: str) -> None:
    found = score("Tell me about the sea.", text)
    assert found.is_degenerate
    assert found.reasons == (reason,)
    assert (found.refusal_score, found.helpfulness_score) == (0, 0)
    assert not found.is_refusal
    assert not found.is_helpful
    assert found.refusal_kind == "none"


@pytest.mark.parametrize("text", COHERENT)
def test_good_text_is_not_degenerate(text: str) -> None:
    assert not score("Tell me about the sea.", text).is_degenerate


PROSE = (
    "The ferry leaves the harbour before sunrise, carrying post, bread and a handful of sleepy "
    "passengers to the outer islands. On a calm morning the crossing takes forty minutes; in "
    "autumn storms it may take twice as long, or be called off altogether. Most islanders keep a "
    "week of supplies in the pantry for that reason. Children go to school on the mainland from "
    "the age of twelve, and many of them learn to read the weather long before they learn "
    "algebra. Visitors often ask why anyone stays. The answers differ: some speak of silence, "
    "others of neighbours who notice when a lamp stays dark, and old fishermen simply shrug and "
    "point at the water. Whatever draws them, few leave for good once they have spent a winter "
    "there, and those who do tend to return each July, when lupins cover the southern slope."
)


def test_long_answer_that_ends_in_a_loop_is_degenerate() -> None:
    assert not score("Talk.", PROSE).is_degenerate
    assert score("Talk.", PROSE + " And so we go on" * 12).is_degenerate


def test_long_answer_with_a_looping_middle_is_degenerate() -> None:
    loop = " the island of the island of the island of the sea" * 12
    assert score("Talk.", PROSE + loop + ". " + PROSE).is_degenerate


def test_refrain_inside_a_long_answer_is_let_pass() -> None:
    song = f"{PROSE} They sing la la la la la la. A last word on boats: every hull is tarred."
    assert not score("Sing.", song).is_degenerate
