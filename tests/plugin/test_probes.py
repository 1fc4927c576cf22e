"""Probes: read once per cell, kept, the same however the tests are spread over processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from projects import Project

from steering_reliability.results.endpoint import ENDPOINT_COLUMNS
from steering_reliability.results.probes import MEASURES, PROBE_COLUMNS

PROBES = {"prompts": 5, "benign_tokens": 2}
# Beside two layers at one alpha, two random directions at each.
COMPARED: dict[str, Any] = {
    "probes": PROBES,
    "controls": {"random": 2, "split": "harm_test"},
    "alphas": [0, 1, 2],
}


def test_probes_are_read_once_and_shown(project: Project) -> None:
    project.write_level(probes=PROBES)
    assert project.run("-m", "smoke").ret == 0
    table = pd.read_csv(project.folder() / "tables" / "probes.csv")
    assert tuple(table.columns) == PROBE_COLUMNS
    assert list(table["measure"]) == [*MEASURES] * 2
    assert set(table["cell"]) == {"layer1-add-alpha2", "layer2-add-alpha2"}
    kl = table[table["measure"] == "benign_kl"]
    assert (kl["estimate"] > 0).all()
    assert (table["low"] <= table["estimate"]).all()
    assert (table["estimate"] <= table["high"]).all()
    assert 'id="probes"' in (project.folder() / "report.html").read_text(encoding="utf-8")
    files = {file: file.stat().st_mtime_ns for file in (project.artifacts / "probes").iterdir()}
    # A cell of each layer, and the log-odds of each once more with refits.
    assert len(files) == 4
    assert project.run("-m", "smoke").ret == 0
    assert files == {file: file.stat().st_mtime_ns for file in files}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_workers_find_the_same(project: Project, tmp_path: Path, workers: str) -> None:
    project.write_level(**COMPARED)
    tables: dict[str, list[pd.DataFrame]] = {"probes": [], "log_odds": []}
    for name, options in (("alone", ()), ("spread", ("-n", workers))):
        assert project.run("-m", "smoke", *options, artifacts=tmp_path / name).ret == 0
        folder = project.folder(artifacts=tmp_path / name) / "tables"
        for kind, found in tables.items():
            found.append(
                pd.read_csv(folder / f"{kind}.csv").drop(columns="meaning", errors="ignore")
            )
    for alone, spread in tables.values():
        pd.testing.assert_frame_equal(alone, spread, rtol=1e-4)


def test_log_odds_are_refitted_and_ranked_where_the_level_compares(project: Project) -> None:
    project.write_level(**COMPARED)
    assert project.run("-m", "smoke").ret == 0
    table = pd.read_csv(project.folder() / "tables" / "log_odds.csv")
    assert tuple(table.columns) == ENDPOINT_COLUMNS
    assert list(table["direction"]) == ["learned", "random-1", "random-2"] * 2
    assert list(table["cell"].unique()) == ["layer1-add-alpha2", "layer2-add-alpha2"]
    assert set(table["of"]) == {3}
    learned = table[table["direction"] == "learned"]
    assert (learned["refits"] == 24).all()
    assert (learned["refit_low"] < learned["estimate"]).all()
    assert (learned["refit_high"] > learned["estimate"]).all()
    probes = pd.read_csv(project.folder() / "tables" / "probes.csv")
    change = probes[(probes["measure"] == "refusal_log_odds_change") & (probes["alpha"] == 2)]
    assert list(change["estimate"]) == pytest.approx(list(learned["estimate"]), abs=1e-3)
    assert 'id="log-odds"' in (project.folder() / "report.html").read_text(encoding="utf-8")


def test_fresh_reads_the_probes_again(project: Project) -> None:
    project.write_level(probes=PROBES)
    assert project.run("-m", "smoke").ret == 0
    files = sorted((project.artifacts / "probes").iterdir())
    for file in files:
        record = json.loads(file.read_text(encoding="utf-8"))
        if "benign_kl" in record:
            record["benign_kl"][0] = 1e6
        file.write_text(json.dumps(record), encoding="utf-8")
    table = project.folder() / "tables" / "probes.csv"
    assert project.run("-m", "smoke").ret == 0
    assert pd.read_csv(table)["estimate"].max() > 1e4
    assert project.run("-m", "smoke", "--steer-fresh").ret == 0
    assert pd.read_csv(table)["estimate"].max() < 1e4
    assert sorted((project.artifacts / "probes").iterdir()) == files
