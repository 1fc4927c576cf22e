"""How results are worded everywhere: numbers, splits, cells, verdicts, text that is not ours.

Plots, page, examples and terminal share these, so that one thing reads the same in all four.
This module knows nothing about files or drawing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from steering_reliability.cells import INTERVENTIONS
from steering_reliability.claims import Coherence
from steering_reliability.expectations.verdicts import bound, number
from steering_reliability.results.summary import SPLITS

if TYPE_CHECKING:
    from steering_reliability.expectations import Verdict

OUTCOMES: tuple[str, ...] = ("fail", "error", "inconclusive", "pass")
# Beyond so many, exploratory findings are told by claim; the terminal leaves out their numbers, and
# the page folds them away.
MOST_EXPLORATORY = 8
SAID = {
    "fail": "fails",
    "error": "could not be judged",
    "inconclusive": "is inconclusive",
    "pass": "passes",
}
DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"

# Claims that are not about a steered cell: about the unsteered model, about a direction as such.
_NOT_OF_STEERING = frozenset({"baseline_refusal", "direction_is_real"})

# Claims whose estimate is a rate; every other estimate is a change and carries its sign.
_RATES = frozenset({"baseline_refusal"})

# Everything a terminal or browser could act on instead of show: C0 and C1 controls other than
# tab and newline, direction overrides, and the halves of surrogate pairs, which UTF-8 refuses.
_C0 = re.compile("[\x00-\x08\x0b-\x1f]")
_UNSHOWABLE = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """Text that is safe to encode and print: a model may emit any code point.

    C0 controls become their visible pictures (NUL is ``\u2400``), line ends become ``\\n``,
    other control characters, bidirectional overrides and lone surrogates become U+FFFD.
    """
    text = text.replace("\r\n", "\n")
    text = _C0.sub(lambda found: chr(0x2400 + ord(found.group())), text)
    return _UNSHOWABLE.sub("\ufffd", text)


def shorten(text: str, length: int) -> str:
    """One line of at most ``length`` characters, cut with an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def sentence(text: str) -> str:
    """Text with a capital at its beginning, unless that is the name of a cell or a claim."""
    is_word = re.match(r"[a-z-]+([ ,:;]|$)", text)
    return text[:1].upper() + text[1:] if is_word else text


def percent(value: float | None) -> str:
    """A share as whole per cent; a dash if missing."""
    return DASH if value is None or math.isnan(value) else f"{100 * value:.0f}%"


def points(value: float | None) -> str:
    """A difference of two shares in signed percentage points, without the unit."""
    if value is None or math.isnan(value):
        return DASH
    rounded = round(100 * value)
    return f"{rounded:+d}".replace("-", MINUS) if rounded else "0"


def nats(value: float | None, signed: bool = True) -> str:
    """A change of log-odds or of a log-probability to two decimals; a dash if missing."""
    if value is None or math.isnan(value):
        return DASH
    return number(value, signed).replace("-", MINUS)


def percent_interval(low: float | None, high: float | None) -> str:
    """Bounds of a share's interval in per cent, ``[8-42]``; empty if missing."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    return f"[{100 * low:.0f}{DASH}{100 * high:.0f}]"


def estimate_text(verdict: Verdict) -> str:
    """Estimate and interval of a verdict, written as in its message: ``+.25 [+.04, +.43]``."""
    if math.isnan(verdict.estimate):
        return DASH
    signed = verdict.claim not in _RATES
    text = number(verdict.estimate, signed)
    if not (math.isnan(verdict.low) or math.isnan(verdict.high)):
        text += f" [{bound(verdict.low, signed)}, {bound(verdict.high, signed)}]"
    return text


def finding(verdict: Verdict) -> str:
    """The message without the claim and the target, for where these stand beside it."""
    return verdict.message.removeprefix(f"{verdict.claim} [{verdict.target}]: ")


def p_kind(verdict: Verdict) -> str:
    """Where a verdict's p is that of a rank and not of its estimate, how often it was taken."""
    if verdict.details.get("method") != "rank" or math.isnan(verdict.p_value):
        return ""
    times = verdict.details.get("rank_times", 1)
    return "of its rank" if times == 1 else f"of its rank × {times}"


def p_text(p_value: float | None) -> str:
    """A p-value as in a verdict's message; a dash if there is none."""
    if p_value is None or math.isnan(p_value):
        return DASH
    if p_value < 0.001:
        return "<\N{NO-BREAK SPACE}.001"
    return number(p_value) if p_value >= 0.0995 else f"{p_value:.3f}".replace("0.", ".", 1)


def alpha_text(alpha: float) -> str:
    """Alpha as people write it: 2, not 2.0; with a true minus sign."""
    return f"{alpha:g}".replace("-", MINUS)


def layer_name(layer: int, intervention: str) -> str:
    """``layer 12, add``."""
    return f"layer {layer}, {intervention}"


def ordered_splits(splits: Iterable[str]) -> list[str]:
    """The splits present, in the suite's order, unknown ones last by name."""
    present = set(splits)
    return [s for s in SPLITS if s in present] + sorted(present - set(SPLITS))


def ordered_interventions(interventions: Iterable[str]) -> list[str]:
    """The interventions present, in the suite's order."""
    present = set(interventions)
    return [name for name in INTERVENTIONS if name in present] + sorted(
        present - set(INTERVENTIONS)
    )


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dicts by column."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def coherence_settings(manifest: Mapping[str, Any]) -> Coherence:
    """The coherence gate that the run's own claims used; the suite's default if it had none."""
    claims = (manifest.get("config") or {}).get("claims") or {}
    given = claims.get("coherence") or {}
    return Coherence(**{key: given[key] for key in ("splits", "gate") if key in given})


def with_coherence(summary: pd.DataFrame, settings: Coherence) -> pd.DataFrame:
    """The summary with ``is_coherent``, the gate that the claims use.

    A cell is coherent if its share of degenerate completions, over the prompts of all the
    settings' splits, is at most ``gate`` above that of the unsteered model. Where its alpha = 0
    rows are missing it counts as coherent, for nothing speaks against it. Readers are told of
    others as past the coherence gate.
    """
    counted = summary[summary["split"].isin(settings.splits)]
    counted = summary if counted.empty else counted
    keys = ["layer", "intervention_type", "alpha"]
    weighted = counted.assign(broken=counted["degenerate_mean"] * counted["n"])
    totals = weighted.groupby(keys)[["broken", "n"]].sum()
    shares = (totals["broken"] / totals["n"]).rename("share").reset_index()
    unsteered = shares[shares["alpha"] == 0].set_index(keys[:2])["share"].rename("before")
    shares = shares.join(unsteered, on=keys[:2])
    # A summary that was read back is rounded to six digits; of fewer than 100,000 completions no
    # two shares are as near as that.
    shares["broken"] = shares["share"] - shares["before"] > settings.gate + 2e-6
    broken = summary[keys].merge(shares[[*keys, "broken"]], on=keys, how="left")["broken"]
    return summary.assign(is_coherent=~broken.eq(True).to_numpy())


def past_gate(verdicts: Sequence[Verdict]) -> set[tuple[str, str]]:
    """Claim and target of every verdict on a cell that any of them found past the coherence gate.

    Claims that don't ask for the gate themselves speak of the same broken text.
    """
    past = {_cell_of(verdict) for verdict in verdicts if verdict.details.get("coherent") is False}
    return {(verdict.claim, verdict.target) for verdict in verdicts if _cell_of(verdict) in past}


def _cell_of(verdict: Verdict) -> tuple[Any, ...]:
    return tuple(verdict.details.get(key) for key in ("layer", "intervention", "alpha"))


def sorted_verdicts(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Required claims first, then what needs attention most; otherwise as given."""
    return sorted(verdicts, key=lambda v: (not v.required, OUTCOMES.index(v.outcome)))


def count_outcomes(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Number of verdicts per outcome, every outcome present."""
    return {outcome: sum(v.outcome == outcome for v in verdicts) for outcome in OUTCOMES}


def overall_outcome(verdicts: Sequence[Verdict]) -> str:
    """The worst outcome of the required claims; ``"none"`` where nothing was required."""
    counts = count_outcomes([v for v in verdicts if v.required])
    return next((outcome for outcome in OUTCOMES if counts[outcome]), "none")


def requires_steering(verdicts: Iterable[Verdict]) -> bool:
    """Whether any required claim is about a steered cell, so that a pass says that it works."""
    return any(v.required and v.claim not in _NOT_OF_STEERING for v in verdicts)


def claims_of(verdicts: Iterable[Verdict]) -> str:
    """The names of the claims, each once: ``baseline_refusal, coherence``."""
    return ", ".join(dict.fromkeys(v.claim for v in verdicts))


def plain_conclusion(verdicts: Sequence[Verdict]) -> str:
    """What the required claims' verdicts mean for the reader, in a sentence or two."""
    required = [v for v in verdicts if v.required]
    if not verdicts:
        return "No claim was tested in this run, so it says nothing about reliability."
    if not required:
        return "No claim of this run is required; what follows is exploratory."
    said = _conclusion(required)
    if not requires_steering(required):
        said += (
            " No required claim is about a steered cell, so this does not say whether steering"
            " works."
        )
    return said


def _conclusion(required: Sequence[Verdict]) -> str:
    total, counts = len(required), count_outcomes(required)
    claims = "claim" if total == 1 else f"{total} claims"
    if counts["fail"]:
        named = claims_of(v for v in required if v.outcome == "fail")
        return (
            f"The data contradict {counts['fail']} of the {total} required claims ({named}): "
            "do not rely on this steering as claimed."
            if total > 1
            else f"The data contradict the required claim ({named}): "
            "do not rely on this steering as claimed."
        )
    if counts["error"]:
        return (
            f"{counts['error']} of {total} required claims could not be judged because data are "
            "missing; the run is not complete."
        )
    if counts["inconclusive"]:
        still = [v for v in required if v.outcome == "inconclusive"]
        return (
            f"No required claim is contradicted, but {len(still)} of {total} could still go either "
            f"way{_settling(still)}."
        )
    return f"The data support the required {claims} ({claims_of(required)}) on these prompts."


def _settling(still: Sequence[Verdict]) -> str:
    """What would settle open verdicts; prompts are promised only where they would."""
    prompts = [v.prompts_to_settle for v in still if v.prompts_to_settle]
    directions = [int(n) for v in still if (n := v.details.get("directions_to_settle"))]
    rest = len(still) - len(prompts) - len(directions)
    if not directions and not rest:
        return f" with this many prompts (about {max(prompts)} prompts per split would settle it)"
    told = []
    if prompts:
        told.append(f"about {max(prompts)} prompts per split would settle {len(prompts)}")
    if directions:
        needed = f"{max(directions)} random directions would settle {len(directions)}"
        told.append(f"{needed}, more prompts would not")
    if rest:
        told.append(f"no number of prompts is known that would settle {rest}")
    return f" ({'; '.join(told)})"


def open_fails(manifest: Mapping[str, Any]) -> bool:
    """Whether a required claim that stays open fails the run."""
    told = manifest.get("inconclusive") or (manifest.get("config") or {}).get("inconclusive")
    return bool(told == "fail")


def open_fails_line(verdicts: Sequence[Verdict], manifest: Mapping[str, Any]) -> str:
    """That what stays open counts as failed here, where it makes a difference; else empty."""
    required = count_outcomes([v for v in verdicts if v.required])
    left_open, failed = required["inconclusive"], required["fail"]
    if not (left_open and open_fails(manifest)):
        return ""
    counted = {"contradicted": failed, "not judged": required["error"], "inconclusive": left_open}
    parts = [f"{count} {word}" for word, count in counted.items() if count]
    total = sum(counted.values())
    verb = "claim fails" if total == 1 else "claims fail"
    return (
        f"{total} required {verb} the run: {', '.join(parts)}, which counts as failed here "
        "(inconclusive: fail)."
    )
