"""What is said of a prompt baseline and of sanity checks, on frames with known effects."""

from __future__ import annotations

import pandas as pd
import pytest
from report_runs import make_scores

from steering_reliability.cells import Cell
from steering_reliability.claims import Coherence
from steering_reliability.report.effects import prompting_point, trade_off_cells
from steering_reliability.report.labels import with_coherence
from steering_reliability.report.trade_off import trade_off
from steering_reliability.results.conditions import compare_prompting
from steering_reliability.results.sanity import sanity_table
from steering_reliability.results.summary import controls_table, summarize

PROMPTED = Cell(12, "add", 0, condition="system-prompt-baseline")


def prompted(refuses_harm: bool, helps: bool) -> pd.DataFrame:
    """A frame in which the prompt baseline refuses all of harm_test or none, helps all or none."""
    scores = make_scores(n=40)
    rows = scores[(scores["alpha"] == 0) & scores["split"].isin(["harm_test", "benign"])].copy()
    rows["condition"] = PROMPTED.condition
    rows["is_refusal"] = (rows["split"] == "harm_test") & refuses_harm
    rows["is_helpful"] = helps
    return pd.concat([scores, rows], ignore_index=True)


@pytest.mark.parametrize(
    ("refuses_harm", "helps", "wins"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_prompting_wins_by_more_effect_at_no_more_cost(
    refuses_harm: bool, helps: bool, wins: bool
) -> None:
    found = compare_prompting(prompted(refuses_harm, helps), PROMPTED, Coherence())
    assert found is not None
    assert found["wins"] is wins
    assert found["sentence"].endswith("prompting wins" if wins else "prompting does not win")


def test_prompting_wins_by_less_effect_where_steering_costs_more_than_it_gains() -> None:
    scores = prompted(False, True)
    rows = (scores["condition"] == PROMPTED.condition) & (scores["split"] == "harm_test")
    unsteered = scores[(scores["alpha"] == 0) & (scores["condition"] == "default")]
    refused = unsteered[unsteered["split"] == "harm_test"].drop_duplicates("prompt_id")
    ids = set(refused.loc[refused["is_refusal"].astype(bool), "prompt_id"])
    ids.add(next(iter(set(refused["prompt_id"]) - ids)))
    scores.loc[rows, "is_refusal"] = scores.loc[rows, "prompt_id"].isin(ids)
    scores.loc[(scores["alpha"] > 0) & (scores["split"] == "benign"), "is_helpful"] = False
    found = compare_prompting(scores, PROMPTED, Coherence())
    assert found is not None
    assert 0 < found["prompting"]["effect"] < found["best_steered"]["effect"]
    assert found["wins"]


def test_what_loses_least_is_not_called_best() -> None:
    scores = prompted(False, True)
    sentence = compare_prompting(scores, PROMPTED, Coherence())["sentence"]  # type: ignore[index]
    assert "of the steered cells layer12-add-alpha2 has the most effect less cost (+." in sentence
    costly = (scores["alpha"] > 0) & (scores["split"] == "benign")
    scores.loc[costly, "is_helpful"] = False
    found = compare_prompting(scores, PROMPTED, Coherence())
    assert found is not None
    assert (
        "no steered cell gains more than it costs, layer12-add-alpha2 loses least (-."
        in (found["sentence"])
    )
    assert "best" not in found["sentence"]
    cost = [found["best_steered"][f"benign_cost{bound}"] for bound in ("_low", "", "_high")]
    assert 0 < cost[0] < cost[1] < cost[2]
    low, value, high = (f"{bound:.2f}".removeprefix("0") for bound in cost)
    assert (
        f"at a benign cost of {value} [{low}, {high}]; prompting does not win"
        in (found["sentence"])
    )


def test_the_trade_off_shows_the_prompt_as_a_mark_of_its_own_with_its_bars() -> None:
    scores = prompted(True, True)
    found = compare_prompting(scores, PROMPTED, Coherence())
    assert found is not None
    controls = controls_table(scores)
    place = prompting_point({"prompt_baseline": found}, controls)
    assert place is not None
    cells = trade_off_cells(scores, with_coherence(summarize(scores), Coherence()))
    axes = trade_off(cells, place).axes[0]
    (mark,) = (line for line in axes.lines if line.get_marker() == "P")
    effect = found["prompting"]["effect"]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (1.0, effect)
    (row,) = controls[controls["split"] == "benign"].to_dict("records")
    bars = [
        (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
        if line is not mark and line.get_color() == mark.get_color()
    ]
    assert bars == [
        ([1.0, 1.0], [found["prompting"]["low"], found["prompting"]["high"]]),
        ([row["is_helpful_low"], row["is_helpful_high"]], [effect, effect]),
    ]
    assert row["is_helpful_low"] < 1
    assert prompting_point({}, controls) is None


def test_the_trade_off_labels_what_counts_and_rings_what_was_chosen() -> None:
    scores = make_scores(layers=(8, 12), alphas=(0, 1, 2, 8), interventions=("add", "ablate"), n=40)
    cells = trade_off_cells(scores, with_coherence(summarize(scores), Coherence()))
    past = cells[~cells["is_coherent"]]
    assert set(past["alpha"]) == {8}
    chosen = Cell(12, "add", 2)
    figure = trade_off(cells, None, [chosen, Cell(12, "add", 16)])
    panels = dict(zip(("add", "ablate"), figure.axes, strict=True))
    for intervention, axes in panels.items():
        here = cells[(cells["intervention_type"] == intervention) & (cells["alpha"] != 0)]
        within = here[here["is_coherent"]]
        labels = sorted((text.get_text(), text.xy) for text in axes.texts)
        assert labels == sorted(
            (f"{row.alpha:g}", (row.helpful, row.effect)) for row in within.itertuples()
        )
        rings = [line for line in axes.lines if line.get_markersize() == 15]
        assert len(rings) == (intervention == "add")
    ringed = cells[(cells["layer"] == 12) & (cells["alpha"] == 2)].set_index("intervention_type")
    (ring,) = (line for line in panels["add"].lines if line.get_markersize() == 15)
    assert ring.get_xdata()[0] == ringed.loc["add", "helpful"]
    # Layers differ in more than colour.
    points = [line for line in panels["add"].lines if line is not ring]
    assert {line.get_marker() for line in points} - {"*", "None"} == {"o", "s"}


def test_a_change_is_paired_and_points_the_right_way() -> None:
    scores = make_scores(n=40)
    other = scores.copy()
    other["condition"] = "half-pairs"
    other.loc[other["alpha"] > 0, "is_refusal"] = False
    table = sanity_table(
        pd.concat([scores, other], ignore_index=True),
        Cell(12, "add", 2), "harm_test", {"half-pairs": "half of the pairs"},
    )  # fmt: skip
    main, half = table.iloc[0], table.iloc[1]
    assert half["change"] == pytest.approx(half["effect"] - main["effect"])
    assert half["change_low"] <= half["change"] <= half["change_high"] < 0
    assert half["meaning"] == "half of the pairs: the effect is smaller there"


def reordered(scores: pd.DataFrame, n: int) -> pd.DataFrame:
    """The frame with its first prompts once more, as another order would give them."""
    few = [f"harm_test-{index:03d}" for index in range(n)]
    again = scores[scores["prompt_id"].isin(few)].copy()
    again["condition"] = "prompt-order"
    return pd.concat([scores, again.sample(frac=1, random_state=0)], ignore_index=True)


@pytest.mark.parametrize("column", [None, "text", "mean_entropy"])
def test_another_order_must_give_the_same_completions(column: str | None) -> None:
    scores = reordered(make_scores(n=40), 10)
    if column is not None:
        spoiled = scores.index[scores["condition"] == "prompt-order"][0]
        scores.loc[spoiled, column] = {"text": "else", "mean_entropy": 1.1 + 1e-15}[column]
    table = sanity_table(
        scores, Cell(12, "add", 2), "harm_test", {"prompt-order": "anew"}, reordered="prompt-order"
    )
    main, order = table.iloc[0], table.iloc[1]
    assert (main["n"], order["n"], order["completions"]) == (10, 10, 20)
    assert order["change"] == 0
    assert order["identical"] == (20 if column is None else 19)
    assert ("MISMATCH: 1 of 20" in order["meaning"]) is (column is not None)


def test_checks_take_the_prompts_they_are_told_and_tell_the_cosine() -> None:
    scores = make_scores(n=40)
    other = scores.copy()
    other["condition"] = "other-pairs"
    few = [f"harm_test-{index:03d}" for index in range(15)]
    other = other[other["prompt_id"].isin(few)]
    table = sanity_table(
        pd.concat([scores, other], ignore_index=True),
        Cell(12, "add", 2), "harm_test", {"other-pairs": "other words"},
        cosines={"other-pairs": 0.71},
    )  # fmt: skip
    assert set(table["n"][:2]) == {15}
    assert table["cosine"][1] == 0.71
    assert "cosine with the level's 0.71" in table["meaning"][1]
    assert table[["identical", "completions"]].isna().all(axis=None)
