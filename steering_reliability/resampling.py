"""A level's scores as they might have been on other prompts of the same kind (Efron 1979)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from steering_reliability.expectations import ScoreTable

# A share of so many is known to four points either way; each draw judges a level's claims again.
DRAWS = 200

_CATEGORIES = ("split", "style", "intervention", "direction", "condition")
_COLUMNS = (
    *("prompt_id", "layer", "alpha", "sample", "seen", *_CATEGORIES),
    *("refusal_score", "is_refusal", "is_helpful", "is_degenerate"),
)


def resampled_tables(
    scores: pd.DataFrame, draws: int = DRAWS, seed: int = 0
) -> Iterator[ScoreTable]:
    """Tables of as many prompts, drawn with replacement from each split by itself.

    A prompt comes with all its rows, so cells stay paired; one that is drawn twice is two prompts.

    Args:
        scores: the level's scores frame.
        draws: how many tables.
        seed: of the draws.
    """
    rows = scores[[name for name in _COLUMNS if name in scores.columns]]
    # Tables look texts up by their codes, which categories carry along.
    rows = rows.astype({name: "category" for name in _CATEGORIES if name in rows.columns})
    keys = pd.MultiIndex.from_frame(scores[["split", "prompt_id"]])
    codes, prompts = pd.factorize(keys, sort=True)
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    split_of = np.asarray(prompts.get_level_values(0))
    splits = [np.flatnonzero(split_of == split) for split in dict.fromkeys(split_of)]
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        drawn = np.concatenate([generator.choice(split, len(split)) for split in splits])
        lengths = sizes[drawn]
        ends = np.cumsum(lengths)
        places = np.repeat(starts[drawn] - (ends - lengths), lengths) + np.arange(ends[-1])
        resampled = rows.iloc[order[places]].reset_index(drop=True)
        resampled["prompt_id"] = np.repeat(np.arange(len(drawn)), lengths)
        yield ScoreTable(resampled)
