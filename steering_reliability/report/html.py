"""``report.html``: one self-contained page about a run.

This module chooses and words what the template lays out. Everything a model or a user wrote
passes through autoescaping and ``clean``; the page's content security policy allows its own
style and script by hash and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from steering_reliability.report import labels
from steering_reliability.report.bounds import bound_rows
from steering_reliability.report.directions import direction_table
from steering_reliability.report.examples import Example, examples_of
from steering_reliability.report.head import head_of
from steering_reliability.report.labels import clean, ordered_splits
from steering_reliability.report.lengths import length_view, shape_rows
from steering_reliability.report.probes import endpoint_rows, probe_counts, probe_rows
from steering_reliability.report.rates import cell_rows, control_rows, learned_from
from steering_reliability.report.sensitive import sensitive_rows
from steering_reliability.report.significance import significance_rows
from steering_reliability.report.steerability import WORST, steerability_shown
from steering_reliability.report.verdicts import anchor, by_claim, quantity
from steering_reliability.results.atomic import write_text
from steering_reliability.scoring import MEASURED, SCORER, SCORER_VERSION

if TYPE_CHECKING:
    from steering_reliability.results.run import RunData

REPORT = "report.html"
# The page stays light enough to mail and to open on a telephone; the rest is in the parquet file.
BROWSER_BYTES = 1_000_000
TEXT_LENGTH = 1_500

MARKS = {"pass": "✓", "fail": "✗", "inconclusive": "?", "error": "!", "none": "–"}


@dataclass(frozen=True)
class Caption:
    """What a plot is called, what it says, and where its numbers stand for who can't see it."""

    title: str
    text: str
    numbers: str


@dataclass(frozen=True)
class Picture:
    """A plot as the page shows it: caption, pixels and the PNG as a data address."""

    caption: Caption
    width: int
    height: int
    source: str


CAPTIONS = {
    "refusal_by_alpha": Caption(
        "Refusal rate against alpha",
        "Refusal should rise with alpha on the harmful splits and stay low on benign prompts; a "
        "direction works only where it also beats the grey controls, if there are any.",
        "The numbers are in the tables of cells and of controls, and in summary.csv and "
        "controls.csv.",
    ),
    "heatmap_refusal_harm_test": Caption(
        "Refusal on harm_test by layer and alpha",
        "How often the model refuses harmful prompts of a phrasing that the direction was not "
        "learned from.",
        "The numbers are in the table of cells and in summary.csv.",
    ),
    "heatmap_helpfulness_benign": Caption(
        "Helpfulness on benign by layer and alpha",
        "What steering leaves of the model's usefulness on everyday requests.",
        "The numbers are in the table of cells and in summary.csv.",
    ),
    "trade_off": Caption(
        "Trade-off between effect and helpfulness",
        "The best cells lie where the effect is large and helpfulness stays near that of the "
        "unsteered model. A ringed cell is one that the level chose or confirms. A cross, if there "
        "is one, is the unsteered model under a system prompt that asks for the same: steering is "
        "worth its trouble only where a cell lies beyond it.",
        "Effects are in tables/effects.csv, helpfulness in the table of cells and in summary.csv; "
        "the system prompt's at the top of this page and in the table of controls.",
    ),
    "generalization_gap": Caption(
        "Generalisation gap",
        "A direction that generalises moves harm_test as much as harm_train; where harm_train has "
        "prompts that the direction was not learned from, only those count.",
        "The numbers are in tables/generalization_gap.csv.",
    ),
}
_OTHER = "The numbers are in the run's tables."


def write_report(data: RunData, plots: Sequence[Path]) -> Path:
    """Write ``report.html`` into the run's folder, atomically.

    Args:
        data: the run.
        plots: PNG files from `plots.write_plots`, in the order in which they are shown.

    Raises:
        SteeringError: the folder cannot be written.
    """
    path = data.folder / REPORT
    write_text(path, report_html(data, plots))
    return path


def report_html(data: RunData, plots: Sequence[Path]) -> str:
    """The whole page as text; the same run gives the same page."""
    environment = Environment(
        loader=PackageLoader("steering_reliability.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.filters.update(
        percent=labels.percent,
        points=labels.points,
        nats=labels.nats,
        interval=labels.percent_interval,
        alpha=labels.alpha_text,
        p=labels.p_text,
        p_kind=labels.p_kind,
        estimate=labels.estimate_text,
        finding=labels.finding,
        quantity=quantity,
        anchor=anchor,
        json=lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str),
        number=_number,
        shorten=labels.shorten,
        sentence=labels.sentence,
    )
    source = environment.loader
    assert source is not None
    style, script = (
        Markup(source.get_source(environment, name)[0]) for name in ("report.css", "report.js")
    )
    summary = labels.with_coherence(data.summary, labels.coherence_settings(data.manifest))
    verdicts = labels.sorted_verdicts(data.verdicts)
    browser = _browser(data.scores)
    probes = probe_rows(data.manifest.get("probes") or [])
    return environment.get_template("report.html.j2").render(
        style=style,
        script=script,
        policy=_policy(style, script),
        marks=MARKS,
        manifest=data.manifest,
        name=data.folder.name,
        head=head_of(data),
        warnings=[str(text) for text in data.manifest.get("warnings") or []],
        verdicts=verdicts,
        counts=labels.count_outcomes,
        claims=by_claim(verdict for verdict in verdicts if not verdict.required),
        most_exploratory=labels.MOST_EXPLORATORY,
        past_gate=labels.past_gate(verdicts),
        decisions=data.decisions,
        sanity=data.manifest.get("sanity") or [],
        probes=probes,
        probe_counts=probe_counts(probes),
        log_odds=endpoint_rows(data.manifest.get("log_odds") or []),
        pictures=[_picture(path) for path in plots],
        summary_rows=cell_rows(summary, data.manifest),
        learned_from=learned_from(data.scores),
        bound_rows=bound_rows(data.folder, data.scores),
        sensitive=sensitive_rows(data.scores),
        lengths=length_view(data.folder),
        rules_measured=_rules_measured(data.manifest),
        shapes=shape_rows(data.folder),
        control_rows=control_rows(data.controls, summary, data.manifest),
        tests=significance_rows(data.folder),
        steerability=steerability_shown(data.folder, data.scores),
        worst_shown=WORST,
        directions=direction_table(data.manifest.get("directions") or []),
        browser=browser,
        shown=sum(len(examples) for examples in browser.values()),
        prompts=len(data.scores.drop_duplicates(["split", "prompt_id"])),
        text_length=TEXT_LENGTH,
        timings=_timings(data.manifest.get("timings") or {}),
    )


def _policy(style: str, script: str) -> str:
    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")

    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(script)}'"
    )


def _rules_measured(manifest: Mapping[str, Any]) -> Mapping[str, float] | None:
    """How far the rules are to be trusted, where it was this version of them that judged."""
    judge = (manifest.get("scoring") or {}).get("refusal")
    return MEASURED if judge == {"name": SCORER, "version": SCORER_VERSION} else None


def _picture(path: Path) -> Picture:
    content = path.read_bytes()
    # Width and height stand at a fixed place in every PNG; with them the page does not jump.
    width, height = struct.unpack(">II", content[16:24])
    named = path.stem.replace("_", " ").capitalize()
    caption = CAPTIONS.get(path.stem, Caption(named, "", _OTHER))
    source = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return Picture(caption, width, height, source)


def _browser(scores: pd.DataFrame) -> dict[str, list[Example]]:
    """Prompts to browse per split, as many as the page has room for, evenly over the splits."""
    splits = ordered_splits(scores["split"])
    shown: dict[str, list[Example]] = {split: [] for split in splits}
    room = BROWSER_BYTES
    waiting: dict[str, Iterator[Example]] = {split: examples_of(scores, split) for split in splits}
    while waiting:
        for split in list(waiting):
            example = next(waiting[split], None)
            room -= 0 if example is None else _weight(example)
            if example is None or room < 0:
                del waiting[split]
            else:
                shown[split].append(example)
    return shown


def _weight(example: Example) -> int:
    """About how many bytes an example adds to the page, markup included."""
    texts = [example.prompt[:TEXT_LENGTH], example.prompt[:TEXT_LENGTH]]
    texts += [completion.text[:TEXT_LENGTH] for completion in example.steered]
    if example.baseline:
        texts.append(example.baseline.text[:TEXT_LENGTH])
    escaped = (len(str(Markup.escape(clean(text))).encode("utf-8")) for text in texts)
    return 400 + sum(escaped) + 200 * len(texts)


def _timings(timings: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(phase), f"{float(seconds):,.1f} s") for phase, seconds in timings.items()]


def _number(value: Any) -> str:
    """A manifest's value in a table's cell: numbers to three digits, a dash for none."""
    if value is None:
        return labels.DASH
    if isinstance(value, float):
        return labels.DASH if value != value else f"{value:.3g}"
    return str(value)
