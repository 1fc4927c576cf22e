"""The words and the drawings of a report, and ``examples.md``."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image
from report_runs import TEXTS, VERDICTS, make_run, make_scores, make_verdict

from steering_reliability.cells import Cell
from steering_reliability.claims import Coherence
from steering_reliability.expectations import evaluate
from steering_reliability.report import labels
from steering_reliability.report.effects import (
    GAP_COLUMNS,
    gap_effects,
    gap_table,
    paired_effects,
    trade_off_cells,
)
from steering_reliability.report.examples import (
    cells_to_show,
    escape_markdown,
    examples_markdown,
    examples_of,
    sample,
    write_examples,
)
from steering_reliability.report.plots import write_plots
from steering_reliability.results.atomic import write_csv
from steering_reliability.results.summary import summarize

ALL_PLOTS = [
    "refusal_by_alpha",
    "heatmap_refusal_harm_test",
    "heatmap_helpfulness_benign",
    "trade_off",
    "generalization_gap",
]


class TestWords:
    @given(st.text())
    def test_clean_text_can_be_encoded_and_holds_no_controls(self, text: str) -> None:
        clean = labels.clean(text)
        clean.encode("utf-8")
        assert not {c for c in clean if c < " " and c not in "\t\n"}
        assert labels.clean(clean) == clean

    def test_clean_leaves_ordinary_text_alone(self) -> None:
        text = "naïve 日本語 😀\tcol\nline"
        assert labels.clean(text) == text

    @pytest.mark.parametrize(
        ("value", "shown"), [(0.25, "+25"), (-0.1, "−10"), (0.001, "0"), (np.nan, "–"), (None, "–")]
    )
    def test_points_are_signed(self, value: float | None, shown: str) -> None:
        assert labels.points(value) == shown

    def test_an_estimate_reads_as_in_its_message(self) -> None:
        scores = make_scores(n=30)
        for claim, cell in (
            ("baseline_refusal", {}),
            ("alpha_raises_refusal", {"layer": 12, "intervention": "add", "alpha": 2.0}),
            ("coherence", {"layer": 12, "intervention": "add", "alpha": 2.0}),
        ):
            verdict = evaluate(claim, scores, **cell)  # type: ignore[arg-type]
            assert labels.estimate_text(verdict) in verdict.message
            assert claim not in labels.finding(verdict)
            assert verdict.message.endswith(labels.finding(verdict))
        missing = make_verdict("coherence", "error", estimate=np.nan)
        assert labels.estimate_text(missing) == "–"

    def test_required_verdicts_come_first_and_the_worst_of_them_names_the_run(self) -> None:
        ordered = labels.sorted_verdicts(VERDICTS)
        assert [v.required for v in ordered] == [True, True, True, False]
        assert ordered[0].outcome == "inconclusive"
        assert labels.overall_outcome(VERDICTS) == "inconclusive"
        assert labels.overall_outcome([v for v in VERDICTS if not v.required]) == "none"

    @pytest.mark.parametrize(
        ("outcomes", "said"),
        [
            (["pass"], "The data support the required claim (coherence) on"),
            (["pass", "pass"], "The data support the required 2 claims (coherence) on"),
            (["fail"], "The data contradict the required claim (coherence)"),
            (["fail", "error", "pass"], "contradict 1 of the 3 required claims (coherence)"),
            (["error", "inconclusive"], "1 of 2 required claims could not be judged"),
            (["inconclusive"], "about 78 prompts per split would settle it"),
            ([], "No claim was tested"),
        ],
    )
    def test_the_conclusion_says_what_the_required_claims_mean(
        self, outcomes: list[str], said: str
    ) -> None:
        verdicts = [make_verdict("coherence", o, prompts_to_settle=78) for o in outcomes]
        assert said in labels.plain_conclusion(verdicts)

    @pytest.mark.parametrize(
        ("prompts", "directions", "said"),
        [
            ([78, 40], [], "2 of 3 could still go either way with this many prompts (about 78"),
            (
                [],
                [59],
                "1 of 2 could still go either way (59 random directions would settle 1, "
                "more prompts would not).",
            ),
            (
                [78],
                [59, 119],
                "3 of 4 could still go either way (about 78 prompts per split would settle 1; "
                "119 random directions would settle 2, more prompts would not).",
            ),
            (
                [78, None],
                [],
                "2 of 3 could still go either way (about 78 prompts per split would settle 1; "
                "no number of prompts is known that would settle 1).",
            ),
            ([None], [], "(no number of prompts is known that would settle 1)."),
        ],
    )
    def test_the_conclusion_promises_prompts_only_where_they_would_settle_it(
        self, prompts: list[int | None], directions: list[int], said: str
    ) -> None:
        verdicts = [make_verdict("coherence", "pass")]
        verdicts += [
            make_verdict("coherence", "inconclusive", prompts_to_settle=n) for n in prompts
        ]
        verdicts += [
            make_verdict("beats_controls", "inconclusive", details={"directions_to_settle": n})
            for n in directions
        ]
        assert said in labels.plain_conclusion(verdicts)

    def test_the_p_of_a_rank_is_called_one(self) -> None:
        assert labels.p_kind(make_verdict("beats_controls", "pass")) == ""
        for times, said in ((1, "of its rank"), (3, "of its rank × 3")):
            details = {"method": "rank", "rank_times": times}
            assert labels.p_kind(make_verdict("beats_controls", "pass", details=details)) == said

    def test_claims_about_the_unsteered_model_do_not_say_that_steering_works(self) -> None:
        unsteered = [make_verdict(c, "pass") for c in ("baseline_refusal", "direction_is_real")]
        steered = [*unsteered, make_verdict("coherence", "fail", required=False)]
        assert not labels.requires_steering(steered)
        for verdicts in (unsteered, steered):
            said = labels.plain_conclusion(verdicts)
            assert "(baseline_refusal, direction_is_real)" in said
            assert "does not say whether steering works" in said
        required = [*unsteered, make_verdict("coherence", "pass")]
        assert labels.requires_steering(required)
        assert "steering works" not in labels.plain_conclusion(required)

    def test_open_claims_that_count_as_failed_are_told_where_they_make_a_difference(self) -> None:
        strict, lenient = {"config": {"inconclusive": "fail"}}, {"config": {}}
        verdicts = [make_verdict("coherence", o) for o in ("fail", "inconclusive", "pass")]
        assert labels.open_fails_line(verdicts, strict) == (
            "2 required claims fail the run: 1 contradicted, 1 inconclusive, which counts as "
            "failed here (inconclusive: fail)."
        )
        assert labels.open_fails_line(verdicts[1:], strict).startswith("1 required claim fails")
        # What the command line said goes before the file.
        assert labels.open_fails_line(verdicts, lenient | {"inconclusive": "fail"})
        assert labels.open_fails_line(verdicts, strict | {"inconclusive": "pass"}) == ""
        assert labels.open_fails_line(verdicts, lenient) == ""
        assert labels.open_fails_line([verdicts[0], verdicts[2]], strict) == ""
        exploratory = [make_verdict("coherence", "inconclusive", required=False)]
        assert labels.open_fails_line(exploratory, strict) == ""

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("its layer is best", "Its layer is best"),
            ("log-odds of refusal: rank 5", "Log-odds of refusal: rank 5"),
            ("provisional: it rests", "Provisional: it rests"),
            ("layer16-add-alpha1 alone", "layer16-add-alpha1 alone"),
            ("benign_side_effect fails", "benign_side_effect fails"),
            ("", ""),
        ],
    )
    def test_a_sentence_begins_with_a_capital_but_names_are_left_alone(
        self, text: str, shown: str
    ) -> None:
        assert labels.sentence(text) == shown


class TestCoherence:
    def summary(self, broken: float, split: str = "benign") -> pd.DataFrame:
        rows = [
            (s, 12, alpha, "add", 0.05 if alpha == 0 or s != split else broken, n)
            for s, n in (("harm_test", 20), ("benign", 20))
            for alpha in (0.0, 2.0)
        ]
        columns = ["split", "layer", "alpha", "intervention_type", "degenerate_mean", "n"]
        return pd.DataFrame(rows, columns=columns)

    @pytest.mark.parametrize(("broken", "coherent"), [(0.25, True), (0.27, False)])
    def test_splits_are_taken_together_as_claims_do(self, broken: float, coherent: bool) -> None:
        # Half of the prompts are benign, so .20 there is the gate's .10 over all.
        marked = labels.with_coherence(self.summary(broken), Coherence())
        assert marked["is_coherent"].tolist() == [True, coherent, True, coherent]

    def test_a_summary_that_was_read_back_says_the_same(self, tmp_path: Path) -> None:
        # 47 of 470 more: a rise of the gate's .10, and not of more, which rounding must not undo.
        summary = self.summary(0.0).assign(n=235)
        steered = summary["alpha"] > 0
        summary["degenerate_mean"] = np.where(steered, [0, 30, 0, 35], [0, 0, 18, 0]) / 235
        path = tmp_path / "summary.csv"
        write_csv(path, summary)
        for one in (summary, pd.read_csv(path)):
            assert labels.with_coherence(one, Coherence())["is_coherent"].all()

    def test_the_runs_own_gate_is_used(self) -> None:
        settings = labels.coherence_settings({"config": {"claims": {"coherence": {"gate": 0.3}}}})
        assert labels.with_coherence(self.summary(0.6), settings)["is_coherent"].all()
        assert labels.coherence_settings({}).gate == Coherence().gate

    def test_without_a_baseline_nothing_speaks_against_a_cell(self) -> None:
        steered = self.summary(0.9).query("alpha != 0")
        assert labels.with_coherence(steered, Coherence())["is_coherent"].all()


class TestEffects:
    def test_an_effect_is_the_paired_difference_with_several_samples_averaged(self) -> None:
        scores = make_scores(n=20)
        twice = pd.concat([scores, scores.assign(sample=1, is_refusal=False)])
        summary = labels.with_coherence(summarize(twice), Coherence())
        effects = paired_effects(twice, summary).set_index("split")
        rates = summary.query("split == 'harm_test'").set_index("alpha")["is_refusal_mean"]
        assert effects.loc["harm_test", "effect"] == pytest.approx(rates[2] - rates[0])
        assert effects.loc["harm_test", "n"] == 20

    def test_prompts_learned_from_are_left_out_where_there_are_others(self) -> None:
        scores = make_scores(n=30)
        seen = (scores["split"] == "harm_train") & (scores["prompt_id"] >= "harm_train-020")
        summary = labels.with_coherence(summarize(scores), Coherence())
        counts = gap_effects(scores.assign(seen=seen), summary).set_index("split")["n"]
        assert counts.to_dict() == {"harm_train": 20, "harm_test": 30}
        all_seen = scores.assign(seen=scores["split"] == "harm_train")
        assert gap_effects(all_seen, summary)["n"].tolist() == [30, 30]

    def test_gaps_are_written_beside_the_effects_that_make_them(self) -> None:
        scores = make_scores(n=30, alphas=(0, 2, 8))
        learned = (scores["split"] == "harm_train") & (scores["prompt_id"] >= "harm_train-020")
        scores["seen"] = learned
        summary = labels.with_coherence(summarize(scores), Coherence())
        table = gap_table(scores, summarize(scores))
        assert tuple(table.columns) == GAP_COLUMNS
        assert table["alpha"].tolist() == [2, 8]
        effects = gap_effects(scores, summary).set_index(["split", "alpha"])
        for row in table.to_dict("records"):
            for split, n in (("harm_train", 20), ("harm_test", 30)):
                effect = effects.loc[(split, row["alpha"])]
                assert row[f"{split}_effect"] == effect["effect"]
                assert row[f"{split}_effect_low"] == effect["effect_low"]
                assert row[f"{split}_n"] == n
            assert row["gap"] == pytest.approx(row["harm_train_effect"] - row["harm_test_effect"])
            assert row["gap_low"] < row["gap"] < row["gap_high"]
        alone = scores[scores["split"] == "harm_test"]
        assert gap_table(alone, summarize(alone)).empty

    def test_the_unsteered_cell_has_no_effect(self) -> None:
        run = make_run(Path())
        summary = labels.with_coherence(run.summary, Coherence())
        cells = trade_off_cells(run.scores, summary).set_index("alpha")
        assert cells.loc[0, "effect"] == 0
        assert cells.loc[2, "effect"] > 0


class TestPlots:
    def test_a_full_grid_gets_every_plot_and_stays_light(self, tmp_path: Path) -> None:
        run = make_run(
            tmp_path,
            layers=(8, 12, 16),
            alphas=(0, 2, 8),
            interventions=("add", "ablate"),
            controls=True,
        )
        paths = write_plots(run, tmp_path / "plots")
        assert [path.stem for path in paths] == ALL_PLOTS
        assert sum(path.stat().st_size for path in paths) < 1_000_000
        for path in paths:
            with Image.open(path) as image:
                assert image.width >= 700
                assert np.asarray(image.convert("L")).std() > 5, "the plot is blank"

    def test_the_same_run_gives_the_same_bytes_whatever_the_users_style(
        self, tmp_path: Path
    ) -> None:
        run = make_run(tmp_path)
        first = write_plots(run, tmp_path / "one")
        before = dict(matplotlib.rcParams)
        with matplotlib.rc_context({"font.size": 25, "axes.facecolor": "red"}):
            second = write_plots(run, tmp_path / "two")
        assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
        assert dict(matplotlib.rcParams) == before
        assert b"matplotlib" not in first[0].read_bytes()

    def test_the_baseline_alone_has_no_trade_off(self, tmp_path: Path) -> None:
        paths = write_plots(make_run(tmp_path, alphas=(0,)), tmp_path)
        assert [path.stem for path in paths] == ALL_PLOTS[:3]

    def test_what_was_not_run_is_left_out(self, tmp_path: Path) -> None:
        run = make_run(tmp_path, splits=("harm_test",))
        assert [path.stem for path in write_plots(run, tmp_path)] == ALL_PLOTS[:2]
        run.summary = run.summary.iloc[:0]
        assert write_plots(run, tmp_path) == []

    def test_a_ragged_grid_and_missing_rates_are_drawn(self, tmp_path: Path) -> None:
        run = make_run(tmp_path, layers=(8, 12), interventions=("add", "ablate"))
        ragged = (run.summary["layer"] == 12) | (run.summary["intervention_type"] == "add")
        run.summary = run.summary[ragged].reset_index(drop=True)
        run.summary.loc[0, ["is_refusal_mean", "is_refusal_low", "is_refusal_high"]] = np.nan
        assert [path.stem for path in write_plots(run, tmp_path)] == ALL_PLOTS

    def test_a_cell_that_is_not_coherent_looks_different(self, tmp_path: Path) -> None:
        run = make_run(tmp_path)
        plain = [p.read_bytes() for p in write_plots(run, tmp_path / "plain")]
        run.summary.loc[run.summary["alpha"] == 2, "degenerate_mean"] = 0.9
        marked = [p.read_bytes() for p in write_plots(run, tmp_path / "marked")]
        assert all(one != two for one, two in zip(plain, marked, strict=True))

    def test_pyplot_is_not_touched_and_the_page_needs_no_matplotlib(self) -> None:
        code = (
            "import sys, steering_reliability.report.html, steering_reliability.report.examples, "
            "steering_reliability.report.terminal\n"
            "assert 'matplotlib' not in sys.modules\n"
            "assert 'torch' not in sys.modules\n"
            "import steering_reliability.report.plots\n"
            "assert 'matplotlib.pyplot' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestExamples:
    def test_the_sample_is_the_first_prompts_and_the_first_that_flipped(self) -> None:
        examples = list(examples_of(make_scores(n=40), "harm_test"))
        assert [example.prompt_id for example in examples][:2] == ["harm_test-000", "harm_test-001"]
        chosen = sample(examples)
        assert chosen[:3] == examples[:3]
        later = [example for example in examples[3:] if example.flipped]
        assert chosen[3:] == later[:5]
        assert len(later) > 5

    def test_baseline_and_every_steered_cell_are_shown_once(self) -> None:
        scores = make_scores(alphas=(0, 2, 4), controls=True)
        again = pd.concat([scores.assign(sample=1, text="second sample"), scores])
        example = next(examples_of(again, "harm_test"))
        assert example.baseline is not None
        assert [shown.cell.id for shown in example.steered] == [
            "layer12-add-alpha2",
            "layer12-add-alpha4",
        ]
        assert "second sample" not in [shown.text for shown in example.steered]

    def test_the_greatest_coherent_alpha_is_shown(self) -> None:
        summary = summarize(make_scores(alphas=(0, 2, 4, 8), n=40))
        marked = labels.with_coherence(summary, Coherence())
        assert cells_to_show(marked) == [Cell(12, "add", 4)]
        assert cells_to_show(marked.assign(is_coherent=False)) == [Cell(12, "add", 2)]

    def test_the_file_is_a_table_with_the_texts_side_by_side(self, tmp_path: Path) -> None:
        run = make_run(tmp_path, interventions=("add", "ablate"))
        text = write_examples(run).read_text(encoding="utf-8")
        html = MarkdownIt("commonmark").enable("table").render(text)
        assert html.count("<table>") == 2 * text.count("\n### ")
        assert "<th>unsteered</th>\n<th>layer12-add-alpha2</th>" in html
        assert "ps aux | grep python" in html
        assert "<em>id</em>" not in html

    def test_what_a_model_wrote_cannot_mark_up(self, tmp_path: Path) -> None:
        run = make_run(tmp_path)
        evil = "<script>x</script> | **b** [a](javascript:b)\n# h\n```\n\ud800\x00 http://x.y"
        run.scores["text"] = pd.Series(evil, run.scores.index, dtype=object)
        run.scores["prompt"] = run.scores["text"]
        text = examples_markdown(run)
        html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
        for markup in ("<script", "<strong>b", "<a ", "<h1>h", "<code>", "<pre"):
            assert markup not in html.replace("<code>completions.parquet</code>", "")

    def test_an_empty_completion_says_so(self, tmp_path: Path) -> None:
        run = make_run(tmp_path)
        run.scores["text"] = " \n"
        assert "| *empty* | *empty* |" in examples_markdown(run)

    @given(st.text())
    def test_escaped_text_is_one_line_and_reads_as_written(self, text: str) -> None:
        escaped = escape_markdown(text)
        assert "\n" not in escaped
        rendered = MarkdownIt("commonmark").renderInline("x" + escaped)
        assert "<em>" not in rendered
        assert "<a " not in rendered
        assert "<code>" not in rendered


def test_the_synthetic_runs_show_every_kind_of_text() -> None:
    """The tests above are worth what their data hold."""
    scores = make_scores(alphas=(0, 8), n=40)
    assert set(scores["text"]) == set(TEXTS.values())
    flipped = [e for e in examples_of(scores, "harm_test") if e.flipped]
    assert replace(flipped[0], steered=()).flipped is False
