"""The drawing of effect against helpfulness: a panel per intervention, a path over alpha per layer.

Layers differ in lightness and marker, so that a grey print and colour-blind eyes tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

from steering_reliability.cells import Cell
from steering_reliability.report.labels import alpha_text, ordered_interventions, points, records
from steering_reliability.report.marks import (
    legend_below,
    marker_handle,
    new_figure,
    point,
    rows_at,
)

_LAYER_MARKERS = "os^Dvp<>hX"
_INK = "#1f2328"
_PROMPTING = "#CC3311"
_PANEL = 5.0
Places = list[tuple[float, float]]


def trade_off(
    cells: pd.DataFrame,
    prompting: Mapping[str, Any] | None = None,
    chosen: Collection[Cell] = (),
) -> Figure:
    """Effect on harmful prompts against helpfulness on benign ones.

    Cells within the coherence gate have their alpha and their intervals beside them.

    Args:
        cells: ``layer, intervention_type, alpha, effect, effect_low, effect_high, helpful,
            helpful_low, helpful_high, is_coherent``, the alpha = 0 rows included.
        prompting: the same numbers of a system prompt in place of steering; bounds may be NaN.
        chosen: cells to be ringed.
    """
    interventions = ordered_interventions(cells["intervention_type"])
    hollow = "" if cells["is_coherent"].all() else "Hollow: past the coherence gate, no bars."
    fig, heading = new_figure(
        max(7.0, _PANEL * len(interventions)),
        4.4,
        "Trade-off: effect on harm_test against helpfulness on benign",
        "Each point is a cell; numbers beside points are alphas, lines join the alphas of a layer "
        "from the unsteered model on, bars are 95% intervals.",
        hollow,
    )
    axes = fig.subplots(1, len(interventions), sharex=True, sharey=True, squeeze=False)[0]
    layers = sorted(cells["layer"].unique())
    # An ordered scale, for layers are ordered, and none of the colours that mean a split.
    shades = [to_hex(c) for c in matplotlib.colormaps["cividis"](np.linspace(0, 0.68, len(layers)))]
    marks = {
        layer: (shades[i], _LAYER_MARKERS[i % len(_LAYER_MARKERS)])
        for i, layer in enumerate(layers)
    }
    labelled: list[tuple[Axes, pd.DataFrame, Places]] = []
    for ax, intervention in zip(axes, interventions, strict=True):
        places = _draw_references(ax, cells, prompting)
        for layer in layers:
            path = rows_at(cells, layer, intervention).sort_values("alpha")
            places += _draw_path(ax, path, *marks[layer])
        here = cells[(cells["intervention_type"] == intervention) & (cells["alpha"] != 0)]
        _ring(ax, here, chosen)
        labelled.append((ax, here[here["is_coherent"]], places))
        _dress(ax, intervention)
    axes[0].set_ylabel("effect on harm_test (points)")
    legend_below(fig, _handles(cells, marks, prompting is not None, chosen), heading)
    fig.draw_without_rendering()
    for ax, here, places in labelled:
        _label_points(fig, ax, here, places)
    return fig


def _draw_references(ax: Axes, cells: pd.DataFrame, prompting: Mapping[str, Any] | None) -> Places:
    """The unsteered model and the system prompt, in every panel; where they stand."""
    places: Places = []
    for row in records(cells[cells["alpha"] == 0])[:1]:
        _draw_cross(ax, row, _INK)
        ax.plot(row["helpful"], 0, marker="*", ms=13, color=_INK, ls="", zorder=5)
        places.append((row["helpful"], 0.0))
    if prompting is not None:
        place = (prompting["helpful"], prompting["effect"])
        _draw_cross(ax, prompting, _PROMPTING)
        ax.plot(*place, marker="P", ms=10, color=_PROMPTING, ls="", zorder=5)
        places.append(place)
    return places


def _draw_path(ax: Axes, path: pd.DataFrame, colour: str, marker: str) -> Places:
    ax.plot(path["helpful"], path["effect"], color=colour, lw=1, alpha=0.55)
    places: Places = []
    for row in records(path[path["alpha"] != 0]):
        within = bool(row["is_coherent"])
        if within:
            _draw_cross(ax, row, colour)
        point(ax, row["helpful"], row["effect"], colour, marker, within, size=7 if within else 5)
        places.append((row["helpful"], row["effect"]))
    return places


def _draw_cross(ax: Axes, row: Mapping[str, Any], colour: str) -> None:
    faint: dict[str, Any] = {"color": colour, "lw": 1.0, "alpha": 0.45}
    if not math.isnan(row["effect_low"]):
        ax.plot([row["helpful"]] * 2, [row["effect_low"], row["effect_high"]], **faint)
    if not math.isnan(row["helpful_low"]):
        ax.plot([row["helpful_low"], row["helpful_high"]], [row["effect"]] * 2, **faint)


def _ring(ax: Axes, here: pd.DataFrame, chosen: Collection[Cell]) -> None:
    for row in records(here):
        if Cell(int(row["layer"]), row["intervention_type"], row["alpha"]) in chosen:
            ax.plot(
                row["helpful"], row["effect"], marker="o", ms=15, mfc="none", mec=_INK, mew=1.6,
                ls="", zorder=5,
            )  # fmt: skip


def _dress(ax: Axes, intervention: str) -> None:
    ax.set_title(intervention)
    ax.axhline(0, color="#8c959f", lw=0.8, zorder=0)
    ax.grid()
    ax.margins(0.1)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.yaxis.set_major_formatter(lambda value, _: points(value))
    ax.set_xlabel("helpfulness rate on benign")


def _handles(
    cells: pd.DataFrame,
    marks: Mapping[int, tuple[str, str]],
    prompted: bool,
    chosen: Collection[Cell],
) -> list[Line2D]:
    handles = [marker_handle(f"layer {layer}", *mark) for layer, mark in marks.items()]
    if (cells["alpha"] == 0).any():
        handles.append(marker_handle("unsteered model", _INK, "*"))
    if prompted:
        handles.append(marker_handle("system prompt in place of steering", _PROMPTING, "P"))
    shown = {Cell(int(r["layer"]), r["intervention_type"], r["alpha"]) for r in records(cells)}
    if shown & set(chosen):
        ring = marker_handle("chosen cell", _INK, "o")
        ring.set(markerfacecolor="none", markersize=9, markeredgewidth=1.6)
        handles.append(ring)
    return handles


def _label_points(fig: Figure, ax: Axes, cells: pd.DataFrame, taken: Places) -> None:
    """Write each point's alpha where fewest points and labels are in the way, with a leader."""
    unit = fig.dpi / 72
    # Half a label's width and height, and offsets beside the bars, in points.
    half_width, half_height = 6.0, 5.5
    offsets = [
        (reach * math.cos(turn), reach * math.sin(turn))
        for reach in (13, 19, 26)
        for turn in np.arange(0.125, 2, 0.25) * math.pi
    ]
    obstacles = [tuple(ax.transData.transform(place)) for place in taken]

    def crowding(x: float, y: float) -> float:
        return sum(
            max(0.0, 2 - abs(x - ox) / (half_width * unit))
            * max(0.0, 2 - abs(y - oy) / (half_height * unit))
            for ox, oy in obstacles
        )

    for row in records(cells):
        place = (row["helpful"], row["effect"])
        x, y = ax.transData.transform(place)
        # A little for the distance, so that the nearest of the free spots is taken.
        spots = [
            (crowding(x + dx * unit, y + dy * unit) + 0.01 * math.hypot(dx, dy), dx, dy)
            for dx, dy in offsets
        ]
        _, dx, dy = min(spots)
        ax.annotate(
            alpha_text(row["alpha"]), place, xytext=(dx, dy), textcoords="offset points",
            ha="center", va="center", fontsize=9, zorder=6,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": _INK, "lw": 0.6, "shrinkA": 0, "shrinkB": 4},
        )  # fmt: skip
        obstacles.append((x + dx * unit, y + dy * unit))
