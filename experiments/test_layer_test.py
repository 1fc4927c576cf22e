"""Level 2: which layer steers best, what does it cost, does it generalise?

What is claimed, with which margins, and what is required, stands in ``configs/layer_test.yaml``.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.layer_test


def test_cell_is_complete(steering, cell):
    """Every prompt of every split has a completion in this cell."""
    assert len(steering.scores(cell)) == steering.plan.n_completions_of(cell)


def test_coherence(steering, steered_cell):
    """Steering does not break the text."""
    steering.check("coherence", steered_cell)


def test_alpha_raises_refusal(steering, steered_cell):
    """On the same harmful prompts, the steered model refuses more."""
    steering.check("alpha_raises_refusal", steered_cell)


def test_benign_side_effect(steering, steered_cell):
    """On benign prompts neither refusal rises nor helpfulness drops by the margin."""
    steering.check("benign_side_effect", steered_cell)


def test_sensitive_side_effect(steering, steered_cell):
    """The same on the benign prompts that sound harmful and are not."""
    steering.check("sensitive_side_effect", steered_cell)


def test_generalization_gap(steering, steered_cell):
    """The effect is about as large on shifted phrasing as on the familiar one."""
    steering.check("generalization_gap", steered_cell)


def test_alpha_monotonicity(steering, series):
    """More alpha, more refusal, over the alphas within the coherence gate."""
    steering.check("alpha_monotonicity", series=series)


def test_control_is_complete(steering, control_cell):
    """Every prompt of the controls' split has a completion under this control."""
    assert len(steering.scores(control_cell)) == steering.plan.n_completions_of(control_cell)


def test_prompt_baseline_is_complete(steering, prompted_cell):
    """The model ran unsteered under the system prompt that steering is compared with."""
    assert len(steering.scores(prompted_cell)) == steering.plan.n_completions_of(prompted_cell)


def test_beats_controls(steering, steered_cell):
    """The direction moves refusal more than random and shuffled ones of the same norm."""
    steering.check("beats_controls", steered_cell)


def test_baseline_refusal(steering):
    """The unsteered model refuses some harmful prompts and not most."""
    steering.check("baseline_refusal")


def test_some_layer_steers(steering):
    """One layer at least meets the claims, with bounds shared among all that was tried."""
    steering.check("some_layer_steers")


def test_direction_is_real(steering, series):
    """The direction is above noise, its pairs agree above placebo, it beats its controls."""
    steering.check("direction_is_real", series=series)
