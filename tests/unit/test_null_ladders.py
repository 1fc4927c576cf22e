"""Whole ladders on simulated completions: a direction that means nothing does not pass.

``python -m benchmarks.null_ladders`` runs two hundred of each world; these are twenty.
"""

from __future__ import annotations

import pytest

from benchmarks.null_ladders import shipped_plans, simulate, tabulate
from steering_reliability.ladder.plan import LevelPlan

LADDERS = 20


@pytest.fixture(scope="module")
def plans() -> dict[str, LevelPlan]:
    return shipped_plans()


def required(world: str, plans: dict[str, LevelPlan]) -> dict[str, dict[str, object]]:
    """The table's rows of what each level requires of the effect, all together."""
    rows = tabulate(simulate(world, LADDERS, seed=1, plans=plans))
    return {str(row["level"]): row for row in rows if row["claim"] == "all required"}


def test_a_random_direction_passes_nothing_that_is_required(plans: dict[str, LevelPlan]) -> None:
    found = required("exchangeable", plans)
    assert set(found) == {"smoke", "layer_test", "full"}
    for row in found.values():
        # Twenty ladders tell 5% from a broken rule, no more.
        assert float(str(row["passes"])) <= 3 / LADDERS, row
    # To stay open is not enough where everything is run.
    assert float(str(found["full"]["fails"])) >= 0.5, found["full"]


def test_a_direction_that_steers_passes_what_full_requires(plans: dict[str, LevelPlan]) -> None:
    row = required("steers", plans)["full"]
    # About half of them do; twenty ladders tell that from the 5% of one that means nothing.
    assert float(str(row["passes"])) >= 0.25, row
