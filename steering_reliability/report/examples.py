"""Completions to read: which prompts are shown, and ``examples.md``.

A rate says how often, a completion says what. The choice is fixed by the order of the prompts
and by what flipped, never by what looks good.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from steering_reliability.cells import Cell, Intervention
from steering_reliability.report.labels import (
    clean,
    coherence_settings,
    ordered_interventions,
    ordered_splits,
    records,
    with_coherence,
)
from steering_reliability.report.setup import setup_facts
from steering_reliability.results.atomic import write_text
from steering_reliability.results.summary import grid_rows

if TYPE_CHECKING:
    from steering_reliability.results.run import RunData

FIRST_PROMPTS = 3
FLIPPED_PROMPTS = 5
_MARKDOWN = re.compile(r"([\\`*_\[\]<>&|~$#])")


@dataclass(frozen=True)
class Shown:
    """One completion as it is shown.

    Attributes:
        cell: the cell that it was generated in.
        text: what the model wrote.
        score: ``"refusal"``, ``"helpful"``, ``"degenerate"`` or ``"neither"``.
        flipped: whether it refuses where the unsteered model does not, or the other way round.
    """

    cell: Cell
    text: str
    score: str
    flipped: bool = False


@dataclass(frozen=True)
class Example:
    """One prompt with what the unsteered and the steered model made of it.

    Attributes:
        baseline: None if the run holds no unsteered completion of the prompt.
        steered: in the order of the grid, alpha = 0 left out.
    """

    prompt_id: str
    split: str
    prompt: str
    category: str
    style: str
    baseline: Shown | None
    steered: tuple[Shown, ...]

    @property
    def flipped(self) -> bool:
        """Whether any steered completion shown differs from the baseline in refusal."""
        return any(shown.flipped for shown in self.steered)


def examples_of(scores: pd.DataFrame, split: str) -> Iterator[Example]:
    """Every prompt of a split, in the order of the frame; of several samples the first.

    Args:
        scores: the scores frame; controls and other conditions in it are left out.
    """
    rows = grid_rows(scores)
    rows = rows[rows["split"] == split]
    rows = rows.sort_values("sample", kind="stable").drop_duplicates(
        ["prompt_id", "layer", "intervention", "alpha"]
    )
    rank = rows["intervention"].map(ordered_interventions(rows["intervention"]).index)
    rows = rows.assign(rank=rank).sort_values(["layer", "rank", "alpha"], kind="stable")
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in records(rows):
        by_prompt.setdefault(str(row["prompt_id"]), []).append(row)
    in_order = grid_rows(scores).loc[lambda frame: frame["split"] == split, "prompt_id"]
    for prompt_id in in_order.drop_duplicates():
        yield _example(by_prompt[str(prompt_id)])


def sample(examples: Sequence[Example]) -> list[Example]:
    """The first prompts, then the first of the others whose refusal flipped, in their order."""
    first = list(examples[:FIRST_PROMPTS])
    flipped = [example for example in examples[FIRST_PROMPTS:] if example.flipped]
    return first + flipped[:FLIPPED_PROMPTS]


def only(example: Example, cells: Collection[Cell]) -> Example:
    """The example with the steered completions of these cells alone."""
    return replace(example, steered=tuple(s for s in example.steered if s.cell in cells))


def cells_to_show(summary: pd.DataFrame) -> list[Cell]:
    """One steered cell per layer and intervention: the greatest alpha that is coherent.

    Where no alpha is, the smallest one.

    Args:
        summary: ``summary.csv`` with ``is_coherent``.
    """
    steered = summary[summary["alpha"] != 0]
    cells = []
    for intervention in ordered_interventions(steered["intervention_type"]):
        rows = steered[steered["intervention_type"] == intervention]
        for layer in sorted(set(rows["layer"])):
            here = rows[rows["layer"] == layer]
            coherent = here.groupby("alpha")["is_coherent"].all()
            usable = coherent.index[coherent]
            alpha = usable.max() if len(usable) else coherent.index.min()
            cells.append(Cell(int(layer), cast(Intervention, intervention), float(alpha)))
    return cells


def write_examples(data: RunData) -> Path:
    """Write ``examples.md``: unsteered and steered completions of a fixed sample, side by side.

    Per split the first prompts of the order and the first whose refusal flipped; per layer and
    intervention one cell, see `cells_to_show`.

    Raises:
        SteeringError: the folder cannot be written.
    """
    path = data.folder / "examples.md"
    write_text(path, examples_markdown(data))
    return path


def examples_markdown(data: RunData) -> str:
    """The text of ``examples.md``; what the model wrote is escaped and cannot mark up."""
    cells = cells_to_show(with_coherence(data.summary, coherence_settings(data.manifest)))
    level = escape_markdown(str(data.manifest.get("level", data.folder.name)))
    lines = [
        f"# Examples: {level}",
        "",
        f"The first {FIRST_PROMPTS} prompts of each split and up to {FLIPPED_PROMPTS} more whose "
        "refusal flipped, in their order. Per layer and intervention the greatest alpha within the "
        "coherence gate is shown. All completions are in `completions.parquet`.",
        "",
        *(
            f"- {fact.label}: {escape_markdown(fact.whole or fact.value)}"
            for fact in setup_facts(data)
        ),
    ]
    for split in ordered_splits(data.scores["split"]):
        examples = [only(example, cells) for example in examples_of(data.scores, split)]
        lines += ["", f"## {escape_markdown(split)}"]
        for example in sample(examples):
            lines += _example_lines(example)
    return "\n".join(lines) + "\n"


def escape_markdown(text: str) -> str:
    """Text as one line of Markdown, fit for a table's cell: no markup, no HTML, no links."""
    text = _MARKDOWN.sub(r"\\\1", clean(text).strip())
    text = text.replace("://", ":\\//").replace("www.", "www\\.")
    return "<br>".join(line.strip() for line in text.split("\n"))


def _example_lines(example: Example) -> list[str]:
    about = " · ".join(filter(None, (example.category, example.style)))
    lines = [
        "",
        f"### {escape_markdown(example.prompt_id)}"
        + (f" ({escape_markdown(about)})" * bool(about)),
        "",
        f"> {escape_markdown(example.prompt)}",
    ]
    for intervention in dict.fromkeys(shown.cell.intervention for shown in example.steered):
        group = [shown for shown in example.steered if shown.cell.intervention == intervention]
        columns = [*([example.baseline] if example.baseline else []), *group]
        heads = ["unsteered" if shown is example.baseline else shown.cell.id for shown in columns]
        lines += [
            "",
            "| " + " | ".join(heads) + " |",
            "|" + " --- |" * len(columns),
            "| " + " | ".join(_score_text(shown) for shown in columns) + " |",
            "| " + " | ".join(escape_markdown(shown.text) or "*empty*" for shown in columns) + " |",
        ]
    return lines


def _score_text(shown: Shown) -> str:
    return f"**{shown.score}**" + (", flipped" if shown.flipped else "")


def _example(rows: list[dict[str, Any]]) -> Example:
    first = rows[0]
    unsteered = next((row for row in rows if row["alpha"] == 0), None)
    steered = [row for row in rows if row["alpha"] != 0]
    return Example(
        prompt_id=str(first["prompt_id"]),
        split=str(first["split"]),
        prompt=str(first["prompt"]),
        category=_optional(first["category"]),
        style=_optional(first["style"]),
        baseline=None if unsteered is None else _shown(unsteered, None),
        steered=tuple(_shown(row, unsteered) for row in steered),
    )


def _optional(value: object) -> str:
    return value if isinstance(value, str) else ""


def _shown(row: dict[str, Any], unsteered: dict[str, Any] | None) -> Shown:
    if row["is_degenerate"]:
        score = "degenerate"
    elif row["is_refusal"]:
        score = "refusal"
    else:
        score = "helpful" if row["is_helpful"] else "neither"
    flipped = unsteered is not None and bool(row["is_refusal"]) != bool(unsteered["is_refusal"])
    cell = Cell(row["layer"], row["intervention"], row["alpha"])
    return Shown(cell, str(row["text"]), score, flipped)
