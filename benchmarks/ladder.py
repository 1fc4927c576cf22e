"""How long does the whole ladder take, from an empty store?

``python -m benchmarks.ladder --json FILE [--artifacts FOLDER]`` runs the four levels as the user's
pytest sessions: for every level first the cells of its grid alone, then the whole level with
controls, confirmation, report and all. The folder then holds a climbed ladder, as ``make ladder``
leaves it. Elsewhere a ladder of this kind costs 140 minutes on an A100.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import Overrides, plan_level
from steering_reliability.results.store import CompletionStore

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
LEVELS = ("smoke", "layer_test", "alpha_sweep", "full")
ELSEWHERE_MINUTES = 140
GRID = "test_cell_is_complete"


def run_session(level: str, artifacts: Path, *arguments: str) -> tuple[float, int, int]:
    """Wall-clock seconds of a level's session, its exit code, and completions it stored."""
    before = _stored(artifacts)
    command = [sys.executable, "-m", "pytest", str(EXPERIMENTS), "-m", level, "-q", *arguments]
    started = time.perf_counter()
    code = subprocess.run(
        [*command, "--steer-artifacts", str(artifacts)], check=False, cwd=EXPERIMENTS.parent
    ).returncode
    return time.perf_counter() - started, code, _stored(artifacts) - before


def _stored(artifacts: Path) -> int:
    path = ArtifactPaths(artifacts).store
    if not path.exists():
        return 0
    with CompletionStore(path) as store:
        return int(store.stats().completions)


def measure(artifacts: Path) -> list[dict[str, Any]]:
    """Seconds, completions and exit code of every level: its grid, then all of it."""
    rows = []
    for level in LEVELS:
        row: dict[str, Any] = {"level": level, "grid_seconds": 0.0, "grid_completions": 0}
        if level != "smoke":
            seconds, _, stored = run_session(level, artifacts, "-k", GRID)
            row |= {"grid_seconds": seconds, "grid_completions": stored}
        seconds, code, stored = run_session(level, artifacts)
        row |= {
            "whole_seconds": row["grid_seconds"] + seconds,
            "whole_completions": row["grid_completions"] + stored,
            "exit_code": code,
        }
        if level == "smoke":
            row |= {"grid_seconds": seconds, "grid_completions": stored}
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the measurements there")
    parser.add_argument("--artifacts", type=Path, help="an empty folder that is kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        artifacts = (options.artifacts or Path(scratch)).resolve()
        if _stored(artifacts):
            parser.error(f"--artifacts: {artifacts} holds completions, expected an empty folder")
        rows = measure(artifacts)
    planned = {
        level: plan_level(EXPERIMENTS / "configs" / f"{level}.yaml", Overrides()).n_completions
        for level in LEVELS
    }
    print(f"{'level':<12} {'grid':>8} {'min':>6} {'whole':>8} {'min':>6}")
    for row in rows:
        print(
            f"{row['level']:<12} {row['grid_completions']:>8,} {row['grid_seconds'] / 60:>6.1f} "
            f"{row['whole_completions']:>8,} {row['whole_seconds'] / 60:>6.1f}"
        )
    grid, whole = (sum(row[f"{kind}_seconds"] for row in rows) / 60 for kind in ("grid", "whole"))
    print(
        f"the grids alone {grid:.1f} min, with controls and all {whole:.1f} min, "
        f"{torch.get_num_threads()} threads; elsewhere {ELSEWHERE_MINUTES} min on an A100"
    )
    if options.json:
        result = {"levels": rows, "grid_minutes": grid, "whole_minutes": whole, "planned": planned}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
