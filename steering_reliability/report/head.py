"""The head of the page: what was run, what it means, and what speaks against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steering_reliability.report import labels
from steering_reliability.report.decided import (
    Point,
    note_lines,
    points_of,
    prompting_lines,
    weaknesses_of,
)
from steering_reliability.report.setup import Fact, record_facts, setup_facts
from steering_reliability.report.verdicts import by_claim
from steering_reliability.report.weaknesses import Weakness

if TYPE_CHECKING:
    from steering_reliability.expectations import Verdict
    from steering_reliability.results.run import RunData


@dataclass(frozen=True)
class RequiredClaim:
    """A required claim and how many of its verdicts came out how, the worst first."""

    name: str
    outcomes: dict[str, int]


@dataclass(frozen=True)
class Weighed:
    """A choice, or an operating point that was run again, with what weakens it."""

    point: Point
    weakened: list[Weakness]


@dataclass(frozen=True)
class Head:
    """What stands above the table of verdicts.

    Attributes:
        setup: what the run was made with.
        record: what tells it from other runs.
        overall: the worst outcome of the required claims, ``"none"`` without any.
        tone: the colour of the box; a pass that says nothing of steering is not green.
        outcome: the overall outcome in words.
        conclusion: what it means.
        open_fails: that open claims count as failed, where that makes a difference.
        required: the required claims by name.
        exploratory: how many exploratory verdicts came out how.
        again: operating points that were run again on fresh prompts.
        chosen: what the level chose for later ones.
        notes: what remains to be said of its decisions.
    """

    setup: list[Fact]
    record: list[Fact]
    overall: str
    tone: str
    outcome: str
    conclusion: str
    open_fails: str
    required: list[RequiredClaim]
    exploratory: dict[str, int]
    again: list[Weighed]
    chosen: list[Weighed]
    notes: list[str]


def head_of(data: RunData) -> Head:
    """The head of a run's page; its tables are read from the run's folder."""
    verdicts = labels.sorted_verdicts(data.verdicts)
    overall = labels.overall_outcome(verdicts)
    hollow = overall == "pass" and not labels.requires_steering(verdicts)
    points = [
        Weighed(point, weaknesses_of(data, point))
        for point in points_of(data.decisions, data.verdicts)
    ]
    return Head(
        setup=setup_facts(data),
        record=record_facts(data.manifest),
        overall=overall,
        tone="none" if hollow else overall,
        outcome=f"{overall}, none about a steered cell" if hollow else overall,
        conclusion=labels.plain_conclusion(verdicts),
        open_fails=labels.open_fails_line(verdicts, data.manifest),
        required=[
            RequiredClaim(name, _counted(group))
            for name, group in by_claim([verdict for verdict in verdicts if verdict.required])
        ],
        exploratory=_counted([verdict for verdict in verdicts if not verdict.required]),
        again=[weighed for weighed in points if weighed.point.split],
        chosen=[weighed for weighed in points if not weighed.point.split],
        notes=[*note_lines(data.decisions), *prompting_lines(data.manifest)],
    )


def _counted(verdicts: Sequence[Verdict]) -> dict[str, int]:
    return {name: count for name, count in labels.count_outcomes(verdicts).items() if count}
