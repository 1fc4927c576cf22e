"""The first columns of every ``summary.csv``, on whose names and order readers' scripts rely."""

from __future__ import annotations

COLUMNS = [
    "split",
    "layer",
    "alpha",
    "intervention_type",
    "refusal_score_mean",
    "refusal_score_std",
    "is_refusal_mean",
    "helpfulness_score_mean",
    "helpfulness_score_std",
    "is_helpful_mean",
    "char_length_mean",
    "char_length_std",
]
