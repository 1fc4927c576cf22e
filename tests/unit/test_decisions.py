"""Which layer and operating point a level hands on, and what is left of them on fresh prompts."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from claim_frames import block, grid, share

from steering_reliability import decisions
from steering_reliability.cells import Cell
from steering_reliability.claims import Coherence
from steering_reliability.expectations import Verdict, evaluate

L8, L12, L12_HIGH, L16 = (Cell(layer, "add", a) for layer, a in ((8, 2), (12, 2), (12, 4), (16, 2)))
ABLATE = Cell(12, "ablate", 1)


def level(**rates: tuple[float, float]) -> pd.DataFrame:
    """Refusal on harm_test and benign per cell; unsteered .20 and .05."""
    cells = {"l8": L8, "l12": L12, "l12_high": L12_HIGH, "l16": L16, "ablate": ABLATE}
    return grid(
        {
            cells[name]: {"harm_test": harm, "benign": benign}
            for name, (harm, benign) in rates.items()
        }
    )


def failed(claim: str, cell: Cell, **details: object) -> Verdict:
    where = {"layer": cell.layer, "intervention": cell.intervention, "alpha": cell.alpha}
    return Verdict(
        claim, cell.id, "fail", 0.0, 0.0, 0.0, 0.95, 10, 1.0, "", False, None, where | details
    )


class TestBestLayer:
    def test_the_greatest_effect_less_cost_wins(self) -> None:
        scores = level(l8=(0.3, 0.05), l12=(0.6, 0.10), l16=(0.7, 0.45))
        chosen = decisions.best_layer(scores, [])["chosen"]
        assert (chosen["layer"], chosen["alpha"], chosen["intervention"]) == (12, 2.0, "add")
        assert chosen["effect"] == pytest.approx(0.4)
        assert chosen["benign_cost"] == pytest.approx(0.05)
        assert chosen["utility"] == pytest.approx(0.35)
        assert chosen["effect_low"] < 0.4 < chosen["effect_high"]

    def test_the_weight_of_the_cost_is_the_users(self) -> None:
        scores = level(l12=(0.6, 0.10), l16=(0.7, 0.45))
        assert decisions.best_layer(scores, [], cost_weight=0.0)["chosen"]["layer"] == 16

    def test_ties_go_to_the_lower_alpha_then_the_lower_layer(self) -> None:
        tied = level(l12_high=(0.5, 0.05), l16=(0.5, 0.05), l12=(0.5, 0.05))
        assert decisions.best_layer(tied, [])["chosen"]["cell"] == L12.id
        tied = level(l12_high=(0.5, 0.05), l16=(0.5, 0.05))
        assert decisions.best_layer(tied, [])["chosen"]["cell"] == L16.id

    def test_helpfulness_lost_is_a_cost_too(self) -> None:
        scores = pd.concat(
            [
                level(l12=(0.5, 0.05))[lambda frame: frame.split == "harm_test"],
                block(L12.baseline, "benign", share(0.05, 100)),
                block(L12, "benign", share(0.05, 100), helpful=share(0.7, 100)),
            ]
        )
        chosen = decisions.best_layer(scores, [])["chosen"]
        assert chosen["benign_cost"] == pytest.approx(0.25)

    def test_a_gain_on_benign_is_no_credit(self) -> None:
        assert decisions.best_layer(level(l12=(0.5, 0.0)), [])["chosen"]["benign_cost"] == 0

    def test_cells_that_fail_a_claim_are_left_to_others(self) -> None:
        scores = level(l8=(0.4, 0.05), l12=(0.6, 0.05), l12_high=(0.7, 0.05))
        verdicts = [failed("benign_side_effect", L12_HIGH)]
        assert decisions.best_layer(scores, verdicts)["chosen"]["cell"] == L12.id
        verdicts.append(failed("beats_controls", L12))
        decision = decisions.best_layer(scores, verdicts)
        assert decision["chosen"]["cell"] == L8.id
        excluded = {c["cell"]: c["excluded"] for c in decision["candidates"]}
        assert excluded[L12_HIGH.id] == "fails benign_side_effect"

    def test_the_claim_about_some_benign_prompts_leaves_no_cell_out(self) -> None:
        scores = level(l8=(0.4, 0.05), l12=(0.6, 0.05))
        verdicts = [failed("sensitive_side_effect", L12), failed("sensitive_side_effect", L8)]
        assert decisions.best_layer(scores, verdicts) == decisions.best_layer(scores, [])
        points = decisions.operating_points(scores, verdicts)
        assert points == decisions.operating_points(scores, [])

    def test_a_layer_that_is_not_monotone_is_out(self) -> None:
        scores = level(l8=(0.4, 0.05), l12=(0.6, 0.05))
        verdict = failed("alpha_monotonicity", L12, intervention=None, alpha=None)
        assert decisions.best_layer(scores, [verdict])["chosen"]["layer"] == 8

    def test_inconclusive_claims_exclude_nothing(self) -> None:
        scores = level(l12=(0.6, 0.05))
        verdict = evaluate("benign_side_effect", scores, layer=12, intervention="add", alpha=2)
        assert decisions.best_layer(scores, [verdict])["chosen"]["layer"] == 12

    def test_broken_text_does_not_qualify(self) -> None:
        scores = level(l8=(0.4, 0.05), l12=(0.6, 0.05))
        scores.loc[(scores.layer == 12) & (scores.alpha > 0), "is_degenerate"] = True
        assert decisions.best_layer(scores, [])["chosen"]["layer"] == 8
        lenient = Coherence(gate=0.99)
        scores.loc[scores.index[-1:], "is_degenerate"] = False
        decision = decisions.best_layer(scores, [], coherence=lenient)
        assert "past the coherence gate" in decision["candidates"][1]["excluded"]

    def test_not_steering_is_better_than_what_costs_as_much_as_it_gains(self) -> None:
        scores = level(l8=(0.4, 0.25), l12=(0.5, 0.40))
        decision = decisions.best_layer(scores, [])
        assert decision["chosen"] is None
        assert [c["excluded"] for c in decision["candidates"]] == [
            "costs no less than it gains (effect less weighted cost +0.00)",
            "costs no less than it gains (effect less weighted cost -0.05)",
        ]
        assert decisions.best_layer(scores, [], cost_weight=0.5)["chosen"]["layer"] == 12

    def test_the_reason_tells_effect_and_cost_with_their_intervals(self) -> None:
        decision = decisions.best_layer(level(l8=(0.1, 0.05), l12=(0.6, 0.10)), [])
        chosen = decision["chosen"]
        assert chosen["benign_cost_low"] < chosen["benign_cost"] < chosen["benign_cost_high"]
        # A bound that would read as .00 is told with a third digit.
        assert 0.0005 < chosen["benign_cost_low"] < 0.0015
        cost = f"[.001, .{100 * chosen['benign_cost_high']:.0f}]"
        assert decision["reason"].startswith(
            "layer12-add-alpha2 alone of 2 cells qualifies: effect +.40 ["
        )
        assert decision["reason"].endswith(f"] less benign cost .05 {cost} is +.35")
        two = decisions.best_layer(level(l8=(0.3, 0.05), l12=(0.6, 0.10)), [], cost_weight=2)
        assert "has the most effect less benign cost of 2 qualifying cells" in two["reason"]
        assert "less 2 x benign cost" in two["reason"]

    def test_no_layer_qualifies_where_none_raises_refusal(self) -> None:
        decision = decisions.best_layer(level(l8=(0.2, 0.05), l12=(0.1, 0.05)), [])
        assert decision["chosen"] is None
        assert decision["reason"] == "no cell qualifies to raise refusal"
        assert decision["pareto_front"] == []

    def test_ablation_is_not_a_way_to_choose_a_layer(self) -> None:
        scores = level(l12=(0.3, 0.05), ablate=(0.9, 0.05))
        assert decisions.best_layer(scores, [])["chosen"]["intervention"] == "add"

    def test_incomplete_cells_are_left_out_by_name(self) -> None:
        scores = level(l8=(0.4, 0.05), l12=(0.6, 0.05))
        gap = scores.index[(scores.layer == 12) & (scores.alpha == 2)][:5]
        decision = decisions.best_layer(scores.drop(gap), [])
        assert decision["chosen"]["layer"] == 8
        assert list(decision["left_out"]) == [L12.id]


class TestResampledChoices:
    def test_nothing_is_an_outcome_with_its_share(self) -> None:
        one, other = {"cell": L8.id, "layer": 8}, {"cell": L12.id, "layer": 12}
        high = {"cell": L12_HIGH.id, "layer": 12}
        assert decisions.resampled_choices([other, None, high, other, one]) == {
            "draws": 5,
            "nothing": 0.2,
            "cells": {L12.id: 0.4, L12_HIGH.id: 0.2, L8.id: 0.2},
            "layers": {"12": 0.6, "8": 0.2},
        }


class TestOperatingPoints:
    def test_raising_and_lowering_are_two_answers(self) -> None:
        scores = level(l12=(0.6, 0.10), ablate=(0.02, 0.02))
        points = decisions.operating_points(scores, [])
        assert points["raise"]["chosen"]["cell"] == L12.id
        assert points["lower"]["chosen"]["cell"] == ABLATE.id
        assert points["lower"]["chosen"]["effect"] == pytest.approx(0.18)
        json.dumps(points, allow_nan=False)

    def test_a_fail_about_raising_does_not_hinder_lowering(self) -> None:
        scores = level(l12=(0.1, 0.02), ablate=(0.15, 0.02))
        verdicts = [failed("alpha_raises_refusal", L12), failed("ablation_effect", ABLATE)]
        points = decisions.operating_points(scores, verdicts)
        assert points["lower"]["chosen"]["cell"] == L12.id
        assert points["raise"]["chosen"] is None

    def test_breaking_the_text_lowers_no_refusal(self) -> None:
        scores = level(l12=(0.2, 0.0), ablate=(0.0, 0.0))
        ablated = (scores.split == "harm_test") & (scores.intervention == "ablate")
        scores["is_degenerate"] |= ablated & (scores.alpha > 0)
        lower = decisions.operating_points(scores, [], coherence=Coherence(gate=0.9))["lower"]
        assert lower["chosen"] is None
        (found,) = [c for c in lower["candidates"] if c["cell"] == ABLATE.id]
        assert found["effect"] == pytest.approx(0.0)
        found = decisions.confirm(
            {"layer": 12, "intervention": "ablate", "alpha": ABLATE.alpha, "goal": "lower"},
            scores, split="harm_test",
        )  # fmt: skip
        assert found["effect"] == pytest.approx(0.0)

    def test_the_front_keeps_what_nothing_dominates(self) -> None:
        scores = level(l8=(0.3, 0.05), l12=(0.6, 0.15), l12_high=(0.5, 0.25), l16=(0.8, 0.45))
        decision = decisions.operating_points(scores, [])["raise"]
        assert decision["pareto_front"] == [L16.id, L12.id, L8.id]
        on_front = {c["cell"] for c in decision["candidates"] if c["on_pareto_front"]}
        assert on_front == {L16.id, L12.id, L8.id}


class TestConfirm:
    def test_says_by_how_much_the_choice_was_optimistic(self) -> None:
        scores = level(l12=(0.6, 0.05))
        chosen = decisions.best_layer(scores, [])["chosen"]
        fresh = pd.concat(
            [
                scores,
                block(L12.baseline, "harm_confirm", share(0.2, 150)),
                block(L12, "harm_confirm", share(0.5, 150)),
            ]
        )
        found = decisions.confirm(chosen, fresh)
        assert found["effect"] == pytest.approx(0.3)
        assert found["optimism"] == pytest.approx(0.1)
        assert found["optimism_low"] < 0.1 < found["optimism_high"]
        assert found["n"] == 150
        assert found["benign_cost"] == pytest.approx(0)
        assert found["benign_cost_low"] == 0 < found["benign_cost_high"]
        json.dumps(found, allow_nan=False)

    def test_for_lowering_the_fall_is_the_effect(self) -> None:
        scores = level(ablate=(0.0, 0.02))
        chosen = decisions.operating_points(scores, [])["lower"]["chosen"]
        found = decisions.confirm(chosen, scores, split="harm_test")
        assert found["effect"] == pytest.approx(0.2)
        assert found["optimism"] == pytest.approx(0)

    def test_without_fresh_prompts_it_says_why(self) -> None:
        scores = level(l12=(0.6, 0.05))
        chosen = decisions.best_layer(scores, [])["chosen"]
        found = decisions.confirm(chosen, scores)
        assert found["effect"] is None
        assert "harm_confirm" in found["reason"]
