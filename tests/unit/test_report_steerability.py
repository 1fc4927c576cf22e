"""What the page tells of single prompts: who goes the wrong way, and how sure the share is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report_runs import make_run

from steering_reliability.report import html
from steering_reliability.report.steerability import WORST, steerability_shown
from steering_reliability.results.atomic import write_csv
from steering_reliability.results.run import RunData
from steering_reliability.results.steerability import steerability_summary, steerability_table

AGAINST = {"harm_test-003": -0.5, "harm_test-007": -0.2, "benign-004": -0.9}


@pytest.fixture
def run(tmp_path: Path) -> RunData:
    """Slopes of +.3 a unit of alpha, but for three prompts."""
    run = make_run(tmp_path / "run", layers=(8, 12), alphas=(0, 2), interventions=("add", "ablate"))
    scores = run.scores
    slope = scores["prompt_id"].map(AGAINST).fillna(0.3)
    sign = scores["intervention"].map({"add": 1.0, "ablate": -1.0})
    scores["refusal_log_odds"] = -1.0 + slope * sign * scores["alpha"]
    scores.loc[scores["prompt_id"] == "harm_test-003", "prompt"] = "<b>Which</b> " + "way? " * 50
    scores["is_degenerate"] = False
    table = steerability_table(scores)
    write_csv(run.folder / "tables" / "steerability.csv", table)
    write_csv(run.folder / "tables" / "steerability_summary.csv", steerability_summary(table))
    return run


def test_shares_and_worst_prompts_of_every_series(run: RunData) -> None:
    shown = steerability_shown(run.folder, run.scores)
    assert len(shown.overall) == 3 * 2 * 2
    [row] = [
        row
        for row in shown.overall
        if (row["split"], row["layer"], row["intervention_type"]) == ("harm_test", 12, "add")
    ]
    assert row["slope_mean"] == pytest.approx((18 * 0.3 - 0.7) / 20)
    assert row["anti_steerable"] == pytest.approx(0.1)
    assert row["anti_steerable_low"] < 0.1 < row["anti_steerable_high"]
    assert row["alphas"] == "0 2"
    assert {row["group_by"] for row in shown.groups} == {"category", "style"}
    # Worst first, and what gets less likely to be refused on benign is none of them.
    ids = [row["prompt_id"] for row in shown.worst]
    assert ids == ["harm_test-003", "harm_test-007"] * 4
    adding = [row["slope"] for row in shown.worst if row["intervention_type"] == "add"]
    ablating = [row["slope"] for row in shown.worst if row["intervention_type"] == "ablate"]
    assert adding == pytest.approx([-0.5, -0.2] * 2)
    assert ablating == pytest.approx([0.5, 0.2] * 2)


def test_where_the_text_goes_the_other_way_it_decides(run: RunData) -> None:
    scores = run.scores
    adding = (scores["layer"] == 12) & (scores["intervention"] == "add") & (scores["alpha"] > 0)
    unsteered = scores["alpha"] == 0
    scores.loc[unsteered, "refusal_score"] = 0.5
    scores.loc[adding, "refusal_score"] = 0.1
    scores.loc[adding & (scores["prompt_id"] == "harm_test-002"), "refusal_score"] = 0.0
    table = steerability_table(scores)
    write_csv(run.folder / "tables" / "steerability.csv", table)
    write_csv(run.folder / "tables" / "steerability_summary.csv", steerability_summary(table))
    shown = steerability_shown(run.folder, scores)
    places = [
        (row["layer"], row["intervention_type"])
        for row in shown.overall
        if row["contradicted"] and row["split"] == "harm_test"
    ]
    assert (12, "add") in places
    worst = [
        row
        for row in shown.worst
        if (row["split"], row["layer"], row["intervention_type"]) == ("harm_test", 12, "add")
    ]
    assert worst[0]["prompt_id"] == "harm_test-002"
    assert {row["measure"] for row in worst} == {"refusal_score"}
    assert worst[0]["slope"] == pytest.approx(-0.25)
    page = " ".join(html.report_html(run, []).split())
    assert "The first token and what is written go opposite ways" in page
    assert "-.25 of the score".replace("-", "\N{MINUS SIGN}") in page


def test_no_series_lists_more_than_its_worst(run: RunData) -> None:
    file = run.folder / "tables" / "steerability.csv"
    table = steerability_table(run.scores)
    table["refusal_log_odds_slope"] = -table.index.to_series().astype(float) - 1
    write_csv(file, table)
    shown = steerability_shown(run.folder, run.scores)
    of_one = [r for r in shown.worst if (r["layer"], r["intervention_type"]) == (8, "add")]
    assert [r["split"] for r in of_one] == ["harm_train"] * WORST + ["harm_test"] * WORST


def test_the_page_tells_it_shortly_and_safely(run: RunData) -> None:
    page = " ".join(html.report_html(run, []).split())
    section = page[page.index('id="steerability"') : page.index('id="directions"')]
    assert '<a href="#steerability">' in page
    assert "10% <span" in section
    assert "\N{MINUS SIGN}.50 nats</td>" in section
    assert "go opposite ways" not in section
    # Both ways of telling have the same columns under headings that tell them apart.
    head = section[section.index("<thead>") : section.index("</thead>")]
    groups = re.findall(r'<th scope="colgroup" colspan="(\d)" class="over">(.*?)</th>', head)
    assert groups == [("3", "First token"), ("2", "As written")]
    assert head.count("Anti-steerable") == 2
    assert "first-token log-odds of refusal" in section
    assert "&lt;b&gt;Which&lt;/b&gt; way? way?" in section
    assert "way? " * 30 not in section
    assert len(re.findall(r'class="whole mono">harm_test-003', section)) == 4


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"split,layer\nharm_test,12\n", None])
def test_without_whole_tables_there_is_no_section(run: RunData, damage: bytes | None) -> None:
    file = run.folder / "tables" / "steerability.csv"
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    assert 'id="steerability"' not in html.report_html(run, [])
