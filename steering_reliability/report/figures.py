"""The drawings themselves: data frames in, matplotlib figures out.

This module knows nothing about run folders or files.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from steering_reliability.report.effects import gap
from steering_reliability.report.labels import (
    alpha_text,
    layer_name,
    ordered_interventions,
    ordered_splits,
    percent,
    percent_interval,
    points,
    records,
)
from steering_reliability.report.marks import (
    MUTED,
    OTHER_SPLIT,
    SPLIT_STYLE,
    alpha_axis,
    alpha_ticks,
    coherence_note,
    legend_below,
    marker_handle,
    new_figure,
    point,
    rows_at,
    split_handle,
)

_CONTROL_MARKERS = {"random": "x", "shuffled": "+", "reversed": "v"}
_PANEL_COLUMNS = 4


def refusal_by_alpha(summary: pd.DataFrame, controls: pd.DataFrame) -> Figure:
    """Refusal rate against alpha, a panel per layer and intervention, a line per split.

    Args:
        summary: ``summary.csv`` with ``is_coherent``.
        controls: one row per control cell: ``split, layer, intervention_type, alpha, direction,
            is_refusal_mean``; may be empty.
    """
    layers = sorted(summary["layer"].unique())
    interventions = ordered_interventions(summary["intervention_type"])
    splits = ordered_splits(summary["split"])
    columns = min(len(layers), _PANEL_COLUMNS)
    rows_each = math.ceil(len(layers) / columns)
    rows = rows_each * len(interventions)
    fig, heading = new_figure(
        max(5.4, 3.0 * columns),
        2.65 * rows,
        "Refusal rate against alpha",
        "Share of completions that refuse; bars are 95% intervals. Alpha 0 is the unsteered model.",
        coherence_note(summary, "Hollow"),
    )
    axes = fig.subplots(rows, columns, sharey=True, squeeze=False)
    for index, intervention in enumerate(interventions):
        block = axes[index * rows_each : (index + 1) * rows_each].ravel()
        for position, ax in enumerate(block):
            if position >= len(layers):
                ax.set_axis_off()
                continue
            layer = layers[position]
            here = rows_at(summary, layer, intervention)
            if here.empty:
                # A run of a part may hold a layer for one intervention only.
                ax.set_axis_off()
                continue
            _draw_lines(ax, here, splits)
            steered = rows_at(controls, layer, intervention)
            _draw_controls(ax, steered)
            ax.set_title(layer_name(layer, intervention))
            ax.set_xlabel(alpha_axis(intervention))
            alpha_ticks(ax, pd.concat([here["alpha"], steered["alpha"]]))
            ax.set_ylim(-0.03, 1.03)
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            ax.grid(axis="y")
    for ax in axes[:, 0]:
        ax.set_ylabel("refusal rate")
    handles = [split_handle(split) for split in splits]
    handles += _control_handles(controls)
    legend_below(fig, handles, heading)
    return fig


def rate_heatmap(summary: pd.DataFrame, column: str, what: str, split: str, colour: str) -> Figure:
    """Layer by alpha table of a rate on one split, coloured by value and annotated with it.

    Args:
        summary: rows of one split, with ``is_coherent``.
        column: ``is_refusal`` or ``is_helpful``; its mean and interval columns are shown.
        what: what the rate is called, e.g. ``"Refusal rate"``.
        colour: darkest colour of the scale, which always runs from 0% to 100%.
    """
    interventions = ordered_interventions(summary["intervention_type"])
    most = summary.groupby("intervention_type")["alpha"].nunique().max()
    layers = summary["layer"].nunique()
    roomy = layers <= 12
    height = 0.62 if roomy else 0.3
    fig, heading = new_figure(
        max(5.4, 1.0 + 0.88 * most),
        (height * layers + 0.85) * len(interventions),
        f"{what} on {split}, by layer and alpha",
        "Colour runs from 0% (white) to 100%.",
        "Small: 95% interval." if roomy else "",
        coherence_note(summary, "Hatched"),
    )
    axes = fig.subplots(len(interventions), 1, squeeze=False)[:, 0]
    scale = LinearSegmentedColormap.from_list("rate", ["#ffffff", colour])
    for ax, intervention in zip(axes, interventions, strict=True):
        _draw_heatmap(
            ax, summary[summary["intervention_type"] == intervention], column, scale, roomy
        )
        ax.set_title(intervention)
        ax.set_xlabel(alpha_axis(intervention))
        ax.set_ylabel("layer")
    legend_below(fig, [], heading)
    return fig


def generalization_gap(effects: pd.DataFrame) -> Figure:
    """Effect on harm_train beside effect on harm_test for every steered cell.

    Args:
        effects: ``split, layer, intervention_type, alpha, effect, effect_low, effect_high, n,
            is_coherent`` for the two splits, alpha = 0 left out; effects are paired differences
            of refusal rates to the same prompts unsteered.
    """
    keys = ["layer", "intervention_type", "alpha"]
    cells = effects[keys].drop_duplicates()
    interventions = ordered_interventions(cells["intervention_type"])
    order = cells["intervention_type"].map(interventions.index)
    cells = cells.assign(order=order).sort_values(["order", "layer", "alpha"])
    fig, heading = new_figure(
        7.0,
        0.42 * len(cells) + 0.75,
        "Generalisation gap: effect on harm_train beside harm_test",
        "Change of the refusal rate against the same prompts unsteered; bars are 95% intervals. "
        "On the right the gap, train less test, with its 95% interval.",
        coherence_note(effects, "Hollow"),
    )
    ax = fig.subplots()
    splits = ("harm_train", "harm_test")
    labels = []
    for row, cell in enumerate(records(cells)):
        layer, intervention = cell["layer"], cell["intervention_type"]
        labels.append(f"{layer_name(layer, intervention)}, alpha {alpha_text(cell['alpha'])}")
        here = rows_at(effects, layer, intervention)
        by_split = {one["split"]: one for one in records(here[here["alpha"] == cell["alpha"]])}
        for split, shift in zip(splits, (-0.14, 0.14), strict=True):
            colour, marker = SPLIT_STYLE[split]
            one = by_split[split]
            if not math.isnan(one["effect_low"]):
                ax.plot([one["effect_low"], one["effect_high"]], [row + shift] * 2, color=colour)
            point(ax, one["effect"], row + shift, colour, marker, bool(one["is_coherent"]))
        difference = gap(by_split["harm_train"], by_split["harm_test"])
        interval = f" [{points(difference.low)}, {points(difference.high)}]"
        ax.annotate(
            points(difference.value) + interval,
            (1.015, row),
            va="center",
            fontsize=9,
            xycoords=ax.get_yaxis_transform(),
        )
    ax.annotate(
        "gap", (1.015, 1.0), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points",
        color=MUTED, fontsize=8.5,
    )  # fmt: skip
    ax.axvline(0, color="#8c959f", lw=0.8, zorder=0)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.margins(x=0.06)
    ax.xaxis.set_major_formatter(lambda value, _: points(value))
    ax.set_xlabel("effect: change of refusal rate against alpha 0 (points)")
    ax.grid(axis="x")
    handles = [split_handle(split) for split in splits]
    legend_below(fig, handles, heading)
    return fig


def _draw_lines(ax: Axes, here: pd.DataFrame, splits: list[str]) -> None:
    reach = float(np.ptp(here["alpha"])) or 1.0
    for index, split in enumerate(splits):
        rows = here[here["split"] == split].sort_values("alpha")
        if rows.empty:
            continue
        colour, marker = SPLIT_STYLE.get(split, OTHER_SPLIT)
        # Side by side, so that intervals at one alpha do not hide one another.
        x = rows["alpha"] + (index - (len(splits) - 1) / 2) * 0.022 * reach
        y = rows["is_refusal_mean"]
        ax.vlines(x, rows["is_refusal_low"], rows["is_refusal_high"], color=colour, lw=1.1)
        ax.plot(x, y, color=colour, lw=1.4, alpha=0.8)
        for px, py, coherent in zip(x, y, rows["is_coherent"], strict=True):
            point(ax, px, py, colour, marker, bool(coherent), size=5)


def _control_kind(direction: str) -> str:
    return direction.split("-")[0]


def _draw_controls(ax: Axes, controls: pd.DataFrame) -> None:
    for direction, rows in controls.groupby("direction"):
        marker = _CONTROL_MARKERS.get(_control_kind(str(direction)), "1")
        ax.plot(
            rows["alpha"], rows["is_refusal_mean"], marker=marker, ls="", color="#6e7781", ms=5.5,
            mew=1.2, zorder=3, mfc="none",
        )  # fmt: skip


def _control_handles(controls: pd.DataFrame) -> list[Line2D]:
    handles = []
    for kind in dict.fromkeys(_control_kind(name) for name in controls["direction"]):
        where = ", ".join(ordered_splits(controls["split"]))
        marker = _CONTROL_MARKERS.get(kind, "1")
        label = f"{kind} direction on {where}"
        handles.append(marker_handle(label, "#6e7781", marker))
    return handles


def _draw_heatmap(
    ax: Axes, rows: pd.DataFrame, column: str, scale: LinearSegmentedColormap, roomy: bool
) -> None:
    layers, alphas = sorted(rows["layer"].unique()), sorted(rows["alpha"].unique())
    for row in records(rows):
        x, y = alphas.index(row["alpha"]), layers.index(row["layer"])
        value = row[f"{column}_mean"]
        fill = "#eaeef2" if math.isnan(value) else scale(value)
        ax.add_patch(Rectangle((x, y), 1, 1, facecolor=fill, edgecolor="white", lw=2))
        red, green, blue = to_rgb(fill)
        ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else "#1f2328"
        if not row["is_coherent"]:
            ax.add_patch(
                Rectangle((x, y), 1, 1, fill=False, hatch="////", edgecolor=ink, lw=0, alpha=0.35)
            )
        small = percent_interval(row[f"{column}_low"], row[f"{column}_high"]) if roomy else ""
        for text, size, rise in ((percent(value), 11, 6 if small else 0), (small, 7.5, -8)):
            ax.annotate(
                text, (x + 0.5, y + 0.5), xytext=(0, rise), textcoords="offset points",
                ha="center", va="center", color=ink, fontsize=size,
            )  # fmt: skip
    ax.set_xlim(0, len(alphas))
    ax.set_ylim(len(layers), 0)
    ax.set_xticks([i + 0.5 for i in range(len(alphas))], [alpha_text(a) for a in alphas])
    ax.set_yticks([i + 0.5 for i in range(len(layers))], [str(layer) for layer in layers])
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_edgecolor("#d8dee4")
        spine.set_visible(True)
