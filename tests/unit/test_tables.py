"""Effects, significance and steerability: hand-checked numbers, reasons, and determinism."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from steering_reliability import statistics
from steering_reliability.cells import Cell
from steering_reliability.claims import Coherence
from steering_reliability.errors import SteeringError
from steering_reliability.expectations import evaluate
from steering_reliability.results.atomic import csv_text
from steering_reliability.results.steerability import (
    STEERABILITY_COLUMNS,
    STEERABILITY_SUMMARY_COLUMNS,
    steerability_summary,
    steerability_table,
)
from steering_reliability.results.summary import SCORE_COLUMNS
from steering_reliability.results.tables import (
    EFFECT_COLUMNS,
    LEAST_PROMPTS,
    SIGNIFICANCE_COLUMNS,
    effects_table,
    significance_table,
)

BASE = Cell(12, "add", 0)
ADD2 = Cell(12, "add", 2)
ADD4 = Cell(12, "add", 4)


def rows(
    cell: Cell,
    refusal: Sequence[float],
    split: str = "harm_test",
    first: int = 0,
    **columns: object,
) -> pd.DataFrame:
    """Completions of one cell, one per prompt from ``first`` on, in the columns of the frame."""
    n = len(refusal)
    refused = np.asarray(refusal) > 0.5
    values: dict[str, object] = {
        "prompt_id": [f"{split}-{first + i:03d}" for i in range(n)],
        "split": split,
        "category": "fraud",
        "style": "direct",
        "prompt": "?",
        "seen": False,
        "layer": cell.layer,
        "intervention": cell.intervention,
        "alpha": cell.alpha,
        "direction": cell.direction,
        "condition": cell.condition,
        "sample": 0,
        "text": "!",
        "finish_reason": "stop",
        "refusal_score": np.asarray(refusal, dtype=float),
        "is_refusal": refused,
        "helpfulness_score": 0.5,
        "is_helpful": ~refused,
        "is_degenerate": False,
        "char_length": 1,
        "mean_logprob": -1.0,
        "mean_entropy": 1.0,
        "refusal_log_odds": -1.0,
    }
    assert set(columns) <= set(values)
    assert tuple(values) == SCORE_COLUMNS
    return pd.DataFrame({**values, **columns})


def ones(k: int, n: int, start: int = 0) -> np.ndarray:
    values = np.zeros(n)
    values[(start + np.arange(k)) % n] = 1
    return values


def frame(cells: Mapping[Cell, Sequence[float]], split: str = "harm_test") -> pd.DataFrame:
    return pd.concat([rows(cell, values, split) for cell, values in cells.items()])


def control(name: str, of: Cell = ADD2) -> Cell:
    return Cell(of.layer, of.intervention, of.alpha, name)


def full_level() -> pd.DataFrame:
    """The grid of ``full`` as rows, with controls: 15,000 and 2,800 of them."""
    parts = []
    random = np.random.default_rng(0)
    draws = {split: random.random(200) for split in ("harm_train", "harm_test", "benign")}
    sizes = {"harm_train": 150, "harm_test": 150, "benign": 200}
    for layer, kind, alpha in itertools.product((8, 12, 16), ("add", "ablate"), (0, 1, 2, 4, 8)):
        sign = 1 if kind == "add" else -1
        for split, n in sizes.items():
            level = np.clip(0.2 + 0.05 * sign * alpha + 0.02 * random.standard_normal(n), 0, 1)
            refusal = draws[split][:n] < level
            cell = Cell(layer, kind, alpha)
            odds = random.standard_normal(n) + sign * alpha
            category = [f"kind{i % 9}" for i in range(n)]
            parts.append(rows(cell, refusal, split, refusal_log_odds=odds, category=category))
    rival = draws["harm_test"][:147] < 0.25
    parts += [rows(control(f"random-{k}"), rival) for k in range(1, 20)]
    return pd.concat(parts, ignore_index=True)


class TestEffects:
    def test_numbers_of_one_cell(self) -> None:
        before, after = ones(4, 20), ones(9, 20, start=2)
        broken = ones(3, 20, start=15) > 0.5
        scores = pd.concat([rows(BASE, before), rows(ADD2, after, is_degenerate=broken)])
        (row,) = effects_table(scores).to_dict("records")
        expected = statistics.paired_difference(after, before)
        assert (row["split"], row["layer"], row["alpha"]) == ("harm_test", 12, 2.0)
        assert (row["intervention_type"], row["direction"], row["n"]) == ("add", "learned", 20)
        assert row["refusal_effect"] == pytest.approx(5 / 20)
        # 7 prompts gained and 2 lost: binomial, two-sided.
        assert row["refusal_effect_p"] == pytest.approx(2 * (1 + 9 + 36) / 2**9)
        bounds = (row["refusal_effect_low"], row["refusal_effect_high"])
        assert bounds == pytest.approx((expected.low, expected.high))
        assert row["helpfulness_effect"] == pytest.approx(-5 / 20)
        assert row["degenerate_effect"] == pytest.approx(3 / 20)
        assert row["degenerate_effect_p"] == pytest.approx(0.25)
        assert row["reason"] == ""

    def test_agrees_with_the_verdict(self) -> None:
        scores = frame({BASE: ones(4, 50), ADD2: ones(20, 50, start=1)})
        (row,) = effects_table(scores).to_dict("records")
        verdict = evaluate("alpha_raises_refusal", scores, layer=12, intervention="add", alpha=2)
        assert row["refusal_effect"] == verdict.estimate
        assert (row["refusal_effect_low"], row["refusal_effect_high"]) == (
            verdict.low,
            verdict.high,
        )
        assert row["refusal_effect_p"] == verdict.p_value

    def test_pairs_by_prompt_not_by_place(self) -> None:
        before = rows(BASE, ones(10, 20))
        scores = pd.concat([before.iloc[::-1], rows(ADD2, ones(10, 20))])
        assert effects_table(scores)["refusal_effect_p"].tolist() == [1.0]
        assert effects_table(scores)["refusal_effect"].tolist() == [0.0]

    def test_only_prompts_that_both_have_count(self) -> None:
        scores = pd.concat([rows(BASE, ones(0, 10)), rows(ADD2, ones(10, 10), first=4)])
        (row,) = effects_table(scores).to_dict("records")
        assert (row["n"], row["refusal_effect"]) == (6, 1.0)

    def test_samples_are_averaged_first(self) -> None:
        parts = [
            rows(cell, values, sample=sample)
            for sample, (low, high) in enumerate([(2, 4), (4, 10)])
            for cell, values in ((BASE, ones(low, 20)), (ADD2, ones(high, 20)))
        ]
        (row,) = effects_table(pd.concat(parts)).to_dict("records")
        assert row["n"] == 20
        assert row["refusal_effect"] == pytest.approx((14 - 6) / 40)

    def test_seen_prompts_are_counted(self) -> None:
        seen = ones(7, 20) > 0.5
        scores = pd.concat([rows(c, ones(3, 20), "harm_train", seen=seen) for c in (BASE, ADD2)])
        assert effects_table(scores)["n_seen"].tolist() == [7]

    def test_controls_and_conditions_have_rows_against_their_own_baseline(self) -> None:
        strict = Cell(12, "add", 2, condition="strict")
        cells = {
            BASE: ones(4, 20),
            ADD2: ones(9, 20),
            control("random-10"): ones(6, 20),
            control("random-2"): ones(5, 20),
            strict.baseline: ones(10, 20),
            strict: ones(12, 20),
        }
        table = effects_table(frame(cells))
        found = table.set_index(["direction", "condition"])["refusal_effect"]
        assert list(found.index) == [
            ("learned", "default"),
            ("learned", "strict"),
            ("random-2", "default"),
            ("random-10", "default"),
        ]
        assert found.tolist() == pytest.approx([0.25, 0.1, 0.05, 0.1])

    def test_without_a_baseline_it_is_nan_with_a_reason(self) -> None:
        (row,) = effects_table(rows(ADD2, ones(4, 20))).to_dict("records")
        assert math.isnan(row["refusal_effect"])
        assert math.isnan(row["degenerate_effect_p"])
        assert (row["n"], row["reason"]) == (
            0,
            "no prompts in common with the cell it is compared with",
        )

    def test_a_missing_score_is_nan_with_a_reason(self) -> None:
        lacking = [None, *[True] * 19]
        scores = pd.concat([rows(BASE, ones(4, 20)), rows(ADD2, ones(9, 20), is_helpful=lacking)])
        second = rows(ADD2, ones(9, 20), sample=1)
        (row,) = effects_table(pd.concat([scores, second])).to_dict("records")
        assert row["refusal_effect"] == pytest.approx(0.25)
        assert math.isnan(row["helpfulness_effect"])
        assert row["reason"] == "scores missing"


class TestSignificance:
    def test_every_steered_cell_against_baseline_and_each_kind_of_control(self) -> None:
        scores = frame(
            {
                BASE: ones(4, 20),
                ADD2: ones(9, 20),
                ADD4: ones(12, 20),
                control("random-1"): ones(5, 20),
                control("random-2"): ones(7, 20),
                control("shuffled-1"): ones(4, 20),
                control("reversed"): ones(0, 20),
            }
        )
        benign = frame({BASE: ones(1, 20), ADD2: ones(2, 20)}, "benign")
        table = significance_table(pd.concat([benign, scores]))
        told = table[["split", "alpha", "against", "control"]].to_numpy().tolist()
        assert told == [
            ["harm_test", 2.0, "baseline", ""],
            ["harm_test", 2.0, "random", "random-2"],
            ["harm_test", 2.0, "reversed", "reversed"],
            ["harm_test", 2.0, "shuffled", "shuffled-1"],
            ["harm_test", 4.0, "baseline", ""],
            ["benign", 2.0, "baseline", ""],
        ]
        assert table["difference"].tolist() == pytest.approx([0.25, 0.1, 0.45, 0.25, 0.4, 0.05])
        assert (table["low"] < table["difference"]).all()
        assert (table["high"] > table["difference"]).all()
        assert (table["n"] == 20).all()
        assert (table["reason"] == "").all()

    def test_holm_is_over_the_whole_table(self) -> None:
        table = significance_table(full_level())
        assert len(table) == 3 * 2 * 4 * 3 + 1
        adjusted = multipletests(table["paired_p"], method="holm")[1]
        assert table["p_holm"].to_numpy() == pytest.approx(adjusted)
        assert (table["p_holm"] >= table["paired_p"]).all()

    def test_several_controls_must_all_be_outdone(self) -> None:
        # The strongest control loses to the cell on each of 8 prompts; the weaker one is all
        # discordance, so that the difference to it is the less certain of the two.
        n = 40
        learned = ones(24, n)
        near = ones(16, n)
        far = ones(15, n, start=24)
        scores = frame(
            {BASE: ones(0, n), ADD2: learned, control("random-1"): near, control("random-2"): far}
        )
        row = significance_table(scores).set_index("against").loc["random"]
        p_values = [statistics.paired_difference(learned, other).p_value for other in (near, far)]
        assert p_values[0] < 0.01 < p_values[1]
        assert row["control"] == "random-1"
        assert row["difference"] == pytest.approx(8 / n)
        assert row["paired_p"] == p_values[1]

    def test_a_cell_that_does_not_lead_has_p_1(self) -> None:
        n = 40
        cells = {
            BASE: ones(0, n),
            ADD2: ones(12, n),
            control("random-1"): ones(30, n),
            control("random-2"): ones(0, n),
        }
        row = significance_table(frame(cells)).set_index("against").loc["random"]
        assert row["difference"] == pytest.approx(-18 / n)
        assert row["paired_p"] == row["p_holm"] == 1.0

    def test_ablation_is_compared_with_the_control_that_lowers_most(self) -> None:
        ablate = Cell(12, "ablate", 1)
        cells = {
            ablate.baseline: ones(20, 40),
            ablate: ones(4, 40),
            control("random-1", ablate): ones(18, 40),
            control("random-2", ablate): ones(12, 40),
        }
        row = significance_table(frame(cells)).set_index("against").loc["random"]
        assert row["control"] == "random-2"
        assert row["difference"] == pytest.approx(-8 / 40)
        assert row["paired_p"] == pytest.approx(2 / 2**8)

    def test_a_control_that_breaks_the_text_lowers_no_refusal(self) -> None:
        ablate = Cell(12, "ablate", 1)
        breaks = control("random-1", ablate)
        cells = {ablate.baseline: ones(20, 40), ablate: ones(4, 40), breaks: ones(0, 40)}
        scores = frame(cells)
        scores.loc[scores["direction"] == "random-1", "is_degenerate"] = True
        row = significance_table(scores).set_index("against").loc["random"]
        assert row["difference"] == pytest.approx(-16 / 40)
        unknown = scores[scores["alpha"] != 0]
        row = significance_table(unknown).set_index("against").loc["random"]
        assert row["difference"] == pytest.approx(-36 / 40)

    def test_controls_are_held_against_what_a_cell_was_chosen_for(self) -> None:
        cells = {
            BASE: ones(20, 40),
            ADD2: ones(4, 40),
            control("random-1"): ones(18, 40),
            control("random-2"): ones(12, 40),
        }
        chosen = significance_table(frame(cells), {("harm_test", ADD2): ["raise", "lower"]})
        assert chosen["against"].tolist() == ["baseline", "baseline", "random", "random"]
        assert chosen["goal"].tolist() == ["raise", "lower", "raise", "lower"]
        assert chosen["control"].tolist() == ["", "", "random-1", "random-2"]
        assert chosen["paired_p"].tolist()[2:] == [1.0, pytest.approx(2 / 2**8)]
        assert significance_table(frame(cells))["goal"].tolist() == ["raise", "raise"]

    def test_against_the_unsteered_model_it_counts_by_goal_and_tells_what_is_scored(self) -> None:
        # Of 20 refusals 8 are left and 6 broke.
        cells = {BASE: ones(20, 40), ADD2: ones(8, 40)}
        ablate = Cell(12, "ablate", 1)
        cells |= {ablate.baseline: ones(20, 40), ablate: ones(8, 40)}
        scores = frame(cells)
        broke = scores["prompt_id"].str[-3:].astype(int).between(8, 13) & (scores["alpha"] > 0)
        scores["is_degenerate"] = broke
        chosen = significance_table(scores, {("harm_test", ADD2): ["raise", "lower"]})
        told = chosen[["intervention_type", "goal", "difference", "as_scored"]]
        assert told.to_numpy().tolist() == [
            ["ablate", "lower", pytest.approx(-6 / 40), pytest.approx(-12 / 40)],
            ["add", "raise", pytest.approx(-12 / 40), pytest.approx(-12 / 40)],
            ["add", "lower", pytest.approx(-6 / 40), pytest.approx(-12 / 40)],
        ]
        assert chosen["paired_p"].tolist() == [
            pytest.approx(p) for p in (2 / 2**6, 2 / 2**12, 2 / 2**6)
        ]
        effects = effects_table(scores)
        assert effects["refusal_effect"].tolist() == pytest.approx([-12 / 40] * 2)

    def test_every_row_has_its_goal_and_the_effect_that_effects_csv_tells(self) -> None:
        scores = full_level()
        table, effects = significance_table(scores), effects_table(scores)
        assert set(table["goal"]) == {"raise", "lower"}
        against = table[table["against"] == "baseline"]
        grid = effects[(effects["direction"] == "learned") & (effects["condition"] == "default")]
        keys = ["split", "layer", "intervention_type", "alpha"]
        both = against.merge(grid, on=keys, validate="one_to_one")
        assert len(both) == len(against)
        assert both["as_scored"].to_numpy() == pytest.approx(both["refusal_effect"].to_numpy())
        raised = both[both["goal"] == "raise"]
        assert raised["difference"].to_numpy() == pytest.approx(raised["as_scored"].to_numpy())

    def test_agrees_with_beats_controls(self) -> None:
        cells = {BASE: ones(8, 40), ADD2: ones(25, 40), control("random-1"): ones(12, 40)}
        scores = frame({**cells, control("random-2"): ones(14, 40)})
        verdict = evaluate("beats_controls", scores, layer=12, intervention="add", alpha=2)
        row = significance_table(scores).set_index("against").loc["random"]
        assert (row["difference"], row["low"], row["high"], row["paired_p"]) == (
            verdict.estimate,
            verdict.low,
            verdict.high,
            verdict.p_value,
        )

    def test_too_few_prompts_are_nan_with_a_reason_and_no_test(self) -> None:
        few = frame({BASE: ones(0, 5), ADD2: ones(5, 5)}, "benign")
        enough = frame({BASE: ones(0, 6), ADD2: ones(6, 6)})
        table = significance_table(pd.concat([few, enough]))
        assert table["reason"].tolist() == ["", "5 prompts, a test at .05 needs at least 6"]
        assert table.loc[0, "paired_p"] == pytest.approx(2 / 2**6)
        assert table["p_holm"].iloc[0] == table["paired_p"].iloc[0] < 0.05
        numbers = ["difference", "low", "high", "as_scored", "paired_p", "p_holm"]
        assert table.loc[1, numbers].isna().all()
        assert table["n"].tolist() == [6, 5]
        assert 2 / 2 ** (LEAST_PROMPTS - 1) > 0.05

    def test_without_a_baseline_there_is_a_reason(self) -> None:
        (row,) = significance_table(rows(ADD2, ones(4, 20))).to_dict("records")
        assert "no prompts in common" in row["reason"]
        assert math.isnan(row["p_holm"])


class TestSteerability:
    def scores(self, slopes: Sequence[float], **columns: object) -> pd.DataFrame:
        """Log-odds that rise by ``slopes`` per unit of alpha; refusal scores that do not move."""
        n = len(slopes)
        return pd.concat(
            rows(
                Cell(12, "add", alpha),
                np.full(n, 0.3),
                refusal_log_odds=-2 + alpha * np.asarray(slopes),
                **columns,
            )
            for alpha in (0, 1, 2, 4)
        )

    def test_slopes_of_each_prompt(self) -> None:
        slopes = [0.5, -0.25, 0.0, 1.5]
        table = steerability_table(self.scores(slopes))
        assert table["prompt_id"].tolist() == [f"harm_test-{i:03d}" for i in range(4)]
        assert table["refusal_log_odds_slope"].to_numpy() == pytest.approx(np.array(slopes))
        assert table["refusal_score_slope"].tolist() == [0.0] * 4
        assert table["alphas"].tolist() == ["0 1 2 4"] * 4
        assert table["reason"].tolist() == [""] * 4

    def test_anti_steerable_share(self) -> None:
        slopes = [0.5, -0.25, 0.1, 1.5, 0.3, 0.2, 0.1, 0.9, 1.0, -0.1]
        seen = ones(3, 10) > 0.5
        styles = ["direct"] * 5 + ["role-play"] * 5
        table = steerability_summary(
            steerability_table(self.scores(slopes, seen=seen, style=styles))
        )
        odds = table[table["measure"] == "refusal_log_odds"].set_index(["group_by", "group"])
        assert list(odds.index) == [
            ("split", "harm_test"),
            ("category", "fraud"),
            ("style", "direct"),
            ("style", "role-play"),
        ]
        whole = odds.loc[("split", "harm_test")]
        interval = statistics.wilson(2, 10)
        assert (whole["n"], whole["n_seen"]) == (10, 3)
        assert whole["slope_mean"] == pytest.approx(np.mean(slopes))
        assert whole["slope_std"] == pytest.approx(np.std(slopes, ddof=1))
        assert whole["anti_steerable"] == pytest.approx(0.2)
        assert whole["anti_steerable_low"] == pytest.approx(interval.low)
        assert whole["anti_steerable_high"] == pytest.approx(interval.high)
        assert odds["n"].tolist() == [10, 10, 5, 5]
        assert odds["anti_steerable"].tolist() == pytest.approx([0.2, 0.2, 0.2, 0.2])

    @pytest.mark.parametrize("kind", ["add", "ablate"])
    @pytest.mark.parametrize(
        "values", [(0.9, 0.9, 0.9, 0.9), (0.8, 0.35, 0.35, 0.7), (0.95, 0.35, 0.5, 0.8)]
    )
    def test_a_slope_of_0_is_not_anti_steerable(self, kind: str, values: tuple[float, ...]) -> None:
        # Over 0, 1, 2, 4 all have slope 0, where floating point says -6e-17, -2e-17 and 2e-17.
        scores = self.scores([0.0] * 8)
        scores["refusal_score"] = scores["alpha"].map(dict(zip((0, 1, 2, 4), values, strict=True)))
        table = steerability_summary(steerability_table(scores.assign(intervention=kind)))
        assert table["anti_steerable"].tolist() == [0.0] * len(table)

    def test_ablation_is_meant_to_lower(self) -> None:
        scores = self.scores([-0.5, -0.5, -0.5, 0.5]).assign(intervention="ablate")
        table = steerability_summary(steerability_table(scores))
        odds = table[table["measure"] == "refusal_log_odds"]
        assert odds["anti_steerable"].tolist() == [0.25] * 3

    def test_alphas_end_where_the_text_breaks(self) -> None:
        scores = self.scores([1.0] * 10)
        broken = scores["prompt_id"].isin(["harm_test-001", "harm_test-002"])
        scores["is_degenerate"] = broken & (scores["alpha"] == 2)
        assert set(steerability_table(scores)["alphas"]) == {"0 1"}
        wide = Coherence(gate=0.2)
        assert set(steerability_table(scores, wide)["alphas"]) == {"0 1 2 4"}

    def test_negative_alphas_count_from_0_outwards(self) -> None:
        scores = self.scores([1.0] * 4)
        minus = [scores[scores["alpha"] == 2].assign(alpha=-2.0, refusal_log_odds=-4.0)]
        minus.append(minus[0].assign(alpha=-4.0, is_degenerate=True))
        minus.append(minus[0].assign(alpha=-8.0))
        table = steerability_table(pd.concat([scores, *minus]))
        assert set(table["alphas"]) == {"-2 0 1 2 4"}
        assert table["refusal_log_odds_slope"].tolist() == pytest.approx([1.0] * 4)

    def test_nothing_coherent_is_nan_with_a_reason(self) -> None:
        scores = self.scores([1.0] * 10)
        scores["is_degenerate"] = scores["alpha"] == 1
        table = steerability_table(scores)
        assert table["refusal_log_odds_slope"].isna().all()
        assert set(table["reason"]) == {
            "every alpha but 0 is past the coherence gate, a slope needs two alphas"
        }
        summary = steerability_summary(table)
        assert summary[["slope_mean", "slope_std", "anti_steerable_low"]].isna().all(axis=None)
        assert (summary["n"] == 0).all()
        assert set(summary["reason"]) == set(table["reason"])

    def test_a_missing_score_is_nan_with_a_reason(self) -> None:
        scores = self.scores([1.0, 1.0])
        gone = (scores["prompt_id"] == "harm_test-000") & (scores["alpha"] == 4)
        scores.loc[gone, "refusal_log_odds"] = math.nan
        table = steerability_table(scores)
        assert table["reason"].tolist() == ["no refusal_log_odds at some alpha", ""]
        assert table["refusal_score_slope"].tolist() == [0.0, 0.0]
        summary = steerability_summary(table).set_index(["measure", "group_by"])
        alone = summary.loc[("refusal_log_odds", "split")]
        assert (alone["n"], alone["slope_mean"]) == (1, pytest.approx(1.0))
        assert math.isnan(alone["slope_std"])
        assert alone["reason"] == "one prompt, no spread"

    def test_series_that_were_not_steered_on_a_split_are_left_out(self) -> None:
        scores = self.scores([1.0] * 4)
        confirm = scores[scores["alpha"] == 0].assign(split="harm_confirm")
        assert set(steerability_table(pd.concat([scores, confirm]))["split"]) == {"harm_test"}

    def test_controls_are_left_out(self) -> None:
        scores = self.scores([1.0] * 4)
        other = scores[scores["alpha"] == 2].assign(direction="random-1", refusal_log_odds=99.0)
        table = steerability_table(pd.concat([scores, other]))
        pd.testing.assert_frame_equal(table, steerability_table(scores))


TABLES = {
    "effects": (effects_table, EFFECT_COLUMNS),
    "significance": (significance_table, SIGNIFICANCE_COLUMNS),
    "steerability": (steerability_table, STEERABILITY_COLUMNS),
    "steerability_summary": (
        lambda scores: steerability_summary(steerability_table(scores)),
        STEERABILITY_SUMMARY_COLUMNS,
    ),
}


@pytest.fixture(scope="module")
def level() -> pd.DataFrame:
    return full_level()


@pytest.mark.parametrize("name", TABLES)
class TestEveryTable:
    def test_same_bytes_whatever_the_order_of_rows(self, name: str, level: pd.DataFrame) -> None:
        make, columns = TABLES[name]
        text = csv_text(make(level))
        assert text == csv_text(make(level.sample(frac=1, random_state=1)))
        assert text.startswith(",".join(columns) + "\n")

    def test_splits_are_in_their_order(self, name: str, level: pd.DataFrame) -> None:
        table = TABLES[name][0](level)
        assert table["split"].unique().tolist() == ["harm_train", "harm_test", "benign"]
        places = table.loc[table["split"] == "benign", ["layer", "intervention_type"]]
        assert places.to_numpy().tolist() == sorted(places.to_numpy().tolist())

    def test_no_scores_give_its_columns(self, name: str, level: pd.DataFrame) -> None:
        make, columns = TABLES[name]
        table = make(level.iloc[:0])
        assert (len(table), tuple(table.columns)) == (0, columns)

    def test_missing_column_is_named(self, name: str, level: pd.DataFrame) -> None:
        with pytest.raises(SteeringError, match="is_refusal"):
            TABLES[name][0](level.drop(columns="is_refusal"))

    def test_a_full_level_takes_under_a_second(self, name: str, level: pd.DataFrame) -> None:
        make, _ = TABLES[name]
        # CPU time, the best of three: the machine may be busy with other things.
        times = []
        for _ in range(3):
            start = time.process_time()
            make(level)
            times.append(time.process_time() - start)
        assert len(level) > 12_500
        assert min(times) < 1
