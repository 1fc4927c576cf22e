"""The report's table of directions: every figure beside what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report_runs import make_run

from steering_reliability.report.directions import direction_table
from steering_reliability.report.html import report_html

RECORD: dict[str, Any] = {
    "layer": 12,
    "method": "contrastive_prefix",
    "prompt_ids": ["a", "b"],
    "raw_norm": 31.5,
    "residual_norm": 126.0,
    "pair_agreement": 0.25,
    "halved_agreement": None,
    "hash": "f00d",
    "diagnostics": {"pair_cosine_min": -0.1, "pair_cosine_max": 0.6, "benign_share": 0.9},
}


def test_each_figure_stands_beside_the_others_and_what_it_means() -> None:
    found = direction_table([RECORD, RECORD | {"layer": 16, "diagnostics": {}, "raw_norm": None}])
    assert found is not None
    assert found["layers"] == [12, 16]
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["raw / residual"]["values"] == [0.25, None]
    assert rows["learned from"]["values"] == ["2 prompts", "2 prompts"]
    assert rows["least and most of pairs"]["values"] == ["-0.100, 0.600", None]
    # Measured for none of them.
    assert not {"the same on other prompts", "left-out AUC"} & set(rows)
    said = set(rows) - {"method", "learned from", "hash"}
    assert all(rows[name]["meaning"] for name in said)


def test_without_a_direction_there_is_no_table(tmp_path: Path) -> None:
    assert direction_table([]) is None
    run = make_run(tmp_path)
    run.manifest["directions"] = []
    assert 'id="directions"' not in report_html(run, [])


def test_the_page_shows_the_sentence(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.manifest["directions"] = [RECORD]
    page = report_html(run, [])
    section = page[page.index('id="directions"') : page.index('id="completions"')]
    assert "Layer 12" in section
    assert "near 1 it is the difference of the texts" in section
