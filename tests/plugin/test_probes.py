"""Probes: read once per cell, kept, the same however the tests are spread over processes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from projects import Project

from steering_reliability.results.probes import MEASURES, PROBE_COLUMNS

PROBES = {"prompts": 5, "benign_tokens": 2}


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
    assert len(files) == 2
    assert project.run("-m", "smoke").ret == 0
    assert files == {file: file.stat().st_mtime_ns for file in files}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_workers_find_the_same(project: Project, tmp_path: Path, workers: str) -> None:
    project.write_level(probes=PROBES)
    tables = []
    for name, options in (("alone", ()), ("spread", ("-n", workers))):
        assert project.run("-m", "smoke", *options, artifacts=tmp_path / name).ret == 0
        folder = project.folder(artifacts=tmp_path / name)
        tables.append(pd.read_csv(folder / "tables" / "probes.csv"))
    pd.testing.assert_frame_equal(*tables, rtol=1e-4)
