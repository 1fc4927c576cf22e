"""What a report says of its directions: each figure per layer, with a sentence on what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import methodcaller
from typing import Any


def direction_table(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The directions' figures as rows of a table, a column for each direction.

    Args:
        records: as the manifest has them.

    Returns:
        ``layers`` and ``rows`` with ``name``, ``values`` and ``meaning``; None without a direction.
        A figure that was measured for none is left out.
    """
    if not records:
        return None
    rows = [
        {"name": name, "values": [value_of(record) for record in records], "meaning": meaning}
        for name, value_of, meaning in _FIGURES
    ]
    return {
        "layers": [record.get("layer") for record in records],
        "rows": [row for row in rows if any(value is not None for value in row["values"])],
    }


def _learned_from(record: Mapping[str, Any]) -> str:
    return f"{len(record.get('prompt_ids') or [])} prompts"


def _raw_to_residual(record: Mapping[str, Any]) -> float | None:
    raw, residual = record.get("raw_norm"), record.get("residual_norm")
    return float(raw) / float(residual) if raw and residual else None


class _Measured:
    """Figures of a direction's record or diagnostics, side by side; None where one is missing."""

    def __init__(self, *keys: str) -> None:
        self._keys = keys

    def __call__(self, record: Mapping[str, Any]) -> str | None:
        known = {**record, **(record.get("diagnostics") or {})}
        found = [known.get(key) for key in self._keys]
        return None if None in found else ", ".join(f"{value:.3f}" for value in found)


_FIGURES = (
    ("method", methodcaller("get", "method"), ""),
    ("learned from", _learned_from, ""),
    (
        "raw norm",
        methodcaller("get", "raw_norm"),
        "before it was made a unit vector, in the units of the residual stream",
    ),
    (
        "median residual norm",
        methodcaller("get", "residual_norm"),
        "of response tokens at the layer; alpha counts in it",
    ),
    ("raw / residual", _raw_to_residual, "below .001 it would be rounding noise, and is refused"),
    (
        "agreement of pairs",
        _Measured("pair_agreement"),
        "mean cosine between directions of different prefix pairs; pairs in other words that agree "
        "speak for a common meaning",
    ),
    (
        "least and most of pairs",
        _Measured("pair_cosine_min", "pair_cosine_max"),
        "of any two pairs",
    ),
    (
        "the same on other prompts",
        _Measured("halved_agreement"),
        "one pair on half of the prompts with another on the other half, where rounding noise "
        "cannot agree",
    ),
    (
        "the least of it, of 95% of halvings",
        _Measured("halved_agreement_low"),
        "of random halvings 95% agree by more than this; direction_is_real asks for more here than "
        "95% of placebo pairs reach",
    ),
    (
        "95% of placebo pairs",
        _Measured("placebo_agreement"),
        "pairs of texts that differ in nothing that matters agree by less than this",
    ),
    (
        "share on benign prompts",
        _Measured("benign_share"),
        "the part that the same prefixes explain on benign prompts (squared cosine); near 1 it is "
        "the difference of the texts more than refusing what is harmful",
    ),
    (
        "agreement of prompts",
        _Measured("prompt_agreement"),
        "mean cosine of one prompt's direction with that of all others; fixed prefixes bring it "
        "near 1 whatever the direction means, and so the four below: they decide nothing",
    ),
    (
        "split halves, with 90%",
        _Measured("split_half_median", "split_half_low", "split_half_high"),
        "cosine between the directions of two random halves of the prompts; low where a direction "
        "is made of few prompts",
    ),
    (
        "left-out prompts",
        _Measured("left_out_prompts"),
        "share of differences on the refusal side of the direction learned without their prompt; "
        ".5 is chance",
    ),
    ("left-out pairs", _Measured("left_out_pairs"), "the same without their pair"),
    (
        "left-out AUC",
        _Measured("left_out_auc"),
        "chance that an activation after a refusal lies above one after a compliance, of prompts "
        "and pairs that the direction was not learned from",
    ),
    ("hash", methodcaller("get", "hash"), ""),
)
