"""Which plots a run gets, what they say, and how they are written.

Import this module only when plots are wanted: it brings matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import matplotlib
from matplotlib.figure import Figure

from steering_reliability.cells import LEARNED, Cell
from steering_reliability.report import figures
from steering_reliability.report.effects import gap_effects, prompting_point, trade_off_cells
from steering_reliability.report.labels import coherence_settings, with_coherence
from steering_reliability.report.marks import STYLE
from steering_reliability.report.trade_off import trade_off
from steering_reliability.results.atomic import write_together

if TYPE_CHECKING:
    from steering_reliability.results.run import RunData


def write_plots(data: RunData, folder: Path) -> list[Path]:
    """Draw every plot that the run's data allow, as PNG files in ``folder``.

    The same data give the same bytes with the same matplotlib, whatever the user's style
    settings. A plot whose split or steered cells are missing is left out.

    Args:
        data: a run with its scores frame and its summary.
        folder: created if missing.

    Returns:
        Paths in the order in which a report shows them.

    Raises:
        SteeringError: the folder cannot be written.
    """
    files: dict[Path, bytes | None] = {}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, STYLE))
        for name, figure in _draw(data):
            files[folder / f"{name}.png"] = _png(figure)
    write_together(files)
    return list(files)


def _draw(data: RunData) -> Iterator[tuple[str, Figure]]:
    if data.summary.empty:
        return
    summary = with_coherence(data.summary, coherence_settings(data.manifest))
    controls = data.controls
    controls = controls[controls["direction"] != LEARNED]
    yield "refusal_by_alpha", figures.refusal_by_alpha(summary, controls)
    heatmaps = (
        ("heatmap_refusal_harm_test", "harm_test", "is_refusal", "Refusal rate", "#A63603"),
        ("heatmap_helpfulness_benign", "benign", "is_helpful", "Helpfulness rate", "#00573F"),
    )
    for name, split, column, what, colour in heatmaps:
        rows = summary[summary["split"] == split]
        if len(rows):
            yield name, figures.rate_heatmap(rows, column, what, split, colour)
    if not (summary["alpha"] != 0).any():
        return
    cells = trade_off_cells(data.scores, summary)
    if len(cells):
        yield (
            "trade_off",
            trade_off(cells, prompting_point(data.manifest, data.controls), _chosen(data)),
        )
    effects = gap_effects(data.scores, summary)
    if len(effects):
        yield "generalization_gap", figures.generalization_gap(effects)


def _chosen(data: RunData) -> set[Cell]:
    """What the level chose, or confirms of what an earlier one chose."""
    decisions, manifest = data.decisions or {}, data.manifest
    decided = [decisions.get("layer"), *(decisions.get("operating_points") or {}).values()]
    found = [one["chosen"] for one in decided if one and one["chosen"]]
    found += manifest.get("confirmations") or []
    return {Cell(point["layer"], point["intervention"], point["alpha"]) for point in found}


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    # matplotlib's own name and version would otherwise be in the file.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
