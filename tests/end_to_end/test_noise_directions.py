"""A published mistake on the embedded model, fifty times: the suite calls it what it is."""

from __future__ import annotations

import pytest

import steering_reliability as sr
from benchmarks import noise_directions


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, object]]:
    """Counts by kind of direction, fifty of each."""
    rows = noise_directions.measure_model(sr.load_model("embedded", "cpu"))
    return {row["kind"]: row for row in noise_directions.table(rows)}


def test_directions_of_the_last_prompt_token_are_refused(
    found: dict[str, dict[str, object]],
) -> None:
    noise, learned = found["rounding noise"], found["learned"]
    assert noise["directions"] == noise["refused as it is"] == 50
    assert learned["refused as it is"] == 0


@pytest.mark.parametrize("kind", ["rounding noise", "Gaussian noise"])
def test_saved_as_unit_vectors_they_fail(found: dict[str, dict[str, object]], kind: str) -> None:
    counts = {name: int(str(found[kind][name])) for name in ("fail", "above placebo", "directions")}
    assert counts["directions"] == 50
    assert counts["fail"] >= 40
    assert counts["above placebo"] <= 2


def test_learned_ones_do_not(found: dict[str, dict[str, object]]) -> None:
    # Without controls none passes: those that are above placebo stay open.
    assert int(str(found["learned"]["above placebo"])) >= 40
    assert found["learned"]["inconclusive"] == found["learned"]["above placebo"]
