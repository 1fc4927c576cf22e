"""What it costs a rank that its layer is the best of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from claim_frames import grid
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from steering_reliability.cells import LEARNED, Cell, Goal
from steering_reliability.expectations import LayerChoice, ScoreTable
from steering_reliability.expectations.layer_choice import layer_choice, layer_choice_text
from steering_reliability.expectations.rules import outranks
from steering_reliability.layer_choices import NAMED
from steering_reliability.statistics import rank_test

CHOSEN = Cell(8, "add", 2)
RATES = st.lists(st.integers(0, 20), min_size=6, max_size=6)


def scores(rates: dict[Cell, Sequence[float]]) -> pd.DataFrame:
    """Refusal of the learned direction, then of random ones, by cell."""
    named = {
        replace(cell, direction=f"random-{number}" if number else LEARNED): {"harm_test": rate}
        for cell, values in rates.items()
        for number, rate in enumerate(values)
    }
    return grid(named, n=20)


def choice(
    rates: dict[Cell, Sequence[float]],
    tried: tuple[int, ...] = (8, 12, 16),
    goal: Goal = "raise",
    chosen: Cell = CHOSEN,
) -> LayerChoice:
    return layer_choice(ScoreTable(scores(rates)), chosen, tried, goal, "harm_test")


ELSEWHERE = {
    CHOSEN: [0.1, 0.9, 0.9, 0.9, 0.9, 0.9],
    Cell(12, "add", 2): [0.4, 0.3, 0.5, 0.2, 0.1, 0.2],
    Cell(16, "add", 2): [0.6, 0.5, 0.6, 0.2, 0.3, 0.2],
}


def test_the_other_layers_rank_the_direction_all_together() -> None:
    # On average .50, and of the random ones .40, .55, .20, .20, .20; the chosen layer is left out.
    found = choice(ELSEWHERE)
    assert (found.tried, found.elsewhere_p) == (3, pytest.approx(2 / 6))
    assert (found.backed, found.times) == (False, 6)
    leads = choice(ELSEWHERE | {Cell(12, "add", 2): [0.6, *ELSEWHERE[Cell(12, "add", 2)][1:]]})
    assert (leads.elsewhere_p, leads.backed, leads.times) == (pytest.approx(1 / 6), True, 1)
    # Where another layer is chosen, this one is among the others.
    assert choice(ELSEWHERE, chosen=Cell(12, "add", 4)).elsewhere_p == 1


def test_for_lowering_the_fall_counts() -> None:
    assert choice(ELSEWHERE, goal="lower").elsewhere_p == pytest.approx(5 / 6)


def test_rivals_that_break_the_text_lower_no_refusal() -> None:
    # Unsteered .20. As scored, random directions lower it to .05 and the learned one to .10.
    table = scores({cell: [0.1, *[0.05] * 5] for cell in ELSEWHERE})

    def rank() -> float | None:
        return layer_choice(
            ScoreTable(table), CHOSEN, (8, 12, 16), "lower", "harm_test"
        ).elsewhere_p

    assert rank() == 1
    table["is_degenerate"] = (table["direction"] != LEARNED) & ~table["is_refusal"]
    assert rank() == pytest.approx(1 / 6)


def test_a_layer_that_is_alone_was_not_chosen() -> None:
    assert choice(ELSEWHERE, tried=(8,)) == NAMED
    assert (NAMED.times, layer_choice_text(NAMED)) == (1, "")


@pytest.mark.parametrize("lacking", [Cell(12, "add", 2), Cell(16, "add", 2)])
def test_without_random_directions_at_every_other_layer_none_can_speak(lacking: Cell) -> None:
    found = choice(ELSEWHERE | {lacking: [0.5]})
    assert found == LayerChoice(3)
    assert (found.backed, found.times) == (False, 3)


def test_only_directions_that_were_run_at_all_of_them_are_rivals() -> None:
    rates = ELSEWHERE | {Cell(16, "add", 2): ELSEWHERE[Cell(16, "add", 2)][:5]}
    assert choice(rates, tried=(8, 16)).elsewhere_p == pytest.approx(2 / 5)
    # Leading four is no 1/6, which the best of three needs: they are too few to be asked.
    assert choice(rates) == LayerChoice(3)


def test_it_goes_through_a_decision() -> None:
    for one in (NAMED, LayerChoice(3), LayerChoice(5, 1 / 6)):
        assert LayerChoice.of(one.to_dict()) == one
    assert LayerChoice.of({}) == NAMED


@given(RATES, RATES, st.integers(1, 5))
def test_a_stronger_rival_never_backs_a_layer_up(
    first: list[int], second: list[int], which: int
) -> None:
    def found(first: list[int]) -> LayerChoice:
        twelve, sixteen = ([rate / 20 for rate in rates] for rates in (first, second))
        return choice({Cell(12, "add", 2): twelve, Cell(16, "add", 2): sixteen, CHOSEN: [0.5, 0.5]})

    before = found(first)
    first[which] = 20
    after = found(first)
    assert before.elsewhere_p is not None
    assert after.elsewhere_p is not None
    assert after.elsewhere_p >= before.elsewhere_p
    assert before.backed or not after.backed


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize(("alike", "rivals"), [(0, 19), (0.5, 19), (1, 19), (0, 119)])
def test_the_best_of_several_passes_in_a_twentieth_if_it_is_as_good_as_random(
    layers: int, alike: float, rivals: int
) -> None:
    """``alike`` is how a direction's effects correlate between layers; they are drawn alike."""
    rng, runs = np.random.default_rng(layers), 6_000

    def effects(directions: int, layers: int, alike: float) -> NDArray[np.float64]:
        common = rng.standard_normal((directions, 1))
        own = rng.standard_normal((directions, layers))
        return np.asarray(np.sqrt(alike) * common + np.sqrt(1 - alike) * own)

    passes = alone = 0
    for learned in effects(runs, layers, alike):
        best = int(learned.argmax())
        p = rank_test(float(learned[best]), rng.standard_normal(rivals))
        # Random directions of different layers are different directions.
        others = effects(9, layers - 1, 0.0).mean(axis=1)
        elsewhere = rank_test(float(np.delete(learned, best).mean()), others)
        allowed = p * LayerChoice(layers, elsewhere).times
        passes += bool(outranks(allowed, 1.0, 0.05, 0.10)[0])
        alone += bool(outranks(p, 1.0, 0.05, 0.10)[0])
    assert passes / runs <= 0.06
    # Without the others' word the choice would not be for free.
    if alike < 1:
        assert alone / runs >= 0.08
