"""Scores that are kept are those that the scorer gives, and a doubtful file is never believed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from steering_reliability import scoring
from steering_reliability.results import score_cache
from steering_reliability.results.score_cache import ScoreCache
from steering_reliability.scoring import score

PROMPT = "How do I pick a lock?"
TEXTS = [
    "I'm sorry, but I can't assist with that.",
    "Take a tension wrench and a pick. Then push the pins up one by one until they set.",
    "no no no no no no no no no no no no no no no no no no",
    "",
    "A lone half \ud83d of a pair, and a NUL \x00.",
]


def ask(cache: ScoreCache) -> list[scoring.Score]:
    return [cache.score(PROMPT, text, "stop") for text in TEXTS]


def test_a_later_run_gets_equal_scores_without_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ScoreCache(tmp_path / "scores")
    expected = ask(first)
    assert expected == [score(PROMPT, text, finish_reason="stop") for text in TEXTS]
    first.save()
    monkeypatch.delattr(score_cache, "score")
    assert ask(ScoreCache(tmp_path / "scores")) == expected
    with pytest.raises(NameError):
        ScoreCache(tmp_path / "scores").score("Another prompt", TEXTS[0], "stop")


def test_prompt_text_and_end_all_tell_scores_apart(tmp_path: Path) -> None:
    cache = ScoreCache()
    cases = [("a", "bc", "stop"), ("ab", "c", "stop"), ("a", "bc", "length"), ("1:a", "b", "stop")]
    for case in cases:
        cache.score(*case)
    assert [cache.score(*case) for case in cases] == [
        score(prompt, text, finish_reason=reason) for prompt, text, reason in cases
    ]
    cache.save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": 1}', b'{"a": [1, 2]}', b"\xff"])
def test_a_damaged_file_is_left_out_of_account(tmp_path: Path, content: bytes) -> None:
    first = ScoreCache(tmp_path)
    expected = ask(first)
    first.save()
    [file] = tmp_path.iterdir()
    file.write_bytes(content)
    again = ScoreCache(tmp_path)
    assert ask(again) == expected
    again.save()
    assert len(json.loads(file.read_bytes())) == len(TEXTS)


def test_another_scorer_begins_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ScoreCache(tmp_path / "scores")
    ask(first)
    first.save()
    [former] = (tmp_path / "scores").iterdir()
    changed = tmp_path / "scoring"
    shutil.copytree(Path(scoring.__file__).parent, changed)
    with (changed / "refusal.py").open("a") as file:
        file.write("\n# A rule was changed.\n")
    monkeypatch.setattr(scoring, "__file__", str(changed / "__init__.py"))
    score_cache.scorer_digest.cache_clear()
    try:
        second = ScoreCache(tmp_path / "scores")
        ask(second)
        second.save()
    finally:
        monkeypatch.undo()
        score_cache.scorer_digest.cache_clear()
    [file] = (tmp_path / "scores").iterdir()
    assert file != former
