"""What a report says of its directions: each figure per layer, with a sentence on what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class _Figure:
    """A figure of a direction.

    Attributes:
        name: as the report heads it.
        keys: of the direction's diagnostics, or of its record.
        meaning: what it says, and of what.
    """

    name: str
    keys: tuple[str, ...]
    meaning: str


_FIGURES = (
    _Figure(
        "agreement of pairs",
        ("pair_agreement",),
        "mean cosine between directions of different prefix pairs; pairs in other words that agree "
        "speak for a common meaning",
    ),
    _Figure("least and most of pairs", ("pair_cosine_min", "pair_cosine_max"), "of any two pairs"),
    _Figure(
        "the same on other prompts",
        ("halved_agreement",),
        "one pair on half of the prompts with another on the other half, where rounding noise "
        "cannot agree",
    ),
    _Figure(
        "in 95% of halvings over",
        ("halved_agreement_low",),
        "direction_is_real asks for more than the next figure here",
    ),
    _Figure(
        "95% of placebo pairs",
        ("placebo_agreement",),
        "pairs of texts that differ in nothing that matters agree by less than this",
    ),
    _Figure(
        "share on benign prompts",
        ("benign_share",),
        "the part that the same prefixes explain on benign prompts (squared cosine); near 1 it is "
        "the difference of the texts more than refusing what is harmful",
    ),
    _Figure(
        "agreement of prompts",
        ("prompt_agreement",),
        "mean cosine of one prompt's direction with that of all others; fixed prefixes bring it "
        "near 1 whatever the direction means, and so the four below: they decide nothing",
    ),
    _Figure(
        "split halves, with 90%",
        ("split_half_median", "split_half_low", "split_half_high"),
        "cosine between the directions of two random halves of the prompts; low where a direction "
        "is made of few prompts",
    ),
    _Figure(
        "left-out prompts",
        ("left_out_prompts",),
        "share of differences on the refusal side of the direction learned without their prompt; "
        ".5 is chance",
    ),
    _Figure("left-out pairs", ("left_out_pairs",), "the same without their pair"),
    _Figure(
        "left-out AUC",
        ("left_out_auc",),
        "chance that an activation after a refusal lies above one after a compliance, of prompts "
        "and pairs that the direction was not learned from",
    ),
)


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
        _row("method", [record.get("method") for record in records], ""),
        _row(
            "learned from",
            [f"{len(record.get('prompt_ids') or [])} prompts" for record in records],
            "",
        ),
        _row(
            "raw norm",
            [record.get("raw_norm") for record in records],
            "before it was made a unit vector, in the units of the residual stream",
        ),
        _row(
            "median residual norm",
            [record.get("residual_norm") for record in records],
            "of response tokens at the layer; alpha counts in it",
        ),
        _row(
            "raw / residual",
            [_ratio(record.get("raw_norm"), record.get("residual_norm")) for record in records],
            "below .001 it would be rounding noise, and is refused",
        ),
        *(
            _row(figure.name, [_values(record, figure.keys) for record in records], figure.meaning)
            for figure in _FIGURES
        ),
        _row("hash", [record.get("hash") for record in records], ""),
    ]
    return {
        "layers": [record.get("layer") for record in records],
        "rows": [row for row in rows if any(value is not None for value in row["values"])],
    }


def _row(name: str, values: list[Any], meaning: str) -> dict[str, Any]:
    return {"name": name, "values": values, "meaning": meaning}


def _ratio(raw: Any, residual: Any) -> float | None:
    return float(raw) / float(residual) if raw and residual else None


def _values(record: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    found = {**record, **(record.get("diagnostics") or {})}
    if any(found.get(key) is None for key in keys):
        return None
    return ", ".join(f"{float(found[key]):.3f}" for key in keys)
