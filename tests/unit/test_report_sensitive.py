"""Benign prompts that sound harmful, as the page tells them beside the others."""

from __future__ import annotations

import pytest
from report_runs import make_scores

from steering_reliability.report.sensitive import sensitive_rows


def test_both_kinds_are_told_apart_and_against_the_unsteered_model() -> None:
    scores = make_scores(n=40, alphas=(0, 2))
    benign = scores["split"] == "benign"
    plain = benign & scores["prompt_id"].str[-3:].astype(int).ge(10)
    scores.loc[plain, "style"] = "plain"
    scores.loc[benign, "is_refusal"] = False
    scores.loc[benign & ~plain & (scores["alpha"] == 2), "is_refusal"] = True
    unsteered, steered = sensitive_rows(scores)
    assert (unsteered["alpha"], steered["alpha"]) == (0, 2)
    assert unsteered["sensitive"] == {"rate": 0, "n": 10, "change": None}
    assert steered["sensitive"]["rate"] == steered["sensitive"]["change"] == 1
    assert 0 < steered["sensitive"]["low"] < 1
    assert steered["other"]["change"] == pytest.approx(0)
    assert steered["other"]["n"] == 30


def test_without_such_prompts_there_is_nothing_to_tell() -> None:
    scores = make_scores(n=10)
    assert sensitive_rows(scores[scores["split"] != "benign"]) == []
    assert sensitive_rows(scores.assign(style="plain")) == []
