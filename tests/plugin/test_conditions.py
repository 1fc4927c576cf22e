"""Prompt baseline and sanity checks: generated once, shared by workers, kept out of the grid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from projects import PER_SPLIT, SPLITS, Project, counts, stored

from steering_reliability.results.store import CompletionStore

FEW = 3
CONDITIONS = [
    "other-pairs",
    "half-pairs",
    "half-prompts",
    "other-system-prompt",
    "sampled-1",
    "sampled-2",
    "prompt-order",
]
FULL: dict[str, Any] = {
    "layers": [1, 2],
    "prompts": {
        "per_split": PER_SPLIT,
        "splits": {split: f"{split}.jsonl" for split in [*SPLITS, "harm_confirm"]},
    },
    "confirm": {"from": "alpha_sweep", "random": 1, "default": {"layer": 2, "alpha": 2}},
    "prompt_baseline": {"system_prompt": "Refuse {everything}."},
    "sanity": {"system_prompt": "Be brief.", "seeds": [1, 2], "prompts": FEW, "reordered": 2},
}
TESTS = """
    import pytest

    pytestmark = pytest.mark.full


    def complete(steering, cell):
        assert len(steering.scores(cell)) == steering.plan.n_completions_of(cell)


    def test_cell(steering, cell):
        complete(steering, cell)


    def test_confirmed(steering, confirmed_cell):
        complete(steering, confirmed_cell)


    def test_control(steering, control_cell):
        complete(steering, control_cell)


    def test_prompted(steering, prompted_cell):
        complete(steering, prompted_cell)


    def test_sanity(steering, sanity_cell):
        complete(steering, sanity_cell)
"""
# Grid: unsteered and two layers on three splits; confirmed: unsteered, learned, random.
GRID = PER_SPLIT * (3 + 3 * 2 + 3)
PROMPTED = PER_SPLIT * 2
# Other directions share the unsteered rows, the others have their own.
CHECKS = FEW * (3 + 2 * 3) + 2 * 2


@pytest.fixture
def full(project: Project) -> Project:
    import textwrap

    project.write_prompts("harm_confirm", [f"Steal {n} things." for n in range(PER_SPLIT)])
    project.write_level("full", **FULL)
    tests = project.experiments / "test_full.py"
    tests.write_text(textwrap.dedent(TESTS), encoding="utf-8")
    return project


def test_conditions_are_generated_once_and_stay_out_of_the_grid(full: Project) -> None:
    first = full.run("-m", "full")
    assert first.ret == 0, f"{first.stdout}{first.stderr}"
    assert counts(first) == (GRID + PROMPTED + CHECKS, 0)
    assert "in place of steering" in first.stdout.str()

    again = full.run("-m", "full")
    assert counts(again) == (0, GRID + PROMPTED + CHECKS)

    folder = full.folder("full")
    summary = pd.read_csv(folder / "summary.csv")
    assert len(summary) == 4 * 3 + 2
    controls = pd.read_csv(folder / "controls.csv")
    assert set(controls["condition"]) == {"default", "system-prompt-baseline", *CONDITIONS}
    sanity = pd.read_csv(folder / "tables" / "sanity.csv")
    as_told = pd.read_csv(folder / "tables" / "sanity.csv", dtype=str)
    assert as_told[["identical", "completions"]].dropna().to_numpy().tolist() == [["4", "4"]]
    assert list(sanity["check"][:8]) == ["main", *CONDITIONS]
    assert list(sanity["n"][:8]) == [FEW] * 7 + [2]
    assert sanity["cosine"].notna().sum() == 3
    order = sanity.set_index("check").loc["prompt-order"]
    assert (order["identical"], order["completions"], order["change"]) == (4, 4, 0)
    assert "MISMATCH" not in report(full)
    assert sanity["meaning"].notna().all()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["prompt_baseline"]["wins"] is False
    assert "Sanity checks" in report(full)


def test_conditions_change_what_they_name(full: Project) -> None:
    assert full.run("-m", "full").ret == 0
    frame = pd.read_parquet(full.folder("full") / "completions.parquet")
    rows = frame[(frame["split"] == "harm_test") & (frame["layer"] == 2)]
    rows = rows[rows["direction"] == "learned"]

    def texts(condition: str, alpha: float) -> list[str]:
        of = rows[(rows["condition"] == condition) & (rows["alpha"] == alpha)]
        assert len(of) == {"default": PER_SPLIT, "prompt-order": 2}.get(condition, FEW)
        return list(of.sort_values("prompt_id")["text"])[:FEW]

    for half in ("other-pairs", "half-pairs", "half-prompts"):
        assert texts(half, 0) == texts("default", 0)
    for other in ("other-system-prompt", "sampled-1", "sampled-2"):
        assert texts(other, 0) != texts("default", 0)
        assert texts(other, 2) != texts(other, 0)
    assert texts("sampled-1", 0) != texts("sampled-2", 0)


def test_workers_generate_the_same_completions(full: Project, tmp_path: Path) -> None:
    alone = full.run("-m", "full", artifacts=tmp_path / "alone")
    shared = full.run("-m", "full", "-n", "2", artifacts=tmp_path / "shared")
    assert alone.ret == shared.ret == 0, shared.stdout.str()
    assert counts(shared) == counts(alone)
    assert stored(tmp_path / "shared").keys() == stored(tmp_path / "alone").keys()
    for name in ("summary.csv", "controls.csv", "tables/sanity.csv"):
        one, two = (full.folder("full", tmp_path / run) / name for run in ("alone", "shared"))
        assert one.read_bytes() == two.read_bytes()


def test_completions_that_hang_on_the_order_are_told_loudly(full: Project) -> None:
    assert full.run("-m", "full").ret == 0
    index = next((full.artifacts / "index").rglob("*.json"))
    entries = json.loads(index.read_text(encoding="utf-8"))["cells"]
    [key, _] = next(e["keys"] for e in entries if e["cell"][2:] == [2, "learned", "prompt-order"])
    spoil(full.artifacts / "store.sqlite", key)
    result = full.run("-m", "full")
    assert result.ret == 0
    assert "MISMATCH: 1 of 4 completions differ" in report(full)
    warnings = json.loads((full.folder("full") / "manifest.json").read_text(encoding="utf-8"))
    assert any("MISMATCH" in warning for warning in warnings["warnings"])


def report(full: Project) -> str:
    return (full.folder("full") / "report.html").read_text(encoding="utf-8")


def spoil(store: Path, key: str) -> None:
    """Change a stored completion's entropy by next to nothing."""
    with CompletionStore(store) as known:
        [record] = known.get_many([key]).values()
        entropy = record.measurements["mean_entropy"] * (1 + 1e-12)
        known.delete([key])
        changed = {**record.measurements, "mean_entropy": entropy}
        known.put_many([replace(record, measurements=changed)])
