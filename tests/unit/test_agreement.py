"""Cohen's kappa against scikit-learn's and against what the words promise."""

from __future__ import annotations

import numpy as np
import pytest

from steering_reliability.statistics import cohen_kappa


def test_a_known_table() -> None:
    # Cohen's table of 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: kappa .40.
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    found = cohen_kappa(first, second, np.arange(50))
    assert found.value == pytest.approx(0.4)
    assert found.n == 50
    # The asymptotic 95% interval is .40 ± .26.
    assert found.low == pytest.approx(0.4 - 0.26, abs=0.05)
    assert found.high == pytest.approx(0.4 + 0.26, abs=0.05)


def test_texts_of_one_prompt_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(5)
    first = rng.integers(0, 2, 40)
    second = np.where(rng.random(40) < 0.2, 1 - first, first)
    once = cohen_kappa(first, second, np.arange(40))
    copied = cohen_kappa(np.tile(first, 10), np.tile(second, 10), np.tile(np.arange(40), 10))
    assert (copied.value, copied.low, copied.high) == pytest.approx(
        (once.value, once.low, once.high)
    )
    taken_apart = cohen_kappa(np.tile(first, 10), np.tile(second, 10), np.arange(400))
    assert taken_apart.high - taken_apart.low < 0.5 * (once.high - once.low)


def test_perfect_agreement_is_not_certainty() -> None:
    values = np.array([0, 1] * 10)
    found = cohen_kappa(values, values, np.arange(20))
    assert (found.value, found.high) == (1, 1)
    assert 0.5 < found.low < 0.9


@pytest.mark.parametrize("value", [0, 1])
def test_one_answer_throughout_has_no_kappa(value: int) -> None:
    found = cohen_kappa([value] * 9, [value] * 9, range(9))
    assert np.isnan(found.value)
    assert found.reason == "both say the same of every text"


def test_the_interval_covers() -> None:
    # True kappa of two noisy readings of a coin: 1 - 2·2·e·(1-e) with e = .15 is .49.
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(200):
        truth = np.repeat(rng.integers(0, 2, 60), 3)
        first, second = (np.where(rng.random(180) < 0.15, 1 - truth, truth) for _ in range(2))
        found = cohen_kappa(first, second, np.repeat(np.arange(60), 3))
        covered += found.low <= 0.49 <= found.high
    assert 180 <= covered <= 198


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        cohen_kappa([1, 0], [1], [1, 2])
