"""Exact and near duplicates, within a split and between splits. Knows nothing about files."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache

from steering_reliability.errors import SteeringError
from steering_reliability.prompts.prompt import Prompt, short

NEAR_DUPLICATE = 0.5
_APOSTROPHES = frozenset("'\u2019\u02bc")

# Words that say how something is asked rather than what is asked for: two prompts that share only
# these are not alike, however short they are.
_FUNCTION_WORDS_TEXT = """
    a about after all also am an and any are as at be because been before being but by can could
    did do does doing done for from get give had has have having he her him his how i if in into
    is it its just let like lets many me might more most much must my need not of off on one only
    or our out over please she should so some tell than that the their them then there these they
    this those through to too under up us very want was way ways we were what when where which
    while who whom whose why will with without would you your yours
    im ive id ill youre youve dont cant isnt whats hows theyre thats
"""
_FUNCTION_WORDS = frozenset(_FUNCTION_WORDS_TEXT.split())


def fold(text: str) -> str:
    """The text without case, white space runs and punctuation, to compare exact duplicates by.

    Symbols stay (``C++`` is not ``C``), apostrophes vanish (``can't`` is ``cant``).
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = "".join(_folded_character(character) for character in plain)
    return " ".join(kept.split()) or text.strip()


def similarity(first: str, second: str) -> float:
    """Jaccard similarity of the two texts' sets of content words, in [0, 1] (Jaccard, 1912)."""
    a, b = _content_words(first), _content_words(second)
    return len(a & b) / len(a | b)


def near_duplicates(
    prompts: Sequence[Prompt], threshold: float = NEAR_DUPLICATE
) -> list[tuple[Prompt, Prompt, float]]:
    """Pairs of prompts whose content words are alike, most alike first.

    Args:
        prompts: prompts of one or several splits.
        threshold: least :func:`similarity` that counts, above 0.

    Returns:
        (earlier prompt, later prompt, similarity), exact duplicates included.
    """
    word_sets = [_content_words(prompt.text) for prompt in prompts]
    seen_with: defaultdict[str, list[int]] = defaultdict(list)
    pairs = []
    for index, words in enumerate(word_sets):
        shared = Counter(other for word in words for other in seen_with[word])
        for other, count in shared.items():
            likeness = count / (len(words) + len(word_sets[other]) - count)
            if likeness >= threshold:
                pairs.append((other, index, likeness))
        for word in words:
            seen_with[word].append(index)
    pairs.sort(key=lambda pair: (-pair[2], pair[0], pair[1]))
    return [(prompts[first], prompts[second], likeness) for first, second, likeness in pairs]


def check_prompts(splits: Mapping[str, Sequence[Prompt]]) -> list[str]:
    """Check the prompts of a level together: nothing twice, nothing in two splits.

    Returns:
        One line per near-duplicate pair, as warnings.

    Raises:
        SteeringError: an id or a text (but for case, white space and punctuation) occurs twice,
            in one split or in two.
    """
    ids: dict[str, str] = {}
    texts: dict[str, tuple[str, str]] = {}
    for split, prompts in splits.items():
        for prompt in prompts:
            if prompt.id in ids:
                raise SteeringError(
                    f"{split}: id: found {prompt.id!r} also in {ids[prompt.id]}, "
                    "expected an id once in all splits; rename one"
                )
            ids[prompt.id] = split
            folded = fold(prompt.text)
            if folded in texts:
                other_split, other_id = texts[folded]
                what = "duplicate" if other_split == split else f"leak from {other_split}"
                raise SteeringError(
                    f"{split}: prompt {prompt.id}: found the text of {other_id} ({what}): "
                    f"{short(prompt.text)}, expected each text once in all splits; remove one"
                )
            texts[folded] = (split, prompt.id)
    everything = [prompt for prompts in splits.values() for prompt in prompts]
    return [
        f"near-duplicate prompts: {ids[first.id]} {first.id} and {ids[second.id]} {second.id} "
        f"share {likeness:.0%} of their content words: {short(first.text)} / {short(second.text)}"
        for first, second, likeness in near_duplicates(everything)
    ]


@lru_cache(maxsize=4096)
def _folded_character(character: str) -> str:
    kind = unicodedata.category(character)
    if character in _APOSTROPHES:
        return ""
    return character if kind[0] in "LMN" or kind in {"Sm", "Sc", "So"} else " "


def _content_words(text: str) -> frozenset[str]:
    words = frozenset(fold(text).split())
    return words - _FUNCTION_WORDS or words
