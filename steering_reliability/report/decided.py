"""What a level decided and confirmed, in words: for the terminal and at the top of the report."""

from __future__ import annotations

from typing import Any

from steering_reliability.expectations.layer_choice import layer_choice_text
from steering_reliability.layer_choices import LayerChoice


def decision_lines(record: dict[str, Any] | None) -> list[str]:
    """What was decided and confirmed, and why, a line each."""
    if record is None:
        return []
    lines = []
    for goal, found in (record.get("confirmed") or {}).items():
        lines.append(f"confirmed to {goal} refusal: {_confirmed_line(found)}")
    if "layer" in record:
        lines.append(f"best layer: {_chosen_line(record['layer'])}")
    if record.get("screen"):
        lines.append(_screen_line(record))
    for goal, decided in (record.get("operating_points") or {}).items():
        lines.append(f"operating point to {goal} refusal: {_chosen_line(decided)}")
    if record.get("provisional"):
        lines.append("provisional: it rests on a default or a screen, not on an earlier decision")
    return lines


def prompting_lines(manifest: dict[str, Any]) -> list[str]:
    """Whether a system prompt does better than steering, where the level asked."""
    found = manifest.get("prompt_baseline")
    return [found["sentence"]] if found else []


def order_lines(manifest: dict[str, Any]) -> list[str]:
    """That completions changed with the order of the prompts, where any did; it must not be."""
    return [
        f"sanity check {row['check']}: {row['meaning']}"
        for row in manifest.get("sanity") or []
        if row.get("identical") != row.get("completions")
    ]


def _confirmed_line(found: dict[str, Any]) -> str:
    if found["effect"] is None:
        return f"{found['cell']}: {found['reason']}"
    line = (
        f"{found['cell']} {found['goal']}s it by {found['effect']:+.2f} "
        f"[{found['low']:+.2f}, {found['high']:+.2f}] on {found['split']} (n = {found['n']})"
    )
    if found["optimism"] is None and found["chosen_effect"] is None:
        return f"{line}; it was not chosen by an earlier level"
    if found["optimism"] is None:
        return f"{line}; the earlier estimate, {found['chosen_effect']:+.2f}, is another judge's"
    return (
        f"{line}; the earlier estimate, {found['chosen_effect']:+.2f}, was optimistic by "
        f"{found['optimism']:+.2f} "
        f"[{found['optimism_low']:+.2f}, {found['optimism_high']:+.2f}]"
    )


def _screen_line(record: dict[str, Any]) -> str:
    best = record["screen"][0]
    chosen = (record.get("layer") or {}).get("chosen")
    verdict = "the level itself chose none"
    if chosen:
        same = chosen["layer"] == best["layer"]
        verdict = f"{'the same as' if same else 'not'} the layer chosen here"
    return (
        f"a screen of the first response tokens, without generating, would have picked layer "
        f"{best['layer']} (first-token log-odds of refusal {best['refusal_log_odds_rise']:+.1f} "
        f"nats at alpha {best['alpha']:g}, benign KL {best['benign_kl']:.2f}): {verdict}"
    )


def _chosen_line(decided: dict[str, Any]) -> str:
    told = layer_choice_text(LayerChoice.of(decided.get("chosen") or {}))
    return f"{decided['reason']}{told}"
