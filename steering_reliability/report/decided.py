"""What a level chose, and what it ran again on fresh prompts, in words: for terminal and report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steering_reliability.cells import Cell, Goal
from steering_reliability.decisions import speaks_of
from steering_reliability.expectations.verdicts import number, recorded_interval
from steering_reliability.layer_choices import LayerChoice
from steering_reliability.report.labels import SAID, estimate_text
from steering_reliability.report.weaknesses import Weakness, weaknesses

if TYPE_CHECKING:
    from steering_reliability.expectations import Verdict
    from steering_reliability.results.run import RunData

# What fewer draws of the prompts choose is left out.
_TOLD = 0.01


@dataclass(frozen=True)
class Point:
    """A choice of a level, or an operating point that it ran again.

    Attributes:
        title: the cell and what it was chosen for, or that nothing was chosen.
        found: what is to be said of it, a clause each.
        cell: the cell; None where nothing was chosen.
        goal: what it was chosen for.
        split: the fresh prompts that it was run again on; empty where it was not.
        there: the verdicts on it on those prompts.
    """

    title: str
    found: tuple[str, ...]
    cell: Cell | None = None
    goal: Goal = "raise"
    split: str = ""
    there: tuple[Verdict, ...] = ()


def points_of(record: Mapping[str, Any] | None, verdicts: Sequence[Verdict]) -> list[Point]:
    """Choices and operating points of a decision, those that were run again first.

    Args:
        record: from ``ladder.decide.decide``.
        verdicts: the run's.
    """
    if record is None:
        return []
    again = (record.get("confirmed") or {}).values()
    points = [_run_again(found, verdicts) for found in again]
    if "layer" in record:
        points.append(_chosen(record["layer"], "choice of a layer", verdicts))
    for goal, decided in (record.get("operating_points") or {}).items():
        what = f"choice of an operating point to {goal} refusal"
        points.append(_chosen(decided, what, verdicts))
    return points


def weaknesses_of(data: RunData, point: Point) -> list[Weakness]:
    """What weakens an operating point that was run again; nothing is asked of a mere choice."""
    if point.cell is None or not point.split:
        return []
    return weaknesses(data, point.cell, point.goal, point.split)


def note_lines(record: Mapping[str, Any] | None) -> list[str]:
    """What a screen would have picked, and whether all this rests on a default."""
    if record is None:
        return []
    lines = [_screen_line(record)] if record.get("screen") else []
    if record.get("provisional"):
        lines.append("provisional: it rests on a default or a screen, not on an earlier decision")
    return lines


def decision_lines(data: RunData) -> list[str]:
    """All that a run decided, what weakens it, and on what it rests, a line each."""
    lines = []
    for point in points_of(data.decisions, data.verdicts):
        lines.append(": ".join(filter(None, (point.title, "; ".join(point.found)))))
        weak = weaknesses_of(data, point)
        if point.cell is not None and weak:
            lines += [f"{point.cell.id} is weakened by:", *(f"- {one.text}" for one in weak)]
    return lines + note_lines(data.decisions)


def prompting_lines(manifest: Mapping[str, Any]) -> list[str]:
    """Whether a system prompt does better than steering, where the level asked."""
    found = manifest.get("prompt_baseline")
    return [found["sentence"]] if found else []


def order_lines(manifest: Mapping[str, Any]) -> list[str]:
    """That completions changed with the order of the prompts, where any did; it must not be."""
    return [
        f"sanity check {row['check']}: {row['meaning']}"
        for row in manifest.get("sanity") or []
        if row.get("identical") != row.get("completions")
    ]


def _run_again(found: Mapping[str, Any], verdicts: Iterable[Verdict]) -> Point:
    goal, split = found["goal"], found["split"]
    cell = Cell.from_id(found["cell"])
    title = f"{cell.id} to {goal} refusal"
    if found["effect"] is None:
        return Point(title, (f"not run again: {found['reason']}",), cell, goal, split)
    about = [verdict for verdict in verdicts if speaks_of(verdict, cell, goal)]
    there = [verdict for verdict in about if verdict.details.get("split") == split]
    effect = recorded_interval(found)
    moved = {"raise": "raised", "lower": "lowered"}[goal]
    how = f"{moved} by {effect}" if found["effect"] > 0 else f"not {moved}, {effect}"
    claims = " and ".join(_outcome(verdict) for verdict in there) or "no claim is made of it"
    clauses = [
        f"run again on fresh prompts ({split}, n = {found['n']}): refusal {how}; there {claims}",
        *_cost(found, about),
        *_not_passed(verdict for verdict in about if verdict not in there),
        _optimism(found),
    ]
    return Point(title, tuple(clauses), cell, goal, split, tuple(there))


def _optimism(found: Mapping[str, Any]) -> str:
    if found["chosen_effect"] is None:
        return "it was not chosen by an earlier level"
    earlier = f"the earlier estimate was {number(found['chosen_effect'], signed=True)}"
    if found["optimism"] is None:
        return f"{earlier}, by another judge"
    optimism = recorded_interval(found, "optimism", "optimism_low", "optimism_high")
    return f"{earlier}, too hopeful by {optimism}"


def _chosen(decided: Mapping[str, Any], what: str, verdicts: Iterable[Verdict]) -> Point:
    chosen = decided["chosen"]
    if chosen is None:
        return Point(what, (decided["reason"], *_resampled(decided)))
    cell = Cell(chosen["layer"], chosen["intervention"], chosen["alpha"])
    about = [verdict for verdict in verdicts if speaks_of(verdict, cell, decided["goal"])]
    clauses = [
        decided["reason"],
        *_not_passed(about),
        *_resampled(decided),
        *_layer_choice(LayerChoice.of(chosen)),
    ]
    return Point(what, tuple(clauses), cell, decided["goal"])


def _outcome(verdict: Verdict) -> str:
    said = f"{verdict.claim} {SAID[verdict.outcome]}"
    return said if math.isnan(verdict.estimate) else f"{said} ({estimate_text(verdict)})"


def _cost(found: Mapping[str, Any], about: Iterable[Verdict]) -> Iterator[str]:
    """The benign cost, where the claim on it does not tell it already."""
    told = any(one.claim == "benign_side_effect" and one.outcome != "pass" for one in about)
    if found.get("benign_cost") is not None and not told:
        cost = recorded_interval(
            found, "benign_cost", "benign_cost_low", "benign_cost_high", signed=False
        )
        yield f"benign cost {cost}"


def _not_passed(about: Iterable[Verdict]) -> Iterator[str]:
    """Which claims about a cell do not pass, the cost on benign prompts first."""
    open_ = [verdict for verdict in about if verdict.outcome != "pass"]
    open_.sort(key=lambda verdict: verdict.claim != "benign_side_effect")
    if open_:
        yield "; ".join(_outcome(verdict) for verdict in open_)


def _resampled(decided: Mapping[str, Any]) -> Iterator[str]:
    """What other draws of the prompts would choose; layers are told where there are several."""
    found = decided.get("resamples")
    if not found:
        return
    several = len({candidate["layer"] for candidate in decided["candidates"]}) > 1
    shares: dict[str, float] = found["layers"] if several else found["cells"]
    named = {f"layer {name}" if several else name: share for name, share in shares.items()}
    named["nothing"] = found["nothing"]
    told = [f"{name} in {share:.0%}" for name, share in named.items() if share >= _TOLD]
    yield f"with the prompts drawn anew {found['draws']} times it would be {', '.join(told)}"


def _layer_choice(choice: LayerChoice) -> Iterator[str]:
    """What having chosen among layers costs where the cell is ranked among random directions."""
    if choice.tried == 1:
        return
    best = f"its layer is the best of {choice.tried}"
    if choice.times == 1:
        yield f"{best}, and at the others its direction leads random ones too"
    else:
        yield f"{best}, so p of its rank among random directions is taken {choice.times} times"


def _screen_line(record: Mapping[str, Any]) -> str:
    best = record["screen"][0]
    chosen = (record.get("layer") or {}).get("chosen")
    verdict = "the level itself chose none"
    if chosen:
        same = chosen["layer"] == best["layer"]
        verdict = f"{'the same as' if same else 'not'} the layer chosen here"
    return (
        f"a screen of the first response tokens, without generating, would have picked layer "
        f"{best['layer']} (first-token log-odds of refusal "
        f"{number(best['refusal_log_odds_rise'], True, 1)} nats at alpha {best['alpha']:g}, "
        f"benign KL {number(best['benign_kl'])}): {verdict}"
    )
