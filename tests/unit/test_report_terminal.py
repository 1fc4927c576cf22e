"""Terminal lines: what they say, that they fit, and when progress is written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from report_runs import VERDICTS, make_run, make_verdict

from steering_reliability.expectations import Verdict
from steering_reliability.report.labels import MOST_EXPLORATORY
from steering_reliability.report.progress import ProgressLine
from steering_reliability.report.terminal import (
    HeaderInfo,
    header_lines,
    summary_table,
    verdict_lines,
)

HEADER = HeaderInfo(
    level="smoke",
    question="does alpha 2 raise refusal?",
    model="embedded",
    device="cpu",
    dtype="float32",
    cells=2,
    prompts={"benign": 20, "harm_test": 20, "harm_train": 20},
    planned=1200,
    notes=["layer 12: the default – no decision of layer_test"],
)


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def progress(total: int, live: bool, **options: Any) -> tuple[ProgressLine, list[str], Clock]:
    written: list[str] = []
    clock = Clock()
    return ProgressLine(total, written.append, live=live, clock=clock, **options), written, clock


def test_the_header_says_what_is_run_on_what() -> None:
    assert header_lines(HEADER) == [
        "steering: smoke: does alpha 2 raise refusal?",
        "steering: model embedded, cpu, float32",
        "steering: 2 cells; prompts: 20 harm_train, 20 harm_test, 20 benign",
        "steering: 1,200 distinct completions planned",
        "steering: layer 12: the default - no decision of layer_test",
    ]


def test_the_table_has_one_unsteered_row_and_a_row_per_steered_cell() -> None:
    summary = make_run(Path(), layers=(8, 12), alphas=(0, 2)).summary
    lines = summary_table(summary, 100)
    assert [line.split()[0] for line in lines[2:]] == [
        "unsteered",
        "layer8-add-alpha2",
        "layer12-add-alpha2",
    ]
    assert lines[0].split() == [
        "harm_train", "(n=20)", "harm_test", "(n=20)", "benign", "(n=20)",
    ]  # fmt: skip
    row = summary.query("split == 'harm_test' and layer == 12 and alpha == 2").iloc[0]
    interval = f"[{100 * row.is_refusal_low:.0f},{100 * row.is_refusal_high:.0f}]"
    expected = f"{100 * row.is_refusal_mean:.0f} {interval}"
    assert expected in lines[4]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal_and_no_split_is_lost(width: int) -> None:
    run = make_run(Path(), layers=(8, 12, 16), alphas=(0, 2, 4), interventions=("add", "ablate"))
    lines = summary_table(run.summary, width)
    assert max(map(len, lines)) <= min(width, 100)
    for split in ("harm_train", "harm_test", "benign"):
        assert sum(split in line for line in lines) == 1
    assert all(line.isascii() for line in lines)
    verdicts = verdict_lines(VERDICTS, max(width, 60))
    assert max(map(len, verdicts)) <= max(60, min(width, 100))


def test_intervals_go_before_the_table_breaks() -> None:
    summary = make_run(Path()).summary
    wide, narrow = summary_table(summary, 100), summary_table(summary, 80)
    assert "[95%]" in wide[1]
    assert "[95%]" not in narrow[1]
    assert len(wide) == len(narrow)


def test_numbers_stand_under_their_headings() -> None:
    summary = make_run(Path()).summary
    summary[["is_refusal_mean", "is_refusal_high"]] = 1.0
    summary["is_refusal_low"] = 0.84
    summary[["is_helpful_mean", "degenerate_mean"]] = 1.0
    for width in (100, 80):
        lines = summary_table(summary, width)
        assert [len(line) for line in lines[1:]] == [len(lines[1])] * 3
        assert lines[2].index("100 ", len("unsteered")) >= lines[1].index("refuse")


def test_an_empty_summary_has_no_lines() -> None:
    assert summary_table(make_run(Path()).summary.iloc[:0], 80) == []
    assert verdict_lines([], 80) == []


def test_missing_rates_are_dashes() -> None:
    summary = make_run(Path()).summary
    summary.loc[:, ["is_refusal_mean", "is_refusal_low", "degenerate_mean"]] = math.nan
    text = "\n".join(summary_table(summary, 100))
    assert "nan" not in text


def test_verdicts_lead_with_what_is_required_and_explain_what_did_not_pass() -> None:
    lines = verdict_lines(VERDICTS, 100)
    assert lines[0].startswith("?      alpha_raises_refusal  layer12-add-alpha2  +.15 [-.08, +.51]")
    assert "about 78 prompts would settle" in lines[1]
    assert sum(line.startswith("PASS") for line in lines) == 2
    assert next(line for line in lines if line.startswith("FAIL")).endswith("exploratory")
    assert "required: 1 inconclusive, 2 pass" in lines
    assert "exploratory: 1 fail" in lines


def test_what_a_terminal_could_act_on_is_not_printed() -> None:
    evil = make_verdict(
        "coherence", "fail", message="\x1b[31mred\x1b[0m \ud800 – ok", target="a\rb"
    )
    text = "\n".join(verdict_lines([evil], 100))
    assert text.replace("\n", "").isprintable()
    assert "- ok" in text


def test_a_live_line_is_rewritten_in_place_and_ends_with_a_line_end() -> None:
    line, written, clock = progress(200, live=True)
    clock.now += 10
    line.update(50)
    assert written == ["\rsteering: 50/200 completions, 5.0/s, 0:30 left"]
    clock.now += 0.05
    line.update(51)
    assert len(written) == 1
    clock.now += 10
    line.update(199)
    assert written[1] == "\rsteering: 199/200 completions, 9.9/s, 0:00 left"
    line.update(200)
    line.close()
    # Padded, so that nothing of the longer line before stays.
    assert len(written[2]) == len(written[1])
    assert "".join(written[2:]).rstrip(" \n") == "\rsteering: 200 completions in 0:20, 10.0/s"
    assert written[-1] == "\n"


def test_a_live_line_can_be_cleared_for_other_output() -> None:
    line, written, clock = progress(10, live=True)
    line.clear()
    assert written == []
    clock.now += 1
    line.update(5)
    line.clear()
    assert written[-1] == "\r" + " " * (len(written[0]) - 1) + "\r"


def test_a_live_line_never_fills_the_terminal() -> None:
    line, written, clock = progress(1_000_000, live=True, width=30)
    clock.now += 1
    line.update(3)
    assert len(written[0].lstrip("\r")) == 29


def test_a_log_gets_a_line_every_fifteen_seconds_and_a_last_one() -> None:
    line, written, clock = progress(600, live=False)
    for done in range(1, 600):
        clock.now += 0.125
        line.update(done)
    clock.now += 0.125
    line.update(600)
    line.close()
    assert written == [
        "steering: 120/600 completions, 8.0/s, 1:00 left\n",
        "steering: 240/600 completions, 8.0/s, 0:45 left\n",
        "steering: 360/600 completions, 8.0/s, 0:30 left\n",
        "steering: 480/600 completions, 8.0/s, 0:15 left\n",
        "steering: 600 completions in 1:15, 8.0/s\n",
    ]


def test_nothing_done_writes_nothing_and_a_stopped_run_says_how_far_it_came() -> None:
    line, written, clock = progress(10, live=False)
    line.update(0)
    line.close()
    assert written == []
    clock.now += 3700
    line.update(4)
    line.close()
    assert written[-1] == "steering: 4/10 completions in 1:01:40, 0.0/s\n"


def of_cell(claim: str, alpha: float, **details: bool) -> Verdict:
    where = {"layer": 16, "intervention": "add", "alpha": alpha}
    target = f"layer16-add-alpha{alpha:g}"
    return make_verdict(claim, "pass", required=False, target=target, details=where | details)


@pytest.mark.parametrize("others", [0, MOST_EXPLORATORY])
def test_every_verdict_on_a_cell_past_the_gate_says_so(others: int) -> None:
    rise, lead = "alpha_raises_refusal", "beats_controls"
    verdicts = [
        of_cell(rise, 2, coherent=True),
        of_cell(rise, 4, coherent=False),
        # The claim itself does not ask for the gate.
        of_cell(lead, 4),
        of_cell(lead, 2),
        *[of_cell("coherence", 10 + i, coherent=True) for i in range(others)],
    ]
    text = "\n".join(verdict_lines(verdicts, 100))
    if others:
        assert f"PASS   {rise} (2, exploratory): layer16-add-alpha2, layer16-add-alpha4*" in text
        assert f"PASS   {lead} (2, exploratory): layer16-add-alpha4*, layer16-add-alpha2\n" in text
        assert text.count("past the coherence gate") == 1
        assert text.count("*") == 3
    else:
        flagged = [line for line in text.splitlines() if "past the coherence gate" in line]
        assert len(flagged) == 2
        assert "*" not in text


def test_without_a_cell_past_the_gate_nothing_is_starred() -> None:
    verdicts = [of_cell("coherence", i, coherent=True) for i in range(MOST_EXPLORATORY + 1)]
    text = "\n".join(verdict_lines([*verdicts, make_verdict("other", "pass")], 100))
    assert "*" not in text
    assert "gate" not in text
