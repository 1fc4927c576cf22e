"""The scorer against the labelled completions of `benchmarks/labels`, and the labels themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import coherence
from steering_reliability.prompts import load_prompts
from steering_reliability.scoring import MEASURED

PROMPTS = Path(__file__).parents[2] / "experiments" / "prompts"


@pytest.fixture(scope="module")
def rows() -> list[coherence.Labelled]:
    return coherence.read_labels()


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return coherence.measure()


# Floors a little below what scorer version 9 measures on the held-out part of both batches:
# degenerate precision .90, recall .89, kappa .87; helpful precision .57, recall 1.00, kappa .55;
# refusal precision .87, recall .80, kappa .79. They guard against a change for the worse; raising
# one takes a measurement, and no threshold of the scorer may be chosen by them.
@pytest.mark.parametrize(
    ("question", "precision", "recall", "kappa"),
    [
        ("degenerate", 0.85, 0.84, 0.80),
        ("helpful", 0.50, 0.92, 0.48),
        ("refusal", 0.85, 0.75, 0.74),
    ],
)
def test_agreement_on_the_held_out_part(
    report: dict[str, Any], question: str, precision: float, recall: float, kappa: float
) -> None:
    figures = report["agreement"][question]["held_out"]
    assert figures["precision"] >= precision, figures
    assert figures["recall"] >= recall, figures
    assert figures["kappa"] >= kappa, figures


def test_what_a_report_says_of_the_rules_is_what_was_measured(report: dict[str, Any]) -> None:
    refusal = report["agreement"]["refusal"]
    for name in ("precision", "recall"):
        assert round(refusal["held_out"][name], 2) == MEASURED[name]
    kinds = ("unsteered", "add", "ablate", "random")
    recalls = [
        found["recall"]
        for kind, found in refusal.items()
        if kind.startswith(kinds) and found["true"] >= 8
    ]
    assert len(recalls) >= 5
    assert round(min(recalls), 2) == MEASURED["recall_low"]
    assert round(max(recalls), 2) == MEASURED["recall_high"]


def test_there_are_labels_enough(rows: list[coherence.Labelled]) -> None:
    assert len({row.id for row in rows}) == len(rows) >= 300
    assert sum(row.coherence == "degenerate" for row in rows) >= 80
    assert sum(row.helpful is not None for row in rows) >= 150
    for row in rows:
        assert row.coherence in ("degenerate", "coherent"), row
        assert row.refusal in ("full", "partial", "none"), row
        assert (row.helpful is not None) == row.split.startswith("benign"), row
        assert not (row.helpful and (row.refusal == "full" or row.coherence == "degenerate")), row


def test_parts_share_no_prompt_and_prompts_are_the_shipped_ones(
    rows: list[coherence.Labelled],
) -> None:
    shipped = {
        (split, prompt.id): prompt.text
        for split in ("harm_train", "benign_train", "harm_test", "benign")
        for prompt in load_prompts(PROMPTS / f"{split}.jsonl")
    }
    for row in rows:
        assert shipped[row.split, row.prompt_id] == row.prompt
        assert row.part == ("calibration" if row.split.endswith("_train") else "held_out")


def test_counting_broken_text_as_refusal_raises_every_bound_of_the_most_broken_cells(
    report: dict[str, Any],
) -> None:
    bounds = report["effect_bounds"]["add 8"]
    for source in ("labels", "rules"):
        assert bounds[f"{source}_as_refusal"] - bounds[f"{source}_as_compliance"] > 0.5


def test_figures_of_a_known_table() -> None:
    # 8 told and true, 2 told only, 4 true only, 6 neither: kappa is (.7 - .5) / (1 - .5).
    told = [True] * 10 + [False] * 10
    truth = [True] * 8 + [False] * 2 + [True] * 4 + [False] * 6
    figures = coherence.agreement(told, truth, [str(i % 5) for i in range(20)])
    assert figures["precision"] == pytest.approx(0.8)
    assert figures["recall"] == pytest.approx(2 / 3)
    assert figures["kappa"] == pytest.approx(0.4)
    low, high = figures["recall_interval"]
    assert low <= 2 / 3 <= high


def test_figures_that_do_not_exist_are_nan() -> None:
    figures = coherence.agreement([False] * 4, [False] * 4, list("abcd"))
    assert figures["precision"] != figures["precision"]
    assert figures["kappa"] != figures["kappa"]


def test_command_writes_its_figures_and_says_what_is_absent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "figures.json"
    assert coherence.main(["--json", str(target), "--xstest", str(tmp_path / "absent.csv")]) == 0
    assert "XSTest: not given or not there" in capsys.readouterr().out
    assert json.loads(target.read_text())["degenerate_share_of_xstest"] is None


def test_errors_of_the_held_out_part_stay_hidden(
    rows: list[coherence.Labelled], capsys: pytest.CaptureFixture[str]
) -> None:
    coherence.main(["--errors"])
    shown = capsys.readouterr().out
    parts = {row.id: row.part for row in rows}
    listed = [line.split()[0] for line in shown.splitlines() if " | reader: " in line]
    assert listed
    assert {parts[name] for name in listed} == {"calibration"}
