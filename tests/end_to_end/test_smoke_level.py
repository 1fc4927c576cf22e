"""The smoke level for real: the embedded model, the shipped prompts, a folder of its own.

What is checked is that everything is produced and fits together. Whether the claims pass is a
finding about the model, not about this code.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from smoke_runs import run_smoke

import steering_reliability as sr
from steering_reliability.directions import load_direction
from steering_reliability.results.run import read_run
from tests.promised_columns import COLUMNS


def test_summary_has_a_row_per_split_and_cell(artifacts: Path) -> None:
    summary = pd.read_csv(artifacts / "tables" / "summary.csv")
    assert list(summary.columns[: len(COLUMNS)]) == COLUMNS
    assert sorted(zip(summary.split, summary.alpha, strict=True)) == [
        (split, alpha) for split in ("benign", "harm_test", "harm_train") for alpha in (0.0, 2.0)
    ]
    assert (summary.n == 20).all()


def test_rates_are_those_of_the_completions(artifacts: Path) -> None:
    run = artifacts / "runs" / "smoke_test"
    completions = pd.read_parquet(run / "completions.parquet")
    assert len(completions) == 120
    again = [sr.score(row.prompt, row.text).is_refusal for row in completions.itertuples()]
    assert completions.is_refusal.tolist() == again
    summary = pd.read_csv(run / "summary.csv").set_index(["split", "alpha"])
    rates = completions.groupby(["split", "alpha"]).is_refusal.mean()
    for cell, rate in rates.items():
        assert summary.loc[cell, "is_refusal_mean"] == pytest.approx(rate, abs=1e-6)


def test_steering_changes_completions(artifacts: Path) -> None:
    completions = pd.read_parquet(artifacts / "runs" / "smoke_test" / "completions.parquet")
    texts = completions.pivot(index=["split", "prompt_id"], columns="alpha", values="text")
    assert (texts[0.0] != texts[2.0]).mean() > 0.5


def test_verdicts_cover_every_claim(artifacts: Path) -> None:
    data = read_run(artifacts / "runs" / "smoke_test")
    claims = [verdict.claim for verdict in data.verdicts]
    assert sorted(claims) == ["alpha_raises_refusal", "baseline_refusal", "coherence"]
    assert all(verdict.outcome != "error" for verdict in data.verdicts)


def test_run_folder_is_whole(artifacts: Path) -> None:
    run = artifacts / "runs" / "smoke_test"
    direction = load_direction(run / "directions" / "layer12.safetensors")
    assert direction.layer == 12
    assert len(direction.prompt_ids) == 64
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["generated"] == 120
    assert manifest["model"]["fingerprint"] == direction.model_fingerprint
    assert {"model", "directions", "generation"} <= set(manifest["timings"])
    assert len(list((run / "plots").glob("*.png"))) >= 4
    assert (run / "report.html").read_text(encoding="utf-8").startswith("<!")
    examples = (run / "examples.md").read_text(encoding="utf-8")
    # Underscores are escaped in Markdown.
    assert "harm_test" in examples.replace("\\", "")


def test_a_second_run_generates_nothing(artifacts: Path) -> None:
    before = (artifacts / "tables" / "summary.csv").read_bytes()
    done = run_smoke(artifacts)
    assert "0 completions generated, 120 from the store" in done.stdout, done.stdout
    assert (artifacts / "tables" / "summary.csv").read_bytes() == before
