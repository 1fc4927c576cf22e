"""The tables beside a run's summary, derived from its scores, its plots and its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import pandas as pd

from steering_reliability.completions import PREFIX_TOKENS
from steering_reliability.expectations import Verdict
from steering_reliability.ladder.judge import judge_level
from steering_reliability.ladder.plan import LevelPlan
from steering_reliability.report.effects import gap_table
from steering_reliability.results.degenerate_bounds import DEGENERATE_BOUNDS, degenerate_bounds
from steering_reliability.results.endpoint import ENDPOINT_COLUMNS
from steering_reliability.results.prefixes import (
    PREFIX_CLAIMS,
    PREFIX_LENGTHS,
    WHOLE,
    at_length,
    has_prefixes,
    prefix_claims_table,
    prefix_lengths_table,
)
from steering_reliability.results.probes import PROBE_COLUMNS
from steering_reliability.results.run import RunData
from steering_reliability.results.sanity import SANITY_COLUMNS, SANITY_COUNTS
from steering_reliability.results.shapes import COMPLETION_SHAPES, shapes_table
from steering_reliability.results.steerability import steerability_summary, steerability_table
from steering_reliability.results.tables import effects_table, significance_table


def derived_tables(data: RunData, plan: LevelPlan) -> dict[str, pd.DataFrame]:
    """The tables of a run by file name without ``.csv``; those that it lacks are left out."""
    return dict(chain(_tables(data.scores, plan), _prefix_tables(data, plan), _told(data)))


def _tables(scores: pd.DataFrame, plan: LevelPlan) -> Iterator[tuple[str, pd.DataFrame]]:
    effects = effects_table(scores)
    yield "effects", effects
    yield "significance", significance_table(scores, plan.goals)
    yield DEGENERATE_BOUNDS, degenerate_bounds(scores, effects)
    shapes = shapes_table(scores)
    if not shapes.empty:
        yield COMPLETION_SHAPES, shapes
    slopes = steerability_table(scores)
    if not slopes.empty:
        yield "steerability", slopes
        yield "steerability_summary", steerability_summary(slopes)


def _prefix_tables(data: RunData, plan: LevelPlan) -> Iterator[tuple[str, pd.DataFrame]]:
    if not has_prefixes(data.scores):
        return
    yield PREFIX_LENGTHS, prefix_lengths_table(data.scores)
    directions = data.manifest.get("directions", [])
    by_length: dict[str, Sequence[Verdict]] = {
        str(k): judge_level(plan, at_length(data.scores, str(k)), directions) for k in PREFIX_TOKENS
    }
    yield PREFIX_CLAIMS, prefix_claims_table({**by_length, WHOLE: data.verdicts})


def _told(data: RunData) -> Iterator[tuple[str, pd.DataFrame]]:
    """Tables of what plots show and of what the manifest already tells."""
    if len(gaps := gap_table(data.scores, data.summary)):
        yield "generalization_gap", gaps
    for name, columns in (
        ("sanity", SANITY_COLUMNS),
        ("probes", PROBE_COLUMNS),
        ("log_odds", ENDPOINT_COLUMNS),
    ):
        if data.manifest.get(name):
            table = pd.DataFrame(data.manifest[name], columns=list(columns))
            # The manifest has none for what a row does not count, which makes all counts floats.
            yield name, table.astype({c: "Int64" for c in SANITY_COUNTS if c in columns})
