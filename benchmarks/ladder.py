"""How long does the whole ladder take, from an empty store?

``python -m benchmarks.ladder --json FILE [--artifacts FOLDER]`` runs the four levels as the user's
pytest sessions: for every level first the cells of its grid alone, then controls, confirmation and
claims, then the rest (sanity checks, prompt baseline). The folder then holds a climbed ladder, as
``make ladder`` leaves it. Elsewhere a ladder of this kind costs 140 minutes on an A100.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import LevelPlan, Overrides, plan_level
from steering_reliability.results.run import read_manifest
from steering_reliability.results.store import CompletionStore

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
LEVELS = ("smoke", "layer_test", "alpha_sweep", "full")
ELSEWHERE_MINUTES = 140
PARTS = {
    "grid": "test_cell_is_complete",
    "controls": "not test_sanity and not test_prompt",
    "all": "",
}
"""What of a level is run one after the other: its grid, then controls and claims, then the rest."""


def run_session(level: str, artifacts: Path, *arguments: str) -> tuple[float, int, int]:
    """Wall-clock seconds of a level's session, its exit code, and completions it stored."""
    before = _stored(artifacts)
    command = [sys.executable, "-m", "pytest", str(EXPERIMENTS), "-m", level, "-q", *arguments]
    started = time.perf_counter()
    code = subprocess.run(
        [*command, "--steer-artifacts", str(artifacts)], check=False, cwd=EXPERIMENTS.parent
    ).returncode
    return time.perf_counter() - started, code, _stored(artifacts) - before


def probing_seconds(plan: LevelPlan, artifacts: Path) -> float:
    """What a level's last session spent on what is read off without generating."""
    timings = read_manifest(ArtifactPaths(artifacts).run(plan))["timings"]
    return float(timings.get("probes", 0.0))


def _stored(artifacts: Path) -> int:
    path = ArtifactPaths(artifacts).store
    if not path.exists():
        return 0
    with CompletionStore(path) as store:
        return int(store.stats().completions)


def measure(plans: Mapping[str, LevelPlan], artifacts: Path) -> list[dict[str, Any]]:
    """Seconds and completions of every level up to each part, and the exit code of the whole.

    Of the seconds, ``…_probing`` were spent on what is read off without generating.
    """
    rows = []
    for level, plan in plans.items():
        row: dict[str, Any] = {"level": level}
        told: dict[str, float] = {"seconds": 0.0, "completions": 0, "probing": 0.0}
        for part, selection in PARTS.items():
            # Smoke is one part; sessions of its own would cost more than it does.
            if level == "smoke" and part != "all":
                continue
            took, row["exit_code"], stored = run_session(
                level, artifacts, *(["-k", selection] if selection else [])
            )
            told["seconds"] += took
            told["completions"] += stored
            told["probing"] += probing_seconds(plan, artifacts)
            row |= {f"{part}_{name}": value for name, value in told.items()}
        for part in PARTS:
            for name, value in told.items():
                row.setdefault(f"{part}_{name}", value)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the measurements there")
    parser.add_argument("--artifacts", type=Path, help="an empty folder that is kept")
    options = parser.parse_args()
    folder = EXPERIMENTS / "configs"
    plans = {level: plan_level(folder / f"{level}.yaml", Overrides()) for level in LEVELS}
    with tempfile.TemporaryDirectory() as scratch:
        artifacts = (options.artifacts or Path(scratch)).resolve()
        if _stored(artifacts):
            parser.error(f"--artifacts: {artifacts} holds completions, expected an empty folder")
        rows = measure(plans, artifacts)
    planned = {level: plan.n_completions for level, plan in plans.items()}
    print(f"{'level':<12}" + "".join(f"{part:>10} {'min':>6}" for part in PARTS))
    for row in rows:
        counts = (
            f"{row[f'{part}_completions']:>10,} {row[f'{part}_seconds'] / 60:>6.1f}"
            for part in PARTS
        )
        print(f"{row['level']:<12}" + "".join(counts))
    minutes = {part: sum(row[f"{part}_seconds"] for row in rows) / 60 for part in PARTS}
    probing = {part: sum(row[f"{part}_probing"] for row in rows) / 60 for part in PARTS}
    print(
        f"the grids alone {minutes['grid']:.1f} min, with controls and claims "
        f"{minutes['controls']:.1f} min, all {minutes['all']:.1f} min, {torch.get_num_threads()} "
        f"threads; elsewhere {ELSEWHERE_MINUTES} min on an A100; of these, probes took "
        + ", ".join(f"{found:.1f}" for found in probing.values())
        + " min"
    )
    if options.json:
        result = {"levels": rows, "minutes": minutes, "probing": probing, "planned": planned}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
