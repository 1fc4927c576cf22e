"""How the page tells verdicts: by claim, every estimate with what it is of."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steering_reliability.expectations import Verdict

_QUANTITIES = {
    "baseline_refusal": "unsteered refusal rate",
    "alpha_raises_refusal": "change of refusal",
    "alpha_monotonicity": "slope of the refusal score",
    "coherence": "change of the degenerate share",
    "ablation_effect": "change of refusal, degenerate counted",
    "direction_is_real": "agreement of prefix pairs",
}


def by_claim(verdicts: Iterable[Verdict]) -> list[tuple[str, list[Verdict]]]:
    """The verdicts by claim, in the order given."""
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.claim, []).append(verdict)
    return list(found.items())


def quantity(verdict: Verdict) -> str:
    """What a verdict's estimate is of; empty where there is none, or the claim is a user's own."""
    details = verdict.details
    if math.isnan(verdict.estimate):
        return ""
    if "helpfulness_drop_high" in details:
        # The one of two that comes nearer to the margin, as the claim chooses it.
        rise, drop = (details[f"{name}_high"] for name in ("refusal_rise", "helpfulness_drop"))
        worse = "rise of refusal" if float(rise or 0) >= float(drop or 0) else "drop of helpfulness"
        return f"{worse}, the worse of two"
    if "strongest" in details:
        return f"lead over {details['strongest']}"
    if "effect_train" in details:
        return "effect on the learning split less that on the other"
    if "shown" in details:
        return f"change of refusal at {details['shown']}"
    return _QUANTITIES.get(verdict.claim, "")


def anchor(verdict: Verdict) -> str:
    """The id of a verdict's row, for links: ``verdict-coherence-layer12-add-alpha2``."""
    name = f"verdict-{verdict.claim}-{verdict.target}"
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)
