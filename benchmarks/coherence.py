"""How well do the rules tell degenerate, helpful and refusing text in the ladder's own cells?

``python -m benchmarks.coherence [--json FILE] [--errors] [--xstest FILE]``

Data: ``benchmarks/labels``, completions of the embedded model in the ladder's cells, labelled by
reading, blind to cell and score; its README says how. Thresholds of ``scoring.coherence`` and
``scoring.helpfulness`` were chosen on the part ``calibration`` (prompts of harm_train and
benign_train); the part ``held_out`` (harm_test and benign) is only ever measured, and ``--errors``
does not show it. Intervals are 95% percentile bootstrap intervals that draw prompts.

The last tables bound the effect: the refusal rate of each kind of cell less that of the unsteered
model, on harmful prompts of both parts, with degenerate text counted as compliance and as refusal,
by the labels and by the rules. The log-probability of each text under the unsteered model is in the
data, and the report says whether it would find degenerate texts that the rules miss.

With human-written labels at hand (XSTest's completions, ``--xstest``), the share of that real text
that is called degenerate is told too: all of it is coherent.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import mannwhitneyu

from steering_reliability.scoring import SCORER, SCORER_VERSION, Score, score

LABELS = Path(__file__).parent / "labels"
PARTS = ("calibration", "held_out")
RESAMPLES = 2000

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """One completion with the reader's labels; ``helpful`` is None but on benign prompts."""

    id: str
    part: str
    split: str
    prompt_id: str
    layer: int
    intervention: str
    alpha: float
    direction: str
    coherence: str
    refusal: str
    helpful: bool | None
    unsteered_logprob: float | None
    finish_reason: str
    prompt: str
    completion: str

    @property
    def cell_type(self) -> str:
        """``unsteered``, ``add 2``, ``ablate 1``, ``random 4``."""
        if self.alpha == 0:
            return "unsteered"
        kind = self.intervention if self.direction == "learned" else "random"
        return f"{kind} {self.alpha:g}"


@dataclass(frozen=True)
class Question:
    """What was asked of a text: which texts count, the reader's answer, the rules' answer."""

    name: str
    counts: Callable[[Labelled], bool]
    truth: Callable[[Labelled], bool]
    told: Callable[[Score], bool]


QUESTIONS = (
    Question(
        "degenerate", lambda _: True, lambda x: x.coherence == "degenerate",
        lambda s: s.is_degenerate,
    ),
    Question(
        "helpful", lambda x: x.helpful is not None, lambda x: bool(x.helpful),
        lambda s: s.is_helpful,
    ),
    Question(
        "refusal", lambda x: x.coherence == "coherent", lambda x: x.refusal != "none",
        lambda s: s.is_refusal,
    ),
)  # fmt: skip
"""Refusal is asked of coherent texts: degenerate text is none by definition, see the bounds."""


def read_labels(path: Path = LABELS / "completions.jsonl") -> list[Labelled]:
    """The labelled completions, in the shuffled order in which they were read."""
    with path.open(encoding="utf-8") as lines:
        return [Labelled(**json.loads(line)) for line in lines]


def score_all(rows: Sequence[Labelled]) -> list[Score]:
    """The rules' scores, row by row."""
    return [score(row.prompt, row.completion, finish_reason=row.finish_reason) for row in rows]


def describe(counts: Floats) -> dict[str, Floats]:
    """Precision, recall and Cohen's κ of counts [..., 4]: both, told only, true only, neither."""
    hit, false_alarm, miss, passed = np.moveaxis(counts, -1, 0)
    n = counts.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = (hit + false_alarm) * (hit + miss) + (miss + passed) * (false_alarm + passed)
        return {
            "precision": hit / (hit + false_alarm),
            "recall": hit / (hit + miss),
            "kappa": ((hit + passed) / n - chance / n**2) / (1 - chance / n**2),
        }


def agreement(
    told: Sequence[bool], truth: Sequence[bool], prompts: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """Figures of one question on some rows, each with its interval; NaN where undefined."""
    says, is_so = np.asarray(told, dtype=bool), np.asarray(truth, dtype=bool)
    cells = np.stack([says & is_so, says & ~is_so, ~says & is_so, ~says & ~is_so], axis=1)
    names, clusters = np.unique(prompts, return_inverse=True)
    counts = np.zeros((len(names), 4))
    np.add.at(counts, clusters, cells)
    n = len(names)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    whole, resampled = describe(counts.sum(axis=0)), describe(drawn @ counts)
    figures: dict[str, Any] = {"n": len(says), "true": int(is_so.sum()), "told": int(says.sum())}
    for name, value in whole.items():
        figures[name] = float(value)
        kept = resampled[name][~np.isnan(resampled[name])]
        bounds = (
            np.percentile(kept, (2.5, 97.5)) if len(kept) and value == value else (math.nan,) * 2
        )
        figures[f"{name}_interval"] = [float(bound) for bound in bounds]
    return figures


def by_group(rows: Sequence[Labelled], scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """Agreement per question: on each part, on both, and on both by cell type."""
    groups: dict[str, list[int]] = {part: [] for part in (*PARTS, "all")}
    kinds: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups[row.part].append(i)
        groups["all"].append(i)
        kinds.setdefault(row.cell_type, []).append(i)
    groups |= {kind: kinds[kind] for kind in sorted(kinds, key=lambda k: (k != "unsteered", k))}
    report: dict[str, dict[str, Any]] = {}
    for question in QUESTIONS:
        report[question.name] = {}
        for name, index in groups.items():
            chosen = [i for i in index if question.counts(rows[i])]
            if chosen:
                report[question.name][name] = agreement(
                    [question.told(scores[i]) for i in chosen],
                    [question.truth(rows[i]) for i in chosen],
                    [rows[i].prompt for i in chosen],
                )
    return report


def effect_bounds(rows: Sequence[Labelled], scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """Refusal rate of each cell type less the unsteered one's, harmful prompts, all countings."""
    answers = {
        "labels": [(row.coherence == "degenerate", row.refusal != "none") for row in rows],
        "rules": [(found.is_degenerate, found.is_refusal) for found in scores],
    }
    kinds: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row.split.startswith("harm"):
            kinds.setdefault(row.cell_type, []).append(i)

    def rate(source: str, kind: str, broken_refuses: bool) -> float:
        found = [answers[source][i] for i in kinds[kind]]
        return float(np.mean([broken_refuses if broken else refuses for broken, refuses in found]))

    bounds: dict[str, dict[str, Any]] = {}
    for kind in sorted(kinds):
        if kind != "unsteered":
            bounds[kind] = {"n": len(kinds[kind])} | {
                f"{source}_as_{name}": rate(source, kind, counted)
                - rate(source, "unsteered", counted)
                for source in answers
                for name, counted in (("compliance", False), ("refusal", True))
            }
    return bounds


def intra_annotator(rows: Sequence[Labelled]) -> dict[str, Any]:
    """Agreement of the reader's second pass with the first, per question."""
    first = {row.id: row for row in rows}
    with (LABELS / "second_pass.jsonl").open(encoding="utf-8") as lines:
        second = [json.loads(line) for line in lines]
    told: dict[str, tuple[list[bool], list[bool], list[str]]] = {}
    for again in second:
        row = first[again["id"]]
        pairs = {
            "degenerate": (again["coherence"] == "degenerate", row.coherence == "degenerate"),
            "refusal": (again["refusal"] != "none", row.refusal != "none"),
        }
        if row.helpful is not None:
            pairs["helpful"] = (bool(again["helpful"]), row.helpful)
        for name, (now, before) in pairs.items():
            answers, earlier_answers, prompts = told.setdefault(name, ([], [], []))
            answers.append(now)
            earlier_answers.append(before)
            prompts.append(row.prompt)
    return {name: agreement(*lists) for name, lists in told.items()}


def logprob_gain(rows: Sequence[Labelled], scores: Sequence[Score]) -> dict[str, float]:
    """What the unsteered model's mean log-probability would add to the rules.

    The threshold, and the side of it that is flagged, are the ones that find most on the
    calibration part at no loss of precision; they are then measured on the other.
    """
    known = [i for i, row in enumerate(rows) if row.unsteered_logprob is not None]
    value = np.array([rows[i].unsteered_logprob for i in known], dtype=float)
    truth = np.array([rows[i].coherence == "degenerate" for i in known])
    rules = np.array([scores[i].is_degenerate for i in known])
    held = np.array([rows[i].part == "held_out" for i in known])

    def figures(told: Bools, of: Bools) -> tuple[float, float]:
        hits = (told & truth & of).sum()
        return float(hits / max((told & of).sum(), 1)), float(hits / (truth & of).sum())

    options = [rules] + [
        rules | (side * (value - threshold) > 0)
        for threshold in np.unique(value)
        for side in (-1, 1)
    ]
    least = figures(rules, ~held)[0]
    able = [told for told in options if figures(told, ~held)[0] >= least]
    best = max(able, key=lambda told: figures(told, ~held)[1])
    doubtful = ~rules
    area = mannwhitneyu(value[doubtful & ~truth], value[doubtful & truth]).statistic
    return {
        "area_on_what_the_rules_let_pass": float(
            area / ((doubtful & ~truth).sum() * (doubtful & truth).sum())
        ),
        "calibration_recall_rules": figures(rules, ~held)[1],
        "calibration_recall_with": figures(best, ~held)[1],
        "held_out_recall_rules": figures(rules, held)[1],
        "held_out_recall_with": figures(best, held)[1],
        "held_out_precision_rules": figures(rules, held)[0],
        "held_out_precision_with": figures(best, held)[0],
    }


def measure(xstest: Path | None = None) -> dict[str, Any]:
    """Everything the report holds."""
    rows = read_labels()
    scores = score_all(rows)
    report: dict[str, Any] = {
        "scorer": f"{SCORER} {SCORER_VERSION}",
        "agreement": by_group(rows, scores),
        "second_pass": intra_annotator(rows),
        "effect_bounds": effect_bounds(rows, scores),
        "unsteered_logprob": logprob_gain(rows, scores),
        "degenerate_share_of_xstest": None,
    }
    if xstest is not None and xstest.is_file():
        with xstest.open(encoding="utf-8", newline="") as lines:
            found = [
                score(x["prompt"], x["completion"]).is_degenerate for x in csv.DictReader(lines)
            ]
        report["degenerate_share_of_xstest"] = {"n": len(found), "share": float(np.mean(found))}
    return report


def print_report(report: dict[str, Any]) -> None:
    print(f"scorer {report['scorer']} against benchmarks/labels (held_out: never tuned on)")
    for question, groups in report["agreement"].items():
        print(f"\n{question:14s}{'n':>5s}{'true':>6s}  {'precision':20s}{'recall':20s}kappa")
        for name, row in groups.items():
            print(f"  {name:12s}{row['n']:5d}{row['true']:6d}  {_shown(row)}")
    print(f"\n{'second pass':14s}{'n':>5s}{'true':>6s}  {'precision':20s}{'recall':20s}kappa")
    for name, row in report["second_pass"].items():
        print(f"  {name:12s}{row['n']:5d}{row['true']:6d}  {_shown(row)}")
    print("\nrise of refusal on harmful prompts; degenerate text counted as compliance .. refusal")
    for kind, row in report["effect_bounds"].items():
        shown = "   ".join(
            f"{source} {row[f'{source}_as_compliance']:+.2f} .. {row[f'{source}_as_refusal']:+.2f}"
            for source in ("labels", "rules")
        )
        print(f"  {kind:12s}{row['n']:5d}   {shown}")
    gain = report["unsteered_logprob"]
    print(
        "\nlog-probability under the unsteered model: area "
        f"{gain['area_on_what_the_rules_let_pass']:.2f} on what the rules let pass; recall at "
        f"equal precision {gain['calibration_recall_rules']:.3f} -> "
        f"{gain['calibration_recall_with']:.3f} (calibration), "
        f"{gain['held_out_recall_rules']:.3f} -> {gain['held_out_recall_with']:.3f} (held out, "
        f"precision {gain['held_out_precision_rules']:.3f} -> "
        f"{gain['held_out_precision_with']:.3f})"
    )
    real = report["degenerate_share_of_xstest"]
    if real is None:
        print("XSTest: not given or not there (--xstest FILE), the share of real text is left out")
    else:
        print(f"XSTest: {real['share']:.2%} of {real['n']} real completions called degenerate")


def _shown(row: dict[str, Any]) -> str:
    return "".join(
        f"{row[name]:.2f} [{low:.2f}, {high:.2f}]".ljust(20)
        for name in ("precision", "recall", "kappa")
        for low, high in [row[f"{name}_interval"]]
    ).rstrip()


def print_errors() -> None:
    """Disagreements on the calibration part; those of the held-out part stay hidden."""
    rows = [row for row in read_labels() if row.part == "calibration"]
    for row, found in zip(rows, score_all(rows), strict=True):
        for question in QUESTIONS:
            if question.counts(row) and question.truth(row) != question.told(found):
                label = question.name if question.truth(row) else f"not {question.name}"
                print(f"{row.id} | reader: {label} | rules: {', '.join(found.reasons)}")
                print(f"    {row.prompt} => {' '.join(row.completion.split())[:200]}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--errors", action="store_true", help="list disagreements (calibration)")
    parser.add_argument("--xstest", type=Path, help="XSTest's completions, a csv file")
    options = parser.parse_args(arguments)
    report = measure(options.xstest)
    print_report(report)
    if options.errors:
        print_errors()
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
