"""What people paste into a notebook after a run works as it stands, on the file that runs write.

The snippets are kept as text and run as a notebook would: in the folder that holds ``artifacts/``,
with nothing but what their own lines import.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from steering_reliability.results.atomic import write_csv
from steering_reliability.results.summary import SCORE_COLUMNS, summarize

LAYERS, KINDS, ALPHAS = (8, 12, 16), ("add", "ablate"), (0.0, 4 / 3, 2.0, 4.0)
SPLITS = ("harm_train", "harm_test", "benign")
PROMPTS = 20
# Refusals of 20 prompts on harm_test that adding alpha 4 leads to; layer 12 is the best.
AT_ALPHA_4 = {8: 6, 12: 14, 16: 10}

READ = """\
import pandas as pd
df = pd.read_csv("artifacts/tables/summary.csv")
"""
HEADLESS = """\
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
"""
BEST_LAYER = [
    """\
harm = df[(df["split"] == "harm_test") & (df["alpha"] == 4)]
best_layer = harm.loc[harm["is_refusal_mean"].idxmax(), "layer"]
""",
    """\
best_layer = (
    df[(df.split == "harm_test") & (df.alpha == 4)]
    .sort_values("is_refusal_mean", ascending=False)
    .iloc[0]["layer"]
)
""",
    """\
best_layer = (
    df.query("split == 'harm_test' and alpha == 4.0")
    .groupby("layer")["is_refusal_mean"].mean()
    .idxmax()
)
""",
    """\
harm = df.query("split == 'harm_test' & alpha == 4")
best_layer = harm.nlargest(1, "is_refusal_mean").layer.item()
""",
]
TRADE_OFF = """\
harm = df[df["split"] == "harm_test"]
benign = df[df["split"] == "benign"]
cell = ["layer", "alpha", "intervention_type"]
merged = harm.merge(benign, on=cell, suffixes=("_harm", "_benign"))
"""


def refusals(split: str, layer: int, kind: str, alpha: float) -> int:
    """How many of the prompts refuse: 3 unsteered, fewer on benign, fewer when ablated."""
    rise = (AT_ALPHA_4[layer] - 3) * alpha / 4
    if kind == "ablate":
        rise = -rise / 8
    return round(1 + rise / 4) if split == "benign" else round(3 + rise)


def scores() -> pd.DataFrame:
    rows = []
    for split, layer, kind, alpha, place in itertools.product(
        SPLITS, LAYERS, KINDS, ALPHAS, range(PROMPTS)
    ):
        refused = place < refusals(split, layer, kind, alpha)
        values: dict[str, Any] = dict.fromkeys(SCORE_COLUMNS, 0.5)
        values |= {"prompt_id": f"{split}-{place}", "split": split, "layer": layer}
        values |= {"intervention": kind, "alpha": alpha, "sample": 0, "seen": False}
        values |= {"direction": "learned", "condition": "default", "char_length": 90 + place}
        values |= {"is_refusal": refused, "is_helpful": not refused, "is_degenerate": False}
        rows.append(values)
        if (split, kind, alpha) == ("harm_test", "add", 2.0):
            # Controls are no rows of summary.csv, or the snippets would count them as cells.
            rows.append(values | {"direction": "random-1", "is_refusal": True})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    write_csv(folder / "artifacts" / "tables" / "summary.csv", summarize(scores()))
    return folder


@pytest.fixture
def paste(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., dict[str, Any]]]:
    """Runs snippets one after another in a fresh namespace and gives it back."""
    monkeypatch.chdir(artifacts)
    monkeypatch.setenv("MPLBACKEND", "Agg")

    def run(*snippets: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        for snippet in snippets:
            exec(snippet, names)
        return names

    yield run
    import matplotlib.pyplot as plt

    plt.close("all")


def test_table_has_one_row_per_cell_and_split(paste: Callable[..., dict[str, Any]]) -> None:
    df = paste(READ)["df"]
    cell = ["split", "layer", "alpha", "intervention_type"]
    assert list(df.columns[:4]) == cell
    assert len(df) == len(df.drop_duplicates(cell)) == 3 * 3 * 2 * 4
    assert df["is_refusal_mean"].dtype == df["alpha"].dtype == np.float64
    assert df["layer"].dtype == np.int64


@pytest.mark.parametrize("snippet", BEST_LAYER)
def test_best_layer_at_alpha_4(paste: Callable[..., dict[str, Any]], snippet: str) -> None:
    assert paste(READ, snippet)["best_layer"] == 12


def test_greatest_refusal_by_layer(paste: Callable[..., dict[str, Any]]) -> None:
    best = paste(READ, "best = df.groupby('layer')['is_refusal_mean'].max()")["best"]
    assert best.to_dict() == {layer: count / 20 for layer, count in AT_ALPHA_4.items()}
    harm = "best = df[df.split == 'harm_test'].groupby('layer')['is_refusal_mean'].max()"
    assert paste(READ, harm)["best"].idxmax() == 12


def test_refusal_by_alpha_is_drawn(paste: Callable[..., dict[str, Any]]) -> None:
    names = paste(READ, HEADLESS, "curves = df.groupby('alpha')['is_refusal_mean'].plot()")
    assert list(names["curves"].index) == sorted(ALPHAS)
    (axes,) = names["plt"].gcf().axes
    df = names["df"]
    assert len(axes.lines) == len(ALPHAS)
    for alpha, line in zip(sorted(ALPHAS), axes.lines, strict=True):
        drawn = np.asarray(line.get_ydata())
        assert drawn.tolist() == df.loc[df["alpha"] == alpha, "is_refusal_mean"].tolist()


def test_mean_refusal_by_alpha_is_drawn(paste: Callable[..., dict[str, Any]]) -> None:
    snippet = """\
add = df[(df.split == "harm_test") & (df.intervention_type == "add")]
axes = add.groupby("alpha")["is_refusal_mean"].mean().plot(marker="o")
"""
    (line,) = paste(READ, HEADLESS, snippet)["axes"].lines
    assert line.get_xdata().tolist() == sorted(ALPHAS)
    assert (np.diff(line.get_ydata()) > 0).all()


def test_trade_off_has_one_row_per_cell(paste: Callable[..., dict[str, Any]]) -> None:
    merged = paste(READ, TRADE_OFF)["merged"]
    cell = ["layer", "alpha", "intervention_type"]
    assert len(merged) == len(merged.drop_duplicates(cell)) == 3 * 2 * 4
    assert not merged[["is_refusal_mean_harm", "is_helpful_mean_benign"]].isna().any(axis=None)
    best = merged.set_index(cell).loc[(12, 4.0, "add")]
    assert best["is_refusal_mean_harm"] == 14 / 20
    assert best["is_refusal_mean_benign"] == refusals("benign", 12, "add", 4) / 20


@pytest.mark.parametrize(
    "snippet",
    [
        "axes = merged.plot.scatter(x='is_refusal_mean_harm', y='is_helpful_mean_benign')",
        "axes = merged.plot.scatter("
        "x='is_refusal_mean_harm', y='is_refusal_mean_benign', c='alpha', colormap='viridis')",
        "plt.scatter(merged['is_refusal_mean_harm'], merged['is_helpful_mean_benign']);"
        " axes = plt.gca()",
    ],
)
def test_trade_off_is_drawn(paste: Callable[..., dict[str, Any]], snippet: str) -> None:
    axes = paste(READ, HEADLESS, TRADE_OFF, snippet)["axes"]
    (points,) = axes.collections
    assert len(points.get_offsets()) == 3 * 2 * 4


def test_the_readme_shows_what_works(paste: Callable[..., dict[str, Any]]) -> None:
    readme = Path(__file__).parents[2] / "README.md"
    blocks = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    snippets = [block for block in blocks if "tables/summary.csv" in block]
    assert snippets
    for snippet in snippets:
        *lines, shown = snippet.rstrip().splitlines()
        names = paste("\n".join(lines), f"shown = {shown}")
        assert len(names["shown"]) == len(ALPHAS)


def test_the_readme_s_workflow_runs_a_level_and_keeps_what_it_stored() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(# \.github.*?)```", readme, re.DOTALL)
    (job,) = yaml.safe_load(block)["jobs"].values()
    steps = {step.get("uses", step.get("run", "")): step for step in job["steps"]}
    assert any(command.startswith("pytest experiments -m smoke") for command in steps)
    restored, saved = steps["actions/cache/restore@v4"], steps["actions/cache/save@v4"]
    assert restored["with"]["path"] == saved["with"]["path"] == "artifacts"
    assert saved["with"]["key"].startswith(restored["with"]["restore-keys"])
    assert saved["if"] == "always()"
