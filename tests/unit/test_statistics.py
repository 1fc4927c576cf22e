"""Estimators against published numbers, statsmodels and scipy, and by their properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_reliability import statistics
from steering_reliability.statistics.sample_size import both_probability
from steering_reliability.statistics.trends import MIN_PROMPTS

Z95 = statistics.critical_value(0.95)

counts = st.integers(0, 40)
tables = st.tuples(counts, counts, counts, counts).filter(lambda table: sum(table) > 0)
confidences = st.floats(0.5, 0.999)


def pairs(both: int, gained: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    after = np.repeat([1.0, 1.0, 0.0, 0.0], (both, gained, lost, neither))
    before = np.repeat([1.0, 0.0, 1.0, 0.0], (both, gained, lost, neither))
    return after, before


def rates(n: int, samples: int) -> st.SearchStrategy[np.ndarray]:
    draws = st.lists(st.integers(0, samples), min_size=n, max_size=n)
    return draws.map(lambda values: np.array(values) / samples)


class TestWilson:
    @pytest.mark.parametrize(
        ("successes", "n", "confidence"),
        [(0, 20, 0.95), (3, 20, 0.95), (20, 20, 0.9), (81, 263, 0.95), (1, 29, 0.99)],
    )
    def test_agrees_with_statsmodels(self, successes: int, n: int, confidence: float) -> None:
        from statsmodels.stats.proportion import proportion_confint

        expected = proportion_confint(successes, n, 1 - confidence, method="wilson")
        found = statistics.wilson(successes, n, confidence)
        assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize(
        ("successes", "n", "low", "high"),
        [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ],
    )
    def test_agrees_with_newcombe_1998(
        self, successes: int, n: int, low: float, high: float
    ) -> None:
        found = statistics.wilson(successes, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)

    def test_one_sided_95_is_two_sided_90(self) -> None:
        one = statistics.wilson(4, 20, 0.95, one_sided=True)
        two = statistics.wilson(4, 20, 0.90)
        assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=1e-12)
        assert one.confidence == 0.95

    @given(st.integers(1, 500), st.floats(0, 1), confidences)
    def test_contains_the_rate_and_stays_on_the_scale(
        self, n: int, share: float, confidence: float
    ) -> None:
        found = statistics.wilson(round(share * n), n, confidence)
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.low < found.high

    @given(st.integers(1, 100), st.floats(0, 1), st.integers(2, 5))
    def test_narrows_with_more_prompts(self, n: int, share: float, factor: int) -> None:
        k = round(share * n)
        few, many = statistics.wilson(k, n), statistics.wilson(k * factor, n * factor)
        assert many.high - many.low < few.high - few.low

    def test_no_prompts_is_nan_with_a_reason(self) -> None:
        found = statistics.wilson(0, 0)
        assert math.isnan(found.value)
        assert found.reason == "no prompts"

    @pytest.mark.parametrize("successes", [-1, 6])
    def test_impossible_counts_are_refused(self, successes: int) -> None:
        with pytest.raises(ValueError, match="expected 0 to 5"):
            statistics.wilson(successes, 5)

    @pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
    def test_impossible_confidence_is_refused(self, confidence: float) -> None:
        with pytest.raises(ValueError, match="confidence"):
            statistics.wilson(1, 5, confidence)

    def test_averages_of_samples_are_narrower_than_single_samples(self) -> None:
        single = statistics.rate(np.repeat([0.0, 1.0], (30, 20)))
        averaged = statistics.rate(np.tile([0.3, 0.5], 25))
        assert single.value == pytest.approx(averaged.value) == 0.4
        assert averaged.high - averaged.low < (single.high - single.low) / 2

    def test_equal_averages_are_not_certainty(self) -> None:
        found = statistics.rate(np.full(20, 1 / 3))
        assert found.low < 0.2 < 0.5 < found.high


class TestPairedDifference:
    @pytest.mark.parametrize(
        ("table", "low", "high"),
        [
            # Newcombe 1998, Statistics in Medicine 17:2635, method 10.
            ((36, 12, 2, 0), 0.0569, 0.3404),
            ((20, 12, 2, 16), 0.0562, 0.3292),
            # Altman, Machin, Bryant and Gardner 2000, table 6.2.
            ((14, 5, 0, 22), 0.011, 0.226),
            # Fagerland, Lydersen and Laake 2014: Bentur 2009 and Cavo 2012.
            ((1, 1, 7, 12), -0.507, -0.026),
            ((59, 6, 16, 80), -0.1186, -0.0046),
        ],
    )
    def test_agrees_with_published_examples(
        self, table: tuple[int, int, int, int], low: float, high: float
    ) -> None:
        found = statistics.paired_difference(*pairs(*table))
        digits = 5e-5 if len(str(low)) > 6 else 6e-4
        assert (found.low, found.high) == pytest.approx((low, high), abs=digits)
        assert found.value == pytest.approx((table[1] - table[2]) / sum(table))

    @given(tables, confidences)
    def test_contains_the_difference_and_stays_on_the_scale(
        self, table: tuple[int, int, int, int], confidence: float
    ) -> None:
        found = statistics.paired_difference(*pairs(*table), confidence)
        assert -1 <= found.low <= found.value <= found.high <= 1
        assert found.low < found.high

    @given(tables, confidences)
    def test_is_antisymmetric(self, table: tuple[int, int, int, int], confidence: float) -> None:
        after, before = pairs(*table)
        there = statistics.paired_difference(after, before, confidence)
        back = statistics.paired_difference(before, after, confidence)
        assert (there.value, there.low, there.high) == pytest.approx(
            (-back.value, -back.high, -back.low), abs=1e-12
        )
        assert there.p_value == back.p_value

    @given(tables, st.integers(2, 4))
    def test_narrows_with_more_prompts(self, table: tuple[int, int, int, int], factor: int) -> None:
        few = statistics.paired_difference(*pairs(*table))
        many = statistics.paired_difference(*pairs(*(factor * count for count in table)))
        assert many.high - many.low < few.high - few.low

    @given(tables)
    def test_widens_with_confidence(self, table: tuple[int, int, int, int]) -> None:
        inner = statistics.paired_difference(*pairs(*table), 0.9)
        outer = statistics.paired_difference(*pairs(*table), 0.99)
        assert outer.low <= inner.low
        assert inner.high <= outer.high
        assert inner.high - inner.low < outer.high - outer.low

    @settings(max_examples=40)
    @given(rates(12, 3), rates(12, 3))
    def test_averages_behave_like_rates(self, after: np.ndarray, before: np.ndarray) -> None:
        found = statistics.paired_difference(after, before)
        back = statistics.paired_difference(before, after)
        assert found.low <= found.value <= found.high
        assert (found.low, found.high) == pytest.approx((-back.high, -back.low), abs=1e-12)
        order = np.random.default_rng(0).permutation(12)
        moved = statistics.paired_difference(after[order], before[order])
        assert (moved.low, moved.high) == pytest.approx((found.low, found.high), abs=1e-12)

    def test_averages_of_one_sample_each_give_method_10_in_the_limit(self) -> None:
        after, before = pairs(10, 30, 10, 50)
        nudged = after.copy()
        nudged[0] -= 1e-9
        exact = statistics.paired_difference(after, before)
        near = statistics.paired_difference(nudged, before)
        assert (near.low, near.high) == pytest.approx((exact.low, exact.high), abs=1e-6)

    def test_no_change_in_averages_is_not_certainty(self) -> None:
        same = np.full(20, 0.5)
        found = statistics.paired_difference(same, same)
        assert found.low < -0.1 < 0.1 < found.high
        assert found.p_value == 1.0

    def test_missing_scores_are_nan_with_a_reason(self) -> None:
        found = statistics.paired_difference([1.0, math.nan], [0.0, 0.0])
        assert math.isnan(found.low)
        assert found.reason == "scores missing"
        assert statistics.paired_difference([], []).reason == "no prompts"

    def test_unpaired_lengths_are_refused(self) -> None:
        with pytest.raises(ValueError, match="equal shapes"):
            statistics.paired_difference([1.0], [1.0, 0.0])


class TestUnpairedDifference:
    @pytest.mark.parametrize(
        ("first", "second", "low", "high"),
        [
            # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10.
            ((56, 70), (48, 80), 0.0524, 0.3339),
            ((9, 10), (3, 10), 0.1705, 0.8090),
            ((6, 7), (2, 7), 0.0582, 0.8062),
            ((5, 56), (0, 29), -0.0381, 0.1926),
            ((0, 10), (0, 20), -0.1611, 0.2775),
        ],
    )
    def test_agrees_with_newcombe_1998(
        self, first: tuple[int, int], second: tuple[int, int], low: float, high: float
    ) -> None:
        found = statistics.unpaired_difference(*first, *second)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)

    def test_agrees_with_statsmodels(self) -> None:
        from statsmodels.stats.proportion import confint_proportions_2indep

        expected = confint_proportions_2indep(31, 86, 12, 150, method="newcomb")
        found = statistics.unpaired_difference(31, 86, 12, 150)
        assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)

    def test_difference_of_differences_squares_and_adds(self) -> None:
        one = statistics.Estimate(0.30, 0.20, 0.42, 50)
        two = statistics.Estimate(0.10, 0.02, 0.16, 50)
        found = statistics.difference_of_estimates(one, two)
        assert found.value == pytest.approx(0.20)
        assert found.low == pytest.approx(0.20 - math.hypot(0.10, 0.06))
        assert found.high == pytest.approx(0.20 + math.hypot(0.12, 0.08))
        assert found.n == 100

    def test_a_missing_part_is_missing_with_its_reason(self) -> None:
        one = statistics.Estimate(0.30, 0.20, 0.42, 50)
        found = statistics.difference_of_estimates(one, statistics.Estimate.missing("no prompts"))
        assert math.isnan(found.value)
        assert found.reason == "no prompts"
        assert statistics.unpaired_difference(0, 0, 1, 5).reason == "no prompts"

    def test_mixed_confidence_is_refused(self) -> None:
        one = statistics.Estimate(0.3, 0.2, 0.4, 50, confidence=0.95)
        two = statistics.Estimate(0.3, 0.2, 0.4, 50, confidence=0.90)
        with pytest.raises(ValueError, match="expected equal"):
            statistics.difference_of_estimates(one, two)


class TestPValues:
    @pytest.mark.parametrize(
        ("gained", "lost"), [(0, 0), (5, 0), (6, 1), (12, 2), (20, 20), (3, 9)]
    )
    def test_mcnemar_agrees_with_statsmodels(self, gained: int, lost: int) -> None:
        from statsmodels.stats.contingency_tables import mcnemar

        expected = mcnemar([[10, gained], [lost, 10]], exact=True).pvalue
        assert statistics.mcnemar(gained, lost) == pytest.approx(min(expected, 1.0), abs=1e-12)

    def test_sign_flip_is_near_the_exact_test(self) -> None:
        changes = np.array([0.5, 0.5, 1.0, -0.25, 0.75, 0.0, 0.25, -0.5])
        signs = np.array(list(itertools.product((-1, 1), repeat=len(changes))))
        exact = (np.abs(signs @ changes) >= abs(changes.sum()) - 1e-9).mean()
        assert statistics.sign_flip(changes) == pytest.approx(exact, abs=0.035)
        assert statistics.sign_flip(changes, seed=1) == statistics.sign_flip(changes, seed=1)

    def test_gap_permutation_is_near_the_exact_test(self) -> None:
        first, second = np.array([1.0, 1.0, 0.0, 1.0]), np.array([0.0, 0.0, 0.0, 1.0, -1.0])
        pooled = np.r_[first, second]
        gaps = []
        for chosen in itertools.combinations(range(9), 4):
            mask = np.isin(np.arange(9), chosen)
            gaps.append(abs(pooled[mask].mean() - pooled[~mask].mean()))
        exact = (np.array(gaps) >= abs(first.mean() - second.mean()) - 1e-9).mean()
        assert statistics.gap_permutation(first, second) == pytest.approx(exact, abs=0.035)

    def test_holm_agrees_with_statsmodels(self) -> None:
        from statsmodels.stats.multitest import multipletests

        p_values = [0.011, 0.02, 0.5, 0.003, 0.04, 0.04]
        expected = multipletests(p_values, method="holm")[1]
        assert statistics.holm(p_values) == pytest.approx(expected, abs=1e-12)

    def test_holm_leaves_missing_tests_out(self) -> None:
        found = statistics.holm([0.01, math.nan, 0.04])
        assert math.isnan(found[1])
        assert found[[0, 2]] == pytest.approx([0.02, 0.04])

    @given(st.lists(st.floats(0, 1), max_size=20))
    def test_holm_never_lowers_a_p_value_nor_their_order(self, p_values: list[float]) -> None:
        found = statistics.holm(p_values)
        assert (found >= np.array(p_values)).all()
        assert (np.diff(found[np.argsort(p_values, kind="stable")]) >= 0).all()

    def test_rank_needs_to_beat_all_of_nineteen(self) -> None:
        rivals = np.linspace(0.1, 0.3, 19)
        assert statistics.rank_test(0.4, rivals) == pytest.approx(0.05)
        assert statistics.rank_test(0.3, rivals) == pytest.approx(0.10)
        assert statistics.rank_test(0.0, rivals) == 1.0
        assert math.isnan(statistics.rank_test(0.4, []))

    @pytest.mark.parametrize(
        ("largest_p", "times", "needed"),
        [(0.05, 1, 19), (0.05, 3, 59), (0.05, 6, 119), (0.01, 1, 99), (0.07, 1, 14), (0.3, 3, 9)],
    )
    def test_so_many_rivals_can_be_outranked_and_one_less_cannot(
        self, largest_p: float, times: int, needed: int
    ) -> None:
        assert statistics.rivals_to_rank(largest_p, times) == needed
        assert times * statistics.rank_test(1, [0] * needed) <= largest_p + 1e-9
        assert times * statistics.rank_test(1, [0] * (needed - 1)) > largest_p + 1e-9


class TestTrend:
    def test_slopes_agree_with_polyfit(self) -> None:
        alphas = [0.0, 1.0, 2.0, 4.0]
        scores = np.random.default_rng(0).random((7, 4))
        expected = [np.polyfit(alphas, row, 1)[0] for row in scores]
        assert statistics.prompt_slopes(scores, alphas) == pytest.approx(expected)

    def test_interval_is_near_the_t_interval(self) -> None:
        from scipy import stats

        values = np.random.default_rng(0).normal(size=60)
        low, high = statistics.bootstrap_bounds(values)
        expected = stats.t.interval(0.95, 59, values.mean(), stats.sem(values))
        assert (float(low), float(high)) == pytest.approx(expected, abs=0.04)

    def test_small_samples_are_widened(self) -> None:
        rng = np.random.default_rng(1)
        low, high = statistics.bootstrap_bounds(rng.normal(size=(800, 8)))
        assert 0.90 <= ((low <= 0) & (high >= 0)).mean() <= 0.98

    def test_a_rise_has_a_small_p_value_and_chance_has_not(self) -> None:
        rng = np.random.default_rng(2)
        rising = (rng.random((40, 3)) < [0.1, 0.4, 0.7]).astype(float)
        found = statistics.trend(rising, [0, 2, 4])
        assert found.p_value < 0.01
        assert 0 < found.low < found.value < found.high
        chance = [
            statistics.trend((rng.random((20, 3)) < 0.2).astype(float), [0, 2, 4]).p_value
            for _ in range(60)
        ]
        assert np.mean(np.array(chance) <= 0.05) < 0.15

    def test_permutation_agrees_with_all_orders(self) -> None:
        alphas = np.array([0.0, 1.0, 2.0])
        scores = np.array([[0, 0, 1.0], [0, 1, 1], [0, 0, 0], [0, 1, 0], [0, 0, 1]])
        weights = (alphas - 1) / 2
        every = list(itertools.permutations(weights))
        sums = [
            sum(np.dot(order, row) for order, row in zip(orders, scores, strict=True))
            for orders in itertools.product(every, repeat=len(scores))
        ]
        exact = np.mean(np.abs(sums) >= abs((scores @ weights).sum()) - 1e-9)
        assert statistics.trend(scores, alphas).p_value == pytest.approx(exact, abs=0.035)

    def test_too_little_data_is_nan_with_a_reason(self) -> None:
        few = statistics.trend(np.random.default_rng(0).random((MIN_PROMPTS - 1, 3)), [0, 1, 2])
        assert math.isnan(few.value)
        assert "at least" in few.reason
        assert "same slope" in statistics.trend(np.zeros((20, 3)), [0, 1, 2]).reason
        assert "two alphas" in statistics.trend(np.zeros((20, 1)), [0]).reason

    def test_the_same_seed_gives_the_same_resamples(self) -> None:
        weights = statistics.bootstrap_weights(20, 3)
        statistics.bootstrap_weights.cache_clear()
        assert (weights == statistics.bootstrap_weights(20, 3)).all()
        assert weights.sum(axis=1) == pytest.approx(1)
        assert (weights != statistics.bootstrap_weights(20, 4)).any()


class TestSampleSize:
    @pytest.mark.parametrize("correlation", [-0.5, 0.2, 0.5, 0.9])
    def test_both_probability_at_the_median_is_sheppards(self, correlation: float) -> None:
        expected = 0.25 + math.asin(correlation) / (2 * math.pi)
        assert both_probability(0.5, 0.5, correlation) == pytest.approx(expected, abs=1e-9)

    def test_both_probability_agrees_with_scipy(self) -> None:
        from scipy import stats

        point = stats.norm.ppf([0.2, 0.3])
        expected = stats.multivariate_normal(cov=[[1, 0.5], [0.5, 1]]).cdf(point)
        assert both_probability(0.2, 0.3, 0.5) == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize(
        ("before", "effect", "bound", "one_sided"),
        [
            (0.2, 0.10, 0.0, False),
            (0.1, 0.25, 0.0, False),
            (0.05, 0.0, 0.15, True),
            (0.3, -0.1, 0.0, False),
        ],
    )
    def test_the_promised_power_is_kept(
        self, before: float, effect: float, bound: float, one_sided: bool
    ) -> None:
        from scipy.special import ndtri

        n = statistics.prompts_for_difference(before, effect, bound, one_sided=one_sided)
        assert n is not None
        rng = np.random.default_rng(0)
        shared = rng.normal(size=(3000, n))
        first, second = (
            np.sqrt(0.5) * (shared + rng.normal(size=(3000, n))) < ndtri(rate)
            for rate in (before + effect, before)
        )
        both, gained = (first & second).sum(1), (first & ~second).sum(1)
        lost = (~first & second).sum(1)
        z = statistics.critical_value(0.95, one_sided)
        low, high = statistics.newcombe_bounds(both, gained, lost, n - both - gained - lost, z)
        power = (low > bound).mean() if effect > bound else (high < bound).mean()
        assert 0.75 <= power <= 0.88

    @given(st.floats(0.05, 0.6), st.floats(0.05, 0.3))
    def test_larger_effects_need_fewer_prompts(self, before: float, effect: float) -> None:
        small = statistics.prompts_for_difference(before, effect)
        large = statistics.prompts_for_difference(before, effect + 0.08)
        assert small is not None
        assert large is not None
        assert large <= small

    def test_what_no_number_settles_is_none(self) -> None:
        assert statistics.prompts_for_difference(0.95, 0.10) is None
        assert statistics.prompts_for_difference(0.5, 0.001) is None
        assert statistics.prompts_for_slope(0.0, 0.1) is None
        assert statistics.prompts_for_rate(0.1999, 0.2, 0.4, 0.9) is None

    def test_a_rate_in_the_middle_needs_fewer_prompts_than_one_near_the_edge(self) -> None:
        middle = statistics.prompts_for_rate(0.20, 0.05, 0.40, 0.90)
        edge = statistics.prompts_for_rate(0.30, 0.05, 0.40, 0.90)
        assert middle is not None
        assert edge is not None
        assert middle < edge

    def test_a_gap_needs_more_prompts_than_either_effect(self) -> None:
        per_split = statistics.prompts_for_gap(0.2, 0.2, 0.20)
        single = statistics.prompts_for_difference(0.2, 0.0, 0.20, one_sided=True)
        assert per_split is not None
        assert single is not None
        assert per_split > single

    def test_slopes_follow_the_textbook_formula(self) -> None:
        assert statistics.prompts_for_slope(1.0, 0.5) == math.ceil(
            (1.959964 + 0.841621) ** 2 / 0.25
        )


def test_a_score_that_never_changes_has_a_slope_of_exactly_zero() -> None:
    scores = np.full((20, 4), 0.35)
    assert (statistics.prompt_slopes(scores, [0, 1, 2, 4]) == 0).all()
