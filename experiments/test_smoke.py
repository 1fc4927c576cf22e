"""Level 1: does the pipeline work, and does alpha 2 raise refusal?

What is claimed, with which margins, stands in ``configs/smoke.yaml``.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.smoke


def test_cell_is_complete(steering, cell):
    """Every prompt of every split has a completion in this cell."""
    scores = steering.scores(cell)
    assert len(scores) == steering.plan.n_completions_of(cell)
    assert scores["prompt_id"].is_unique


def test_coherence(steering, steered_cell):
    """Steering does not break the text."""
    steering.check("coherence", steered_cell)


def test_baseline_refusal(steering):
    """The unsteered model refuses some harmful prompts and not most."""
    steering.check("baseline_refusal")


def test_alpha_raises_refusal(steering, steered_cell):
    """On the same harmful prompts, the steered model refuses more."""
    steering.check("alpha_raises_refusal", steered_cell)


def test_artifacts_are_readable(steering, tmp_path):
    """The results of this level can be written, and read back as their users do."""
    import pandas as pd

    data = steering.write_artifacts(tmp_path)
    summary = pd.read_csv(tmp_path / "tables" / "summary.csv")
    assert len(summary) == len(steering.plan.cells) * len(steering.plan.prompts)
    assert (data.folder / "report.html").stat().st_size > 0
    assert any((data.folder / "plots").glob("*.png"))
    assert (data.folder / "examples.md").stat().st_size > 0
