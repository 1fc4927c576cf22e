"""The page: self-contained, in order, safe against what it shows, light."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import make_run, make_verdict

from steering_reliability.report import html
from steering_reliability.report.plots import write_plots
from steering_reliability.results.atomic import write_csv
from steering_reliability.results.degenerate_bounds import degenerate_bounds
from steering_reliability.results.run import RunData
from steering_reliability.results.tables import significance_table

EVIL = "</div><script>alert(1)</script><img src=x onerror=alert(2)>\"' onload='{{ 7*7 }}"
VOID = {"meta", "img", "br", "input", "link", "hr"}


class Page(HTMLParser):
    """Elements in order, the text of each, and whether every tag is closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def of(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    folder = tmp_path_factory.mktemp("smoke_test")
    run = make_run(folder, layers=(8, 12), alphas=(0, 2, 4), controls=True)
    write_csv(bounds_file(run), degenerate_bounds(run.scores))
    return run


def bounds_file(run: RunData) -> Path:
    return run.folder / "tables" / "degenerate_bounds.csv"


@pytest.fixture(scope="module")
def plots(run: RunData) -> list[Path]:
    return write_plots(run, run.folder / "plots")


@pytest.fixture(scope="module")
def text(run: RunData, plots: list[Path]) -> str:
    return html.write_report(run, plots).read_text(encoding="utf-8")


def test_the_page_is_whole_and_loads_nothing(text: str, plots: list[Path]) -> None:
    page = Page(text)
    assert page.open == []
    images = list(page.of("img"))
    assert len(images) == len(plots)
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in images)
    assert "link" not in dict(page.elements)
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert "@import" not in text
    assert "url(" not in text


def test_the_policy_allows_this_style_and_script_and_nothing_else(text: str) -> None:
    policy = next(m["content"] for m in Page(text).of("meta") if "http-equiv" in m) or ""
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in policy
    # Attributes would be blocked by the policy, so none may be relied on.
    assert " style=" not in text
    assert not re.search(r"<[^>]+\son\w+=", text)


def test_sections_come_in_the_order_of_what_matters(text: str) -> None:
    ids = [a["id"] for tag, a in Page(text).elements if tag == "h2" and a.get("id")]
    assert ids == [
        "outcome",
        "verdicts",
        "plots",
        "cells",
        "bounds",
        "sensitive",
        "controls",
        "directions",
        "completions",
        "record",
        "glossary",
    ]
    nav = text[text.index("<nav") : text.index("</nav>")]
    targets = {a["href"] for a in Page(nav).of("a")}
    assert targets == {f"#{name}" for name in ids if name != "outcome"}
    known = {a["id"] for _, a in Page(text).elements if a.get("id")}
    assert {a["href"] for a in Page(text).of("a")} <= {f"#{name}" for name in known}


def test_required_verdicts_come_first_with_estimate_interval_and_n(text: str) -> None:
    table = text[text.index('id="verdicts"') : text.index('id="plots"')]
    claims = re.findall(r'<span class="claim">(\w+)', table)
    assert claims == ["alpha_raises_refusal", "baseline_refusal", "coherence", "generalization_gap"]
    assert table.index("Required: these") < table.index("Exploratory: reported")
    assert "+.15 [-.08, +.51]" in table
    assert "about 78 prompts would settle a rise of .10" in table
    assert "one-sided bounds" in table


def test_the_page_is_accessible(text: str) -> None:
    page = Page(text)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption")
    rows = re.findall(r"<tr.*?</tr>", text, re.DOTALL)
    assert [row for row in rows if not re.search(r'<th scope="(row|col|colgroup)"', row)] == []
    assert all(image["alt"] for image in page.of("img"))
    assert all(header.get("scope") for header in page.of("th"))
    assert next(page.of("html"))["lang"] == "en"
    # An outcome is a word and a sign, never a colour alone.
    assert re.search(r'class="badge fail"><span aria-hidden="true">✗</span> fail', text)


def test_facts_and_counts_are_at_the_top(text: str, run: RunData) -> None:
    top = " ".join(text[: text.index("<main>")].split())
    for fact in (
        "SmolLM2-135M-Instruct",
        "float32",
        "20 harm_train, 20 harm_test, 20 benign",
        "120 planned, 80 generated, 40 reused",
        "0123456789ab with local changes",
        run.manifest["question"],
        run.folder.name,
    ):
        assert fact in top
    assert "results are provisional" in text[: text.index('id="outcome"')]


def test_the_learned_direction_leads_its_controls(text: str) -> None:
    table = text[text.index('id="controls"') : text.index('id="directions"')]
    directions = re.findall(r'<th scope="row" class="whole">(learned|\w+-\d)</th>', table)
    assert directions[:4] == ["learned", "random-1", "random-2", "shuffled-1"]
    assert len(directions) == 2 * 2 * 4


def test_broken_text_is_counted_every_way(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", alphas=(0, 2, 8), controls=True, n=40)
    run.scores.loc[run.scores["alpha"] == 8, "is_degenerate"] = True
    run.scores.loc[run.scores["alpha"] == 8, ["is_refusal", "is_helpful"]] = False
    assert 'id="bounds"' not in html.report_html(run, [])
    write_csv(bounds_file(run), degenerate_bounds(run.scores))
    page = " ".join(html.report_html(run, []).split())
    section = page[page.index('id="bounds"') : page.index('id="directions"')]
    rows = re.findall(r"<tr> <th.*?</tr>", section)
    # Alpha 2 raises refusal however its few broken texts are counted; alpha 8 only breaks text.
    assert ["hangs on the counting" in row for row in rows] == [False, True]
    # Every effect comes with its interval, and counting as scored is told once.
    intervals = [re.findall(r'<span class="interval">\[\S+, \S+\]</span>', row) for row in rows]
    assert [len(found) for found in intervals] == [2, 2]
    assert "As compliance" not in section
    unbroken = replace(run, scores=run.scores.assign(is_degenerate=False))
    assert 'id="bounds"' not in html.report_html(unbroken, [])
    for damaged in (b"", b"\xff\xfe", b"split,layer\nharm_test,12\n"):
        bounds_file(run).write_bytes(damaged)
        assert 'id="bounds"' not in html.report_html(run, [])


def test_every_difference_of_the_significance_table_is_listed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", layers=(8, 12), alphas=(0, 2, 4), controls=True, n=40)
    assert 'id="significance"' not in html.report_html(run, [])
    table = significance_table(run.scores)
    file = run.folder / "tables" / "significance.csv"
    write_csv(file, table)
    page = " ".join(html.report_html(run, []).split())
    section = page[page.index('id="significance"') : page.index('id="directions"')]
    rows = re.findall(r"<tr> <th.*?</tr>", section)
    assert len(rows) == len(table)
    standing = (table["p_holm"] <= 0.05).tolist()
    assert any(standing)
    assert not all(standing)
    assert ["<strong>" in row for row in rows] == standing
    assert f"Of {len(table)} differences of refusal, {sum(standing)} stand out" in section
    held = table[table["against"] != "baseline"].iloc[0]
    assert f"{held['control']}, to {held['goal']}</th>" in section
    assert "unsteered, to raise</th>" in section
    assert '<th scope="col" class="num">p, paired test</th>' in section
    # Collapsed, and never a reason for a page to fail.
    assert section.index("<details>") < section.index("<table>")
    for damaged in (b"", b"\xff\xfe", b"split,layer\nharm_test,12\n"):
        file.write_bytes(damaged)
        assert 'id="significance"' not in html.report_html(run, [])


def test_what_models_and_users_wrote_stays_text(tmp_path: Path) -> None:
    run = make_run(
        tmp_path, verdicts=[make_verdict("coherence", "fail", message=EVIL, target=EVIL)]
    )
    run.scores[["text", "prompt", "category", "style"]] = EVIL
    run.scores["prompt_id"] = run.scores["prompt_id"] + EVIL
    run.manifest |= {
        "level": EVIL,
        "question": EVIL,
        "warnings": [EVIL],
        "model": {"source": EVIL},
        "directions": [{"layer": EVIL, EVIL: 1.0}],
        "timings": {EVIL: 1},
        "config": {EVIL: EVIL},
    }
    run.decisions = {EVIL: EVIL}
    text = html.report_html(run, [])
    page = Page(text)
    assert page.open == []
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not list(page.of("img"))
    assert not [key for _, attributes in page.elements for key in attributes if key[:2] == "on"]
    assert "49" not in "".join(re.findall(r"onload='(.*?)<", text))
    assert page.texts.count(EVIL) >= 6


def test_text_that_utf8_refuses_is_shown_as_signs(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    broken = "half \ud83d, nul \x00, bell \x07, override \u202e, fine 😀"
    run.scores["text"] = pd.Series(broken, run.scores.index, dtype=object)
    text = html.write_report(run, []).read_bytes().decode("utf-8")
    assert "half \ufffd, nul \u2400, bell \u2407, override \ufffd, fine 😀" in text
    assert "\x00" not in text


def test_the_page_stays_light_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    run = make_run(tmp_path, layers=(8, 12, 16), alphas=(0, 1, 2, 4), n=100)
    run.scores["text"] = "<&\"' 語" * 120
    text = html.write_report(run, []).read_text(encoding="utf-8")
    assert (tmp_path / html.REPORT).stat().st_size < 1_500_000
    shown, total = map(int, re.findall(r"(\d+) of (\d+) prompts, the first of each split", text)[0])
    assert total == 300
    assert 0 < shown < total
    assert text.count('<details class="prompt') == shown
    numbers = [int(n) for n in re.findall(r'muted">(\d+) prompts, \d+ flipped', text)]
    assert len(numbers) == 3
    assert max(numbers) - min(numbers) <= 1


def test_a_long_completion_is_cut_and_says_where_the_rest_is(tmp_path: Path) -> None:
    run = make_run(tmp_path, n=2)
    run.scores["text"] = "word " * 1000
    text = html.report_html(run, [])
    assert "continued in completions.parquet" in text
    assert text.count("word ") <= 2 * 6 * html.TEXT_LENGTH / 5


def test_the_same_run_gives_the_same_page(run: RunData, plots: list[Path], text: str) -> None:
    assert html.report_html(run, plots) == text


def test_a_run_with_next_to_nothing_still_has_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path, verdicts=[], alphas=(0,), n=1)
    run.manifest = {}
    run.scores[["category", "style"]] = None
    run.summary[["is_refusal_low", "is_helpful_mean", "degenerate_mean"]] = np.nan
    text = html.report_html(run, [])
    assert Page(text).open == []
    assert "No claim was tested in this run" in text
    assert 'id="plots"' not in text
    assert ">nan<" not in text.lower()
    assert "None" not in text


def test_verdicts_without_numbers_show_a_dash(tmp_path: Path) -> None:
    missing = make_verdict("coherence", "error", estimate=np.nan, low=np.nan, high=np.nan, n=0)
    text = html.report_html(make_run(tmp_path, verdicts=[replace(missing, p_value=np.nan)]), [])
    row = text[text.index('class="claim">coherence') : text.index('id="cells"')]
    assert row.count("–") >= 2
    assert "nan" not in row


def test_another_plot_is_shown_under_its_file_name(tmp_path: Path, plots: list[Path]) -> None:
    other = tmp_path / "steerability_per_prompt.png"
    other.write_bytes(plots[0].read_bytes())
    text = html.report_html(make_run(tmp_path), [other])
    assert 'alt="Steerability per prompt.' in text


def test_values_of_other_libraries_in_the_manifest_do_not_stop_the_page(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.manifest["config"]["when"] = pd.Timestamp("2026-11-23")
    assert "2026-11-23 00:00:00" in html.report_html(run, [])
