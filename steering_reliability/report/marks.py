"""What all drawings share: colours, headings, legends, marks.

Object-oriented matplotlib on the Agg canvas only: no pyplot, no global state. Colours are the
colour-blind safe set of Okabe and Ito (2008); a split keeps its colour and its marker in every
drawing, so colour never stands alone.
"""

from __future__ import annotations

import math
import textwrap
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from steering_reliability.report.labels import alpha_text

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": "#1f2328",
    "axes.labelcolor": "#1f2328",
    "axes.edgecolor": "#8c959f",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": "#59636e",
    "ytick.color": "#59636e",
    "xtick.labelcolor": "#1f2328",
    "ytick.labelcolor": "#1f2328",
    "grid.color": "#d8dee4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "hatch.linewidth": 0.5,
}
MUTED = "#59636e"
SPLIT_STYLE: dict[str, tuple[str, str]] = {
    "harm_train": ("#0072B2", "o"),
    "harm_test": ("#D55E00", "s"),
    "harm_confirm": ("#9A4D86", "D"),
    "benign": ("#009E73", "^"),
}
OTHER_SPLIT = ("#56748C", "P")
_DPI = 150


def new_figure(width: float, height: float, title: str, *notes: str) -> tuple[Figure, float]:
    """A figure of ``height`` inches below its heading, and the heading's height in inches."""
    wrapped = textwrap.wrap(" ".join(filter(None, notes)), int(width * 15.5))
    heading = 0.45 + 0.17 * len(wrapped)
    fig = Figure(figsize=(width, height + heading), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(fig)
    # Hung from the top in inches, for the figure still grows when the legend comes under it.
    top = fig.transFigure + ScaledTranslation(0.1, -0.1, fig.dpi_scale_trans)
    below = fig.transFigure + ScaledTranslation(0.1, -0.37, fig.dpi_scale_trans)
    fig.text(0, 1, title, va="top", transform=top, fontsize=12, fontweight="bold")
    fig.text(0, 1, "\n".join(wrapped), va="top", transform=below, fontsize=8.5, color=MUTED)
    return fig, heading


def legend_below(fig: Figure, handles: list[Line2D], heading: float) -> None:
    """Lay the axes out under the heading, and add the legend under the axes."""
    footer = 0.0
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        columns = max(1, min(len(handles), int(fig.get_figwidth() / (0.075 * longest + 0.5))))
        footer = 0.12 + 0.19 * math.ceil(len(handles) / columns)
        fig.set_figheight(fig.get_figheight() + footer)
        fig.legend(
            handles=handles, loc="lower left", ncols=columns, fontsize=8.5,
            bbox_to_anchor=(0.0, 0.0), borderaxespad=0.3, columnspacing=1.4, handletextpad=0.5,
        )  # fmt: skip
    inches = fig.get_figheight()
    rect = (0.005, footer / inches, 0.985, 1 - (heading + footer) / inches)
    fig.set_layout_engine("constrained", rect=rect)


def coherence_note(frame: pd.DataFrame, mark: str) -> str:
    """What a hollow or hatched cell means; empty if none is past the gate."""
    if frame["is_coherent"].all():
        return ""
    return f"{mark}: past the coherence gate, the text breaks much more often than unsteered."


def alpha_axis(intervention: str) -> str:
    if intervention == "ablate":
        return "alpha (1 removes, more reverses)"
    return "alpha (units)"


def alpha_ticks(ax: Axes, alphas: pd.Series[float]) -> None:
    values = sorted(set(alphas))
    reach = max(values) - min(values) or 1.0
    ax.set_xticks(values, [alpha_text(value) for value in values])
    ax.set_xlim(min(values) - 0.09 * reach, max(values) + 0.09 * reach)


def point(
    ax: Axes, x: float, y: float, colour: str, marker: str, is_coherent: bool, size: float = 6
) -> None:
    ax.plot(
        x, y, marker=marker, ms=size, color=colour, ls="", zorder=4, mew=1.3,
        mfc=colour if is_coherent else "white",
    )  # fmt: skip


def split_handle(split: str) -> Line2D:
    colour, marker = SPLIT_STYLE.get(split, OTHER_SPLIT)
    return Line2D([], [], color=colour, marker=marker, ms=5.5, lw=1.4, label=split)


def marker_handle(label: str, colour: str, marker: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, ls="", mew=1.2, label=label)


def rows_at(frame: pd.DataFrame, layer: int, intervention: str) -> pd.DataFrame:
    return frame[(frame["layer"] == layer) & (frame["intervention_type"] == intervention)]
