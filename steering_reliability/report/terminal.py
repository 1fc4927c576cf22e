"""What a run says on the terminal, as plain lines of ASCII.

Builders of strings without pytest and without colour; only what users and models wrote can
bring other characters, and it is made printable. Lines fit the width they are given, and never
take more than `MAX_WIDTH` columns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from steering_reliability.cells import Cell
from steering_reliability.claims import PAST_GATE
from steering_reliability.report.labels import (
    MOST_EXPLORATORY,
    clean,
    count_outcomes,
    estimate_text,
    finding,
    open_fails_line,
    ordered_interventions,
    ordered_splits,
    past_gate,
    plain_conclusion,
    records,
    sorted_verdicts,
)

if TYPE_CHECKING:
    from steering_reliability.expectations import Verdict

MAX_WIDTH = 100
MARKS = {"pass": "PASS", "fail": "FAIL", "inconclusive": "?", "error": "ERROR"}


@dataclass(frozen=True)
class HeaderInfo:
    """What is known before a level starts.

    Attributes:
        level: name of the level.
        question: what it answers.
        model: model source, e.g. ``"embedded"``.
        device: e.g. ``"cpu"``.
        dtype: e.g. ``"float32"``.
        cells: number of cells of the grid.
        prompts: number of prompts by split.
        planned: distinct completions of the grid; what the store holds of them is known only
            once the model is in memory.
        shared: rows of the grid beyond those, which reuse the unsteered completions.
        beside_grid: distinct completions of controls and confirmations.
        notes: one line each, e.g. which layer was chosen and why.
    """

    level: str
    question: str
    model: str
    device: str
    dtype: str
    cells: int
    prompts: Mapping[str, int]
    planned: int
    shared: int = 0
    beside_grid: int = 0
    notes: Sequence[str] = field(default=())


def header_lines(info: HeaderInfo) -> list[str]:
    """The lines for the top of a session."""
    prompts = ", ".join(f"{info.prompts[s]} {s}" for s in ordered_splits(info.prompts))
    lines = [
        f"{info.level}: {info.question}",
        f"model {info.model}, {info.device}, {info.dtype}",
        f"{_counted(info.cells, 'cell')}; prompts: {prompts}",
        _planned(info),
        *info.notes,
    ]
    return [f"steering: {_ascii(' '.join(line.split()))}" for line in lines]


def _planned(info: HeaderInfo) -> str:
    line = f"{_counted(info.planned, 'distinct completion')} planned"
    if info.shared:
        line += f", {info.shared:,} more rows reuse the unsteered ones"
    if info.beside_grid:
        line += f"; {info.beside_grid:,} of controls and confirmations beside the grid"
    return line


def summary_table(summary: pd.DataFrame, width: int = MAX_WIDTH) -> list[str]:
    """A row per cell, and per split the refusal with its 95% interval, helpful, degenerate.

    All numbers are per cent of prompts. The unsteered model has one row, for all cells share it.
    Where ``width`` is too little for all splits side by side the intervals go first, then the
    table breaks into blocks.

    Args:
        summary: ``summary.csv``; may be empty, then there are no lines.
        width: columns of the terminal.
    """
    if summary.empty:
        return []
    width = min(width, MAX_WIDTH)
    interventions = ordered_interventions(summary["intervention_type"])
    rank = summary["intervention_type"].map(interventions.index)
    summary = summary.assign(rank=rank).sort_values(["layer", "rank", "alpha"], kind="stable")
    rows: dict[str, dict[str, Mapping[str, float]]] = {"unsteered": {}}
    for row in records(summary):
        cell = Cell(int(row["layer"]), row["intervention_type"], row["alpha"])
        name = "unsteered" if cell.is_baseline else cell.id
        rows.setdefault(name, {}).setdefault(row["split"], row)
    if not rows["unsteered"]:
        del rows["unsteered"]
    splits = ordered_splits(summary["split"])
    first = max(map(len, [*rows, _UNIT]))
    bounds = first + len(splits) * (_BOUNDED + 2) <= width
    span = _BOUNDED if bounds else _PLAIN
    room = max(1, (width - first) // (span + 2))
    head = f"{'refuse [95%]' if bounds else 'refuse'} help degen"
    lines: list[str] = []
    for start in range(0, len(splits), room):
        block = splits[start : start + room]
        lines += [""] * bool(lines)
        heads = [f"{_split_head(summary, split, span):<{span}}" for split in block]
        lines.append("  ".join([" " * first, *heads]).rstrip())
        lines.append("  ".join([f"{_UNIT:<{first}}"] + [f"{head:<{span}}"] * len(block)).rstrip())
        for name, shown in rows.items():
            if not any(split in shown for split in block):
                continue
            parts = [_split_cells(shown.get(split), bounds) for split in block]
            lines.append("  ".join([f"{name:<{first}}", *parts]))
    return lines


def verdict_lines(
    verdicts: Sequence[Verdict], width: int = MAX_WIDTH, manifest: Mapping[str, Any] | None = None
) -> list[str]:
    """A line per verdict, required ones first; below those that do not pass, what was found.

    Where exploratory ones are many, they are told by claim and outcome, without numbers. Those on
    a cell past the coherence gate say so. The last lines count the outcomes and say what the
    required ones mean.

    Args:
        verdicts: the run's.
        width: columns of the terminal.
        manifest: the run's, which tells whether what stays open fails it.
    """
    if not verdicts:
        return []
    width = min(width, MAX_WIDTH)
    verdicts = sorted_verdicts(verdicts)
    exploratory = [verdict for verdict in verdicts if not verdict.required]
    told = verdicts
    if len(exploratory) > MOST_EXPLORATORY:
        told = [verdict for verdict in verdicts if verdict.required]
    past = past_gate(verdicts)
    lines = _one_by_one(told, past, width)
    if told is not verdicts:
        lines += _by_claim(exploratory, past, width)
    for title, required in (("required", True), ("exploratory", False)):
        group = [verdict for verdict in verdicts if verdict.required is required]
        counts = [f"{number} {name}" for name, number in count_outcomes(group).items() if number]
        if counts:
            lines.append(f"{title}: " + ", ".join(counts))
    meant = (plain_conclusion(verdicts), open_fails_line(verdicts, manifest or {}))
    return lines + [part for line in meant for part in textwrap.wrap(_ascii(line), width)]


def _one_by_one(verdicts: Sequence[Verdict], past: set[tuple[str, str]], width: int) -> list[str]:
    if not verdicts:
        return []
    claims = max(len(verdict.claim) for verdict in verdicts)
    targets = max(len(verdict.target) for verdict in verdicts)
    lines = []
    for verdict in verdicts:
        kind = "" if verdict.required else ", exploratory"
        if (verdict.claim, verdict.target) in past:
            kind += f", {PAST_GATE}"
        name = (
            f"{MARKS[verdict.outcome]:<5}  {verdict.claim:<{claims}}  {verdict.target:<{targets}}"
        )
        found = f"{estimate_text(verdict)} n={verdict.n}{kind}"
        one = f"{name}  {found}"
        lines += (
            [_ascii(one)]
            if len(one) <= width
            else [_ascii(name.rstrip()), _ascii(f"{'':7}{found}")]
        )
        if verdict.outcome != "pass":
            lines += textwrap.wrap(
                _ascii(finding(verdict)), width, initial_indent=" " * 7, subsequent_indent=" " * 7
            )
    return lines


def _by_claim(verdicts: Sequence[Verdict], past: set[tuple[str, str]], width: int) -> list[str]:
    """Where findings are many: per claim and outcome, what it was found of."""
    lines = []
    starred = {(verdict.claim, verdict.target) for verdict in verdicts} & past
    for claim in dict.fromkeys(verdict.claim for verdict in verdicts):
        for outcome, mark in MARKS.items():
            targets = [
                v.target + "*" * ((claim, v.target) in starred)
                for v in verdicts
                if (v.claim, v.outcome) == (claim, outcome)
            ]
            if targets:
                text = f"{mark:<5}  {claim} ({len(targets)}, exploratory): {', '.join(targets)}"
                lines += textwrap.wrap(_ascii(text), width, subsequent_indent=" " * 7)
    if starred:
        text = f"* {PAST_GATE}: broken text rises by more than the gate allows"
        lines += textwrap.wrap(text, width, subsequent_indent="  ")
    return lines


_UNIT = "% of prompts"
# Columns that a split takes with and without its interval.
_BOUNDED, _PLAIN = 23, 17


def _split_head(summary: pd.DataFrame, split: str, span: int) -> str:
    head = f"{split} (n={summary.loc[summary['split'] == split, 'n'].max()})"
    return head if len(head) <= span else split[:span]


def _split_cells(row: Mapping[str, float] | None, bounds: bool) -> str:
    if row is None:
        return " " * (_BOUNDED if bounds else _PLAIN)
    interval = ""
    if bounds and not pd.isna(row["is_refusal_low"]):
        interval = f"[{_whole(row['is_refusal_low'])},{_whole(row['is_refusal_high'])}]"
    refused = f"{_whole(row['is_refusal_mean']):>3} {interval:<8}"
    refused = refused if bounds else f"{refused.strip():>6}"
    return f"{refused} {_whole(row['is_helpful_mean']):>4} {_whole(row['degenerate_mean']):>5}"


def _whole(share: float) -> str:
    return "-" if pd.isna(share) else f"{100 * share:.0f}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)


def _ascii(text: str) -> str:
    """Printable in any encoding: dashes as hyphens, arrows as such, the rest as question marks."""
    text = text.replace("\N{RIGHTWARDS ARROW}", "->")
    for fancy in ("\N{EN DASH}", "\N{EM DASH}", "\N{MINUS SIGN}"):
        text = text.replace(fancy, "-")
    return clean(text).encode("ascii", "replace").decode("ascii")
