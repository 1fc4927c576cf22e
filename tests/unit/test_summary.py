"""Tables from scores: hand-checked numbers, determinism, and the snippets people paste."""

from __future__ import annotations

import io
import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from steering_reliability.cells import Cell
from steering_reliability.errors import SteeringError
from steering_reliability.expectations import ScoreTable
from steering_reliability.results.atomic import csv_text
from steering_reliability.results.summary import (
    CONTROL_COLUMNS,
    SCORE_COLUMNS,
    SUMMARY_COLUMNS,
    controls_table,
    summarize,
)

DESIGN_COLUMNS = (
    "split,layer,alpha,intervention_type,refusal_score_mean,refusal_score_std,is_refusal_mean,"
    "helpfulness_score_mean,helpfulness_score_std,is_helpful_mean,char_length_mean,char_length_std"
)


def row(prompt_id: str = "p0", **changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "prompt_id": prompt_id,
        "split": "harm_test",
        "category": "fraud",
        "style": "direct",
        "prompt": f"prompt {prompt_id}",
        "seen": False,
        "layer": 12,
        "intervention": "add",
        "alpha": 0.0,
        "direction": "learned",
        "condition": "default",
        "sample": 0,
        "text": "text",
        "finish_reason": "stop",
        "refusal_score": 0.25,
        "is_refusal": False,
        "helpfulness_score": 0.75,
        "is_helpful": True,
        "is_degenerate": False,
        "char_length": 100,
        "mean_logprob": -0.5,
        "mean_entropy": 1.5,
        "refusal_log_odds": -2.0,
    }
    assert set(changes) <= set(values)
    return values | changes


def grid(
    splits: tuple[str, ...] = ("benign", "harm_test"),
    layers: tuple[int, ...] = (16, 8, 12),
    alphas: tuple[float, ...] = (4, 0, 2),
    prompts: int = 10,
) -> pd.DataFrame:
    """Scores in which layer 12 refuses most, more so with alpha."""
    random = np.random.default_rng(0)
    rows = []
    for split, layer, alpha, number in itertools.product(splits, layers, alphas, range(prompts)):
        rate = 0.1 + (0.2 if layer == 12 else 0.05) * alpha * (split == "harm_test")
        score = float(random.random())
        refused = number < round(rate * prompts)
        changes = {"split": split, "layer": layer, "alpha": alpha, "is_refusal": refused}
        rows.append(row(f"p{number}", refusal_score=score, **changes))
    return pd.DataFrame(rows)


def test_columns_start_as_the_design_says() -> None:
    text = csv_text(summarize(grid()))
    assert text.startswith(DESIGN_COLUMNS + ",n,is_refusal_low,is_refusal_high,")
    assert tuple(summarize(grid()).columns) == SUMMARY_COLUMNS


def test_numbers_of_one_cell() -> None:
    scores = pd.DataFrame(
        [
            row("a", refusal_score=0.0, is_refusal=False, char_length=10, seen=True),
            row("b", refusal_score=0.5, is_refusal=True, char_length=20, is_degenerate=True),
            row("c", refusal_score=1.0, is_refusal=True, char_length=60, mean_logprob=math.nan),
        ]
    )
    (cell,) = summarize(scores).to_dict("records")
    assert cell["n"] == cell["completions"] == 3
    assert cell["n_seen"] == 1
    assert cell["refusal_score_mean"] == pytest.approx(0.5)
    assert cell["refusal_score_std"] == pytest.approx(0.5)
    assert cell["is_refusal_mean"] == pytest.approx(2 / 3)
    assert cell["degenerate_mean"] == pytest.approx(1 / 3)
    assert cell["char_length_mean"] == pytest.approx(30)
    assert cell["char_length_std"] == pytest.approx(np.std([10, 20, 60], ddof=1))
    assert cell["mean_logprob_mean"] == pytest.approx(-0.5)
    wilson = proportion_confint(2, 3, method="wilson")
    assert (cell["is_refusal_low"], cell["is_refusal_high"]) == pytest.approx(wilson)
    wilson = proportion_confint(3, 3, method="wilson")
    assert (cell["is_helpful_low"], cell["is_helpful_high"]) == pytest.approx(wilson)


def test_samples_of_a_prompt_are_averaged_before_anything_else() -> None:
    scores = pd.DataFrame(
        [row("a", sample=s, refusal_score=0.2 * s, is_refusal=s == 1) for s in range(4)]
        + [row("b", refusal_score=1.0, is_refusal=True)]
    )
    (cell,) = summarize(scores).to_dict("records")
    assert (cell["n"], cell["completions"]) == (2, 5)
    assert cell["refusal_score_mean"] == pytest.approx((0.3 + 1.0) / 2)
    assert cell["refusal_score_std"] == pytest.approx(np.std([0.3, 1.0], ddof=1))
    assert cell["is_refusal_mean"] == pytest.approx((0.25 + 1) / 2)


def test_one_prompt_has_no_deviation() -> None:
    (cell,) = summarize(pd.DataFrame([row()])).to_dict("records")
    assert math.isnan(cell["refusal_score_std"])
    assert math.isnan(cell["char_length_std"])
    header, line = csv_text(summarize(pd.DataFrame([row()]))).splitlines()
    fields = dict(zip(header.split(","), line.split(","), strict=True))
    assert fields["refusal_score_std"] == ""
    assert (fields["alpha"], fields["layer"], fields["n"]) == ("0.0", "12", "1")


def test_rows_are_ordered_by_split_layer_intervention_alpha() -> None:
    splits = ("zoo", "harm_confirm", "benign", "harm_test", "harm_train", "other")
    table = summarize(grid(splits=splits, layers=(16, 8), alphas=(10, 2, 0), prompts=1))
    assert list(dict.fromkeys(table["split"])) == [
        "harm_train",
        "harm_test",
        "benign",
        "harm_confirm",
        "other",
        "zoo",
    ]
    first = table[table["split"] == "harm_train"]
    assert list(zip(first["layer"], first["alpha"], strict=True)) == [
        (layer, alpha) for layer in (8, 16) for alpha in (0, 2, 10)
    ]


def test_controls_are_apart_from_the_grid() -> None:
    controls = [
        row(direction=name, alpha=alpha, condition=condition)
        for name, alpha, condition in (
            ("random-10", 2, "default"),
            ("random-2", 2, "default"),
            ("reversed", -2, "default"),
            ("learned", 0, "no-system-prompt"),
        )
    ]
    scores = pd.concat([grid(), pd.DataFrame(controls)], ignore_index=True)
    pd.testing.assert_frame_equal(summarize(scores), summarize(grid()))
    table = controls_table(scores)
    assert tuple(table.columns) == CONTROL_COLUMNS
    assert list(table["direction"]) == ["learned", "random-2", "random-10", "reversed"]
    assert controls_table(grid()).empty


def test_degenerate_text_in_place_of_a_refusal_counts_as_one() -> None:
    def cell(alpha: float, refused: str, broken: str, **where: object) -> list[dict[str, object]]:
        return [
            row(
                f"p{i}", alpha=alpha, is_refusal=one == "1", is_degenerate=two == "1",
                intervention="ablate", **where,
            )
            for i, (one, two) in enumerate(zip(refused, broken, strict=True))
        ]  # fmt: skip

    scores = pd.DataFrame(
        cell(0, "1100", "0000")
        + cell(1, "1000", "0110")
        + cell(1, "0000", "1111", direction="random-1")
        + cell(1, "0000", "1111", split="benign")
        + cell(1, "0000", "1111", condition="other", direction="random-1")
    )
    unsteered, unknown, steered = (
        one
        for split, alpha in (("harm_test", 0), ("benign", 1), ("harm_test", 1))
        for one in summarize(scores).query("split == @split and alpha == @alpha").to_dict("records")
    )
    assert unsteered["refused_or_degenerate_mean"] == unsteered["is_refusal_mean"] == 0.5
    # p1 was refused and is broken; p2, broken too, was answered.
    assert steered["is_refusal_mean"] == 0.25
    assert steered["refused_or_degenerate_mean"] == 0.5
    assert steered["refused_or_degenerate_low"] == unsteered["is_refusal_low"]
    # Without the unsteered model's answer nobody can tell.
    assert math.isnan(unknown["refused_or_degenerate_mean"])
    same, elsewhere = controls_table(scores).sort_values("condition").to_dict("records")
    assert same["refused_or_degenerate_mean"] == 0.5
    assert math.isnan(elsewhere["refused_or_degenerate_mean"])
    ablated = Cell(12, "ablate", 1)
    claimed = ScoreTable(scores).refused(
        [ablated, replace(ablated, direction="random-1")], "lower", ["harm_test"]
    )
    assert [float(values.mean()) for values in claimed] == [0.5, 0.5]


def test_no_scores_give_an_empty_table_with_its_columns() -> None:
    empty = summarize(grid().iloc[:0])
    assert empty.empty
    assert tuple(empty.columns) == SUMMARY_COLUMNS


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_order_of_rows_does_not_change_a_byte(seed: int) -> None:
    scores = grid(layers=(8, 12), prompts=7)
    shuffled = scores.sample(frac=1, random_state=seed)
    assert csv_text(summarize(shuffled)) == csv_text(summarize(scores))


@pytest.mark.parametrize("column", ["is_refusal", "direction", "sample"])
def test_missing_column_is_named(column: str) -> None:
    with pytest.raises(SteeringError, match=f"found no column {column}, expected"):
        summarize(grid().drop(columns=column))


def test_repeated_completion_is_refused() -> None:
    scores = pd.DataFrame([row("a"), row("b"), row("a")])
    with pytest.raises(SteeringError, match="found 1 rows repeated, first a in harm_test, layer12"):
        summarize(scores)


def test_score_columns_are_those_of_a_row() -> None:
    assert tuple(row()) == SCORE_COLUMNS


class TestSnippets:
    """What people paste after reading ``summary.csv`` works as it stands."""

    @pytest.fixture
    def df(self) -> pd.DataFrame:
        return pd.read_csv(io.StringIO(csv_text(summarize(grid()))))

    def test_best_layer(self, df: pd.DataFrame) -> None:
        harm = df[(df["split"] == "harm_test") & (df.alpha == 4)]
        best = harm.loc[harm["is_refusal_mean"].idxmax(), "layer"]
        assert best == 12
        assert harm.sort_values("is_refusal_mean", ascending=False).iloc[0]["layer"] == 12

    def test_greatest_refusal_by_layer(self, df: pd.DataFrame) -> None:
        best = df.groupby("layer")["is_refusal_mean"].max()
        assert best.to_dict() == {8: 0.3, 12: 0.9, 16: 0.3}

    def test_curves_by_alpha(self, df: pd.DataFrame) -> None:
        matplotlib = pytest.importorskip("matplotlib")
        matplotlib.use("Agg")
        axes = df.groupby("alpha")["is_refusal_mean"].plot()
        assert list(axes.index) == [0.0, 2.0, 4.0]
        matplotlib.pyplot.close("all")

    def test_trade_off_merge_has_one_row_per_cell(self, df: pd.DataFrame) -> None:
        matplotlib = pytest.importorskip("matplotlib")
        matplotlib.use("Agg")
        cell = ["layer", "alpha", "intervention_type"]
        harm, benign = df[df["split"] == "harm_test"], df[df["split"] == "benign"]
        merged = harm.merge(benign, on=cell, suffixes=("_harm", "_benign"))
        assert len(merged) == len(merged.drop_duplicates(cell)) == 9
        merged.plot.scatter(x="is_refusal_mean_harm", y="is_helpful_mean_benign")
        matplotlib.pyplot.close("all")
