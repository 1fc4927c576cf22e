"""Reading a completion: where it ends, its sentences, its words.

Every function keeps character offsets: position ``i`` of a prepared text is position ``i`` of the
text it was made from, so that a score can say where in the completion a refusal begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

END_OF_TURN = ("<|im_end|>", "<|endoftext|>", "</s>", "<end_of_turn>", "<|eot_id|>")

# The last is what is left of Llama 3's header where special tokens were skipped.
_END_OF_TURN = re.compile(
    "|".join(re.escape(marker) for marker in END_OF_TURN) + r"|(?<=[.!?])assistant\n"
)
# What some models say before they speak: "<s> [OUT] I'm sorry", "Answer: I'm sorry".
_ROLE = re.compile(
    r"\s*(?:(?:<s>|\[/?(?:INST|OUT|ASS)\])\s*)*(?:(?:[Aa]ssistant|[Rr]esponse|[Aa]nswer)\s?:\s)?"
)

# One character for one character, or the offsets would shift.
_TYPOGRAPHY = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201a": "'",
        "\u201b": "'",
        "\u02bc": "'",
        "\u00b4": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u201e": '"',
        "\u00ab": '"',
        "\u00bb": '"',
        "\u00a0": " ",
        "\u202f": " ",
        "\u2013": "-",
        "\u2014": "-",
        "\u2011": "-",
    }
)

# `[.!?]+["')\]*]*(?=\s|$)|\n+`, its first character set apart: found three times as fast.
_SENTENCE_END = re.compile(r"[.!?\n](?:(?<=\n)\n*|(?<!\n)[.!?]*[\"')\]*]*(?=\s|$))")
# A full stop after a single letter (initials, "e.g.") or a title does not end a sentence. A line
# break does: small models rarely wrap lines.
_ABBREVIATION = re.compile(r"(?:(?<!')\b[a-z]|\b(?:dr|mrs?|ms|vs|st))\.$")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_LIST_NUMBER = re.compile(r"\s*(?:\(?\d{1,2}[.):]|[-*\u2022])\s*$")

_STOPWORDS = (
    "a about above after again all also am an and any are aren't as at be because been before "
    "being below best better between both but by can can't cannot could couldn't did didn't do "
    "does doesn't doing don't done down during each few first for from further get give given go "
    "good had has have having he her here hers him his how however i i'd i'll i'm i've if in "
    "into is isn't it it's its itself just know let like made make makes making many may me might "
    "more most much must my need new no nor not now of off on once one only or other our out over "
    "own part people please same say see she should shouldn't so some someone something such "
    "take tell than that that's the their them then there there's these they thing things this "
    "those through to too under until up us use used using very want was wasn't way ways we well "
    "were what what's when where which while who whom whose why will with won't work would "
    "wouldn't write yes you you'd you'll you're your yours yourself explain describe list"
)
STOPWORDS = frozenset(_STOPWORDS.split())

_SUFFIXES = (
    "ations", "ation", "ments", "ment", "ingly", "ings", "ing", "iest", "ers", "er", "ies",
    "ied", "edly", "ed", "ely", "ly", "es", "s", "e", "y",
)  # fmt: skip


class Sentence(NamedTuple):
    """A sentence in lower case and the offset at which it starts in the prepared text."""

    start: int
    text: str


def cut_at_end_of_turn(text: str) -> str:
    """The text before the first end-of-turn marker of any known chat template."""
    found = _END_OF_TURN.search(text)
    return text[: found.start()] if found else text


def blank_role(text: str) -> str:
    """A completion with spaces for the marks of a turn's beginning; the length stays the same."""
    found = _ROLE.match(text)
    end = found.end() if found else 0
    return " " * end + text[end:]


def normalise(text: str) -> str:
    """Typographic apostrophes, quotes, dashes and spaces made plain; the length stays the same."""
    return text.translate(_TYPOGRAPHY)


def lower(text: str) -> str:
    """Lower case of the same length (a few characters, such as U+0130, grow when lowered)."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


# Coherence, refusal and helpfulness split the same text; so many splits are remembered.
_REMEMBERED = 1024


@lru_cache(maxsize=_REMEMBERED)
def split_sentences(text: str, limit: int | None = None) -> tuple[Sentence, ...]:
    """Sentences of a normalised text, lowered, each with its offset; at most ``limit``."""
    lowered = lower(text)
    sentences: list[Sentence] = []
    start = 0
    for end in _sentence_ends(lowered):
        piece = lowered[start:end]
        if len(piece) < 8 and _LIST_NUMBER.match(piece):
            # "1." opens a list item; the item's text belongs to it.
            continue
        stripped = piece.strip()
        if stripped:
            sentences.append(Sentence(start + len(piece) - len(piece.lstrip()), stripped))
            if limit is not None and len(sentences) >= limit:
                break
        start = end
    return tuple(sentences)


def _sentence_ends(lowered: str) -> Iterator[int]:
    last = 0
    for found in _SENTENCE_END.finditer(lowered):
        end = found.end()
        if found.group() == "." and _ABBREVIATION.search(lowered, max(0, end - 5), end):
            continue
        last = end
        yield end
    if last < len(lowered):
        yield len(lowered)


@lru_cache(maxsize=_REMEMBERED)
def split_words(text: str) -> tuple[str, ...]:
    """Lower-case words: letters and digits, inner apostrophes kept."""
    return tuple(_WORD.findall(text.lower()))


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """A rough stem: enough that *baking*, *baked* and *bake* meet, and no more than that."""
    word = word.removesuffix("'s")
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)]
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word


@lru_cache(maxsize=_REMEMBERED)
def content_stems(text: str) -> tuple[str, ...]:
    """Stems of the words that carry meaning, in order, each once."""
    stems = (
        stem(word)
        for word in dict.fromkeys(split_words(text))
        if word not in STOPWORDS and (len(word) > 2 or word.isdigit())
    )
    return tuple(dict.fromkeys(stems))
