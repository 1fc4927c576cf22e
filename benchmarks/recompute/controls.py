"""The claims against controls once more: of one cell, and of all that a layer has."""

from __future__ import annotations

import math
from itertools import count
from typing import Any, cast

from benchmarks.recompute.estimates import EQUAL, Answer, paired
from benchmarks.recompute.rules import REFUSED, aim_of, decided, rises
from benchmarks.recompute.run import MissingError, Point, Run


def beats_controls(
    run: Run,
    settings: dict[str, Any],
    point: Point,
    shared: int,
    goal: str = "",
    layers_tried: int = 1,
    elsewhere_p: float | None = None,
) -> Answer:
    rank = settings["method"] == "rank"
    kinds = ("random-",) if rank else ("random-", "shuffled-")
    split = settings["split"]
    names = run.controls(point, split, kinds)
    if len(names) < (19 if rank else 1):
        raise MissingError(f"{len(names)} controls")
    natural = aim_of(point)
    goal = goal or natural
    aim = 1 if goal == "raise" else -1
    pairs = {name: run.pair(point, REFUSED[goal], [split], name) for name in names}
    strengths = {name: round(aim * float(rival.mean()), 12) for name, (_, rival) in pairs.items()}
    # The first by name of those that are equally strong.
    strongest = max(names, key=lambda name: strengths[name])
    learned, rival = pairs[strongest]
    after, before = (learned, rival) if aim > 0 else (rival, learned)
    answer = paired(after, before, 0.025 / shared)
    answer["outcome"] = rises(answer, settings["least_effect"])
    answer |= coherence_of(run, point)
    if rank:
        answer["paired_p"] = answer["p_value"]
        own = aim * float(learned.mean())
        reached = sum(strength >= own - EQUAL for strength in strengths.values())
        # Both ways were open where the cell is used against what such cells are for.
        times = 2 if goal != natural else 1
        if elsewhere_p is None:
            times *= layers_tried
        elif 2 * elsewhere_p * layers_tried > 1 + EQUAL:
            times *= 2 * layers_tried
        p = min(1.0, times * (1 + reached) / (1 + len(names)))
        passes = p <= settings["rank_p"] + EQUAL
        answer |= {"p_value": p, "rank_times": times}
        answer["outcome"] = decided(passes, answer["high"] < settings["least_effect"])
        # To lead them all does not do: how many would it take?
        wanted = next(k for k in count() if times / (k + 1) <= settings["rank_p"] + EQUAL)
        out_of_reach = answer["outcome"] == "inconclusive" and wanted > len(names)
        answer["directions_to_settle"] = wanted if out_of_reach else math.nan
    return {**answer, "strongest": strongest, "controls": len(names)}


def coherence_of(run: Run, point: Point) -> Answer:
    """Whether the cell's text is coherent, where the run can tell."""
    try:
        return {"coherent": run.coherent(point)}
    except MissingError:
        return {}


def controls_at(run: Run, layer: int) -> str:
    """``beats_controls`` over the coherent cells of a layer with controls: one pass is enough."""
    settings = run.made.get("beats_controls")
    if settings is None:
        return "unknown"
    split, asked = settings["split"], settings.get("alphas")
    outcomes = []
    for *place, direction in sorted(run.cells):
        point = cast("Point", tuple(place))
        if point[0] != layer or direction != "learned" or not point[2] > 0:
            continue
        if asked is not None and point[2] not in asked:
            continue
        if not run.controls(point, split, ("random-", "shuffled-")):
            continue
        for goal in run.goals.get((split, point), [aim_of(point)]):
            choice = run.choices.get((*point, goal), {})
            try:
                answer = beats_controls(run, settings, point, 1, goal, **choice)
            except MissingError:
                continue
            if answer.get("coherent"):
                outcomes.append(answer["outcome"])
    if not outcomes:
        return "unknown"
    return decided("pass" in outcomes, set(outcomes) == {"fail"})
