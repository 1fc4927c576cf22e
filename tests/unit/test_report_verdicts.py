"""Verdicts on the page: what an estimate is of, what is folded, what is flagged."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from report_runs import make_run, make_scores, make_verdict

from steering_reliability.cells import Cell
from steering_reliability.expectations import Verdict, evaluate
from steering_reliability.report import html
from steering_reliability.report.labels import MOST_EXPLORATORY, past_gate
from steering_reliability.report.verdicts import anchor, quantity


def section(page: str) -> str:
    return page[page.index('id="verdicts"') : page.index('id="cells"')]


def of_cell(claim: str, alpha: float, outcome: str = "pass", **details: Any) -> Verdict:
    cell = Cell(12, "add", alpha)
    where = {"layer": cell.layer, "intervention": cell.intervention, "alpha": alpha}
    return make_verdict(claim, outcome, False, target=cell.id, details=where | details)


class TestQuantity:
    @pytest.mark.parametrize(
        ("column", "said"),
        [
            ("is_refusal", "rise of refusal, the worse of two"),
            ("is_helpful", "drop of helpfulness, the worse of two"),
        ],
    )
    def test_a_side_effect_names_which_of_two_it_tells(self, column: str, said: str) -> None:
        scores = make_scores(n=40)
        benign = scores["split"] == "benign"
        scores.loc[benign, ["is_refusal", "is_helpful"]] = [False, True]
        worse = benign & (scores["alpha"] == 2) & scores["prompt_id"].str[-2:].lt("20")
        scores.loc[worse, column] = column == "is_refusal"
        verdict = evaluate("benign_side_effect", scores, layer=12, intervention="add", alpha=2.0)
        assert verdict.estimate == pytest.approx(0.5)
        assert quantity(verdict) == said

    def test_a_lead_names_the_control(self) -> None:
        scores = make_scores(n=40, controls=True)
        verdict = evaluate("beats_controls", scores, layer=12, intervention="add", alpha=2.0)
        assert quantity(verdict) == f"lead over {verdict.details['strongest']}"
        steers = evaluate("some_layer_steers", scores)
        assert quantity(steers) == "change of refusal at layer12-add-alpha2"

    def test_every_claim_with_an_estimate_says_what_it_is_of(self) -> None:
        scores = make_scores(n=40, alphas=(0, 1, 2), interventions=("add", "ablate"))
        adding: dict[str, Any] = {"layer": 12, "intervention": "add", "alpha": 2.0}
        for claim, about in (
            ("baseline_refusal", {}),
            ("alpha_raises_refusal", adding),
            ("alpha_monotonicity", {"layer": 12}),
            ("coherence", adding),
            ("generalization_gap", adding),
            ("ablation_effect", {"layer": 12, "intervention": "ablate", "alpha": 1.0}),
        ):
            verdict = evaluate(claim, scores, **about)
            assert not math.isnan(verdict.estimate), claim
            assert quantity(verdict), claim

    def test_without_an_estimate_there_is_nothing_to_name(self) -> None:
        assert quantity(make_verdict("coherence", "error", estimate=math.nan)) == ""
        assert quantity(make_verdict("a_claim_of_my_own", "pass")) == ""


class TestFolding:
    def many(self) -> list[Verdict]:
        rises = [of_cell("alpha_raises_refusal", i, "fail") for i in (1, 3)]
        return [
            make_verdict("baseline_refusal", "pass", target="harm_test"),
            *rises,
            *[of_cell("coherence", i) for i in range(1, MOST_EXPLORATORY)],
        ]

    def test_many_exploratory_verdicts_are_folded_by_claim(self, tmp_path: Path) -> None:
        told = section(html.report_html(make_run(tmp_path, verdicts=self.many()), []))
        folds = re.findall(r"<details.*?</details>", told, re.DOTALL)
        assert ['<details class="group">' in fold for fold in folds] == [True, True]
        summaries = [re.sub(r"<.*?>", " ", fold.partition("</summary>")[0]) for fold in folds]
        first, second = (" ".join(summary.split()) for summary in summaries)
        assert first == "alpha_raises_refusal ✗ 2 fail fail: layer12-add-alpha1, layer12-add-alpha3"
        assert second == f"coherence ✓ {MOST_EXPLORATORY - 1} pass"
        assert "baseline_refusal" not in "".join(folds)
        assert told.index("baseline_refusal") < told.index("<details")

    def test_a_few_stay_open(self, tmp_path: Path) -> None:
        few = self.many()[:4]
        told = section(html.report_html(make_run(tmp_path, verdicts=few), []))
        assert re.findall(r"<details[^>]*>", told) == ['<details class="group" open>'] * 2

    def test_every_verdict_can_be_linked_to(self, tmp_path: Path) -> None:
        verdicts = self.many()
        page = html.report_html(make_run(tmp_path, verdicts=verdicts), [])
        ids = re.findall(r'<tr id="(.*?)"', page)
        assert set(ids) == {anchor(verdict) for verdict in verdicts}
        assert len(set(ids)) == len(verdicts)
        assert "verdict-coherence-layer12-add-alpha2" in ids
        assert anchor(make_verdict('a "b', "pass", target="<c d>")) == "verdict-a_b-_c_d_"

    def test_a_cell_past_the_gate_is_flagged_in_every_claim(self, tmp_path: Path) -> None:
        verdicts = [
            of_cell("alpha_raises_refusal", 4, coherent=False),
            of_cell("alpha_raises_refusal", 2, coherent=True),
            of_cell("generalization_gap", 4),
            make_verdict("baseline_refusal", "pass", target="harm_test"),
        ]
        flagged = {("alpha_raises_refusal", Cell(12, "add", 4).id)}
        flagged |= {("generalization_gap", Cell(12, "add", 4).id)}
        assert past_gate(verdicts) == flagged
        told = section(html.report_html(make_run(tmp_path, verdicts=verdicts), []))
        rows = re.findall(r"<tr id=.*?</tr>", told, re.DOTALL)
        marks = ['class="flag">past the coherence gate' in row for row in rows]
        assert sum(marks) == 2
        assert all(
            "layer12-add-alpha4" in row for row, mark in zip(rows, marks, strict=True) if mark
        )


class TestRates:
    def page(self, run: Any, **manifest: Any) -> str:
        run.manifest |= manifest
        return " ".join(html.report_html(run, []).split())

    def test_cells_that_should_lower_refusal_show_the_rate_that_verdicts_name(
        self, tmp_path: Path
    ) -> None:
        run = make_run(
            tmp_path, alphas=(0, 4), interventions=("add", "ablate"), controls=True, n=40
        )
        page = self.page(run)
        for start, end, table in (
            ("cells", "sensitive", run.summary),
            ("controls", "directions", run.controls),
        ):
            part = page[page.index(f'id="{start}"') : page.index(f'id="{end}"')]
            assert "Refusal, degenerate counted" in part
            rows = [row for row in re.findall(r"<tr class=.*?</tr>", part) if ">ablate<" in row]
            found = table[(table["intervention_type"] == "ablate") & (table["alpha"] == 4)]
            shares = [f"{100 * share:.0f}%" for share in found["refused_or_degenerate_mean"]]
            assert shares
            for share in shares:
                assert any(f'<td class="num">{share} <span' in row for row in rows)
        # Adding is meant to raise it, and has no such rate.
        part = page[page.index('id="cells"') : page.index('id="sensitive"')]
        adding = [row for row in re.findall(r"<tr class=.*?</tr>", part) if ">add<" in row]
        assert all('<td class="num"></td>' in row for row in adding)

    def test_a_cell_that_was_chosen_to_lower_it_has_one_too(self, tmp_path: Path) -> None:
        run = make_run(tmp_path)
        assert "degenerate counted" not in self.page(run).partition('id="glossary"')[0]
        point = {"layer": 12, "intervention": "add", "alpha": 2.0, "goal": "lower"}
        assert "Refusal, degenerate counted" in self.page(run, confirmations=[point])
        # A summary of before that column.
        run.summary = run.summary.drop(columns=[c for c in run.summary if "refused_or" in c])
        assert "Refusal, degenerate counted" not in self.page(run, confirmations=[point])

    def test_prompts_that_were_learned_from_are_told_where_they_count(self, tmp_path: Path) -> None:
        run = make_run(tmp_path, n=20)
        said = "The direction was learned from 5 of the 20 prompts of harm_train, which count here"
        assert said not in self.page(run)
        learned = (run.scores["split"] == "harm_train") & run.scores["prompt_id"].str[-3:].ge("015")
        run.scores["seen"] = learned
        assert self.page(run).count(said) == 1


COUNTS = {
    "benign_kl": 12,
    "perplexity_ratio": 8,
    "own_text_perplexity_ratio": 24,
    "refusal_log_odds_change": 11,
}


def probes(alpha: float, **counts: int) -> list[dict[str, Any]]:
    cell = Cell(12, "add", alpha)
    where = {"cell": cell.id, "layer": 12, "intervention_type": "add", "alpha": alpha}
    found = {"estimate": 1.0, "low": 0.5, "high": 1.5}
    return [where | found | {"measure": m, "n": n} for m, n in (COUNTS | counts).items()]


def test_every_probe_says_how_many_it_is_a_mean_of(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.manifest["probes"] = probes(2) + probes(4, own_text_perplexity_ratio=26)
    page = " ".join(html.report_html(run, []).split())
    part = page[page.index('id="probes"') : page.index('id="directions"')]
    heads = re.findall(
        r'<th scope="col" class="num">([^<]*) <span class="below">(.*?)</span>', part
    )
    assert heads == [
        ("Change of benign answers", "n = 12 prompts"),
        ("Perplexity of plain text", "n = 8 texts"),
        ("Perplexity of its own text", "n = 24 to 26 prompts"),
        ("Whole-text log-odds", "n = 11 prompts"),
    ]
    assert "first-token log-odds of refusal, which can move the opposite way" in part


def test_the_glossary_has_what_the_page_says(tmp_path: Path) -> None:
    page = html.report_html(make_run(tmp_path), [])
    terms = re.findall(r"<dt[^>]*>(.*?)</dt>", page[page.index('id="glossary"') :])
    told = ", ".join(terms).lower()
    for term in (
        "alpha", "cell", "degenerate", "coherence gate", "splits", "verdict", "intervals",
        "mcnemar", "rank p", "placebo pairs", "benign cost", "operating point", "optimism",
        "provisional", "first-token log-odds", "whole-text log-odds",
    ):  # fmt: skip
        assert term in told
    assert len(terms) == len(set(terms))


def test_pictures_name_where_their_numbers_are(tmp_path: Path) -> None:
    picture = tmp_path / "generalization_gap.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(8) + (9).to_bytes(4) + (9).to_bytes(4))
    page = html.report_html(make_run(tmp_path), [picture])
    assert 'alt="Generalisation gap. The numbers are in tables/generalization_gap.csv."' in page
    numbers = [caption.numbers for caption in html.CAPTIONS.values()]
    assert all(re.search(r"table of cells|\.csv", text) for text in numbers)
