"""What a level writes for the levels after it, from its scores to the file that they read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from claim_frames import block, grid, share

from steering_reliability.cells import Cell
from steering_reliability.config import find_levels
from steering_reliability.expectations import LayerChoice
from steering_reliability.ladder.decide import (
    decide,
    note_confirmations,
    publish,
)
from steering_reliability.ladder.index import LevelIndex
from steering_reliability.ladder.judge import judge_claim
from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import LevelPlan, Overrides, plan_level
from steering_reliability.ladder.targets import Target
from steering_reliability.report.decided import decision_lines

LEVELS = find_levels(Path(__file__).resolve().parents[2] / "experiments")
MODEL = {"source": "embedded", "name": "embedded", "fingerprint": "f00d"}
ORIGIN = {"run": "r", "run_id": "0", "date": "2026-01-01"}
WORKS, COSTLY = Cell(12, "add", 4), Cell(16, "add", 4)
GRID = {
    WORKS: {"harm_test": 0.6, "benign": 0.05},
    COSTLY: {"harm_test": 0.6, "benign": 0.25},
    Cell(12, "ablate", 1): {"harm_test": 0.1, "benign": 0.05},
}


def plan(level: str, decisions: Path | None = None) -> LevelPlan:
    return plan_level(LEVELS[level], Overrides(), decisions)


def record(level: str, scores: pd.DataFrame, decisions: Path | None = None) -> dict[str, Any]:
    found = decide(plan(level, decisions), scores, [], MODEL, ORIGIN)
    assert found is not None
    return found


def test_the_next_level_reads_what_this_one_wrote(tmp_path: Path) -> None:
    paths = ArtifactPaths(tmp_path)
    publish(paths, record("layer_test", grid(GRID)))
    sweep = plan("alpha_sweep", paths.decisions)
    assert (sweep.layers, sweep.provisional, sweep.decided_on) == ((12,), False, {"f00d"})

    publish(paths, record("alpha_sweep", grid(GRID), paths.decisions))
    full = plan("full", paths.decisions)
    assert full.confirmed_cells == [WORKS, Cell(12, "ablate", 1)]
    assert full.provisional is False


def test_of_how_many_layers_it_is_the_best_is_told_up_to_the_verdict(tmp_path: Path) -> None:
    paths = ArtifactPaths(tmp_path)
    rivals = [replace(COSTLY, direction=f"random-{number}") for number in range(1, 6)]
    # At the layer that was not chosen the learned direction, with .60, leads five random ones.
    rates = dict(zip(rivals, (0.5, 0.5, 0.4, 0.4, 0.2), strict=True))
    harm = {cell: {"harm_test": rate} for cell, rate in rates.items()}
    publish(paths, record("layer_test", grid(GRID | harm)))
    assert (
        "the best of 2 and the others back it up"
        in decision_lines(json.loads(paths.decision("layer_test").read_text("utf-8")))[0]
    )
    sweep = plan("alpha_sweep", paths.decisions)
    assert sweep.layer_choice == LayerChoice(2, 1 / 6)
    publish(paths, record("alpha_sweep", grid({WORKS: GRID[WORKS]}), paths.decisions))
    full = plan("full", paths.decisions)
    confirmed = full.controls_of(WORKS, "harm_confirm")
    beaten = [block(cell, "harm_confirm", share(0.3, 100)) for cell in confirmed]
    frame = pd.concat([*beaten, *confirmed_blocks(0.6)], ignore_index=True)
    verdict = judge_claim(full, frame, "beats_controls", Target.of(WORKS, "raise"))
    assert (verdict.details["layers_tried"], verdict.details["elsewhere_p"]) == (2, 1 / 6)
    assert verdict.outcome == "pass"


def test_a_level_that_chooses_nothing_takes_its_former_choice_back(tmp_path: Path) -> None:
    paths = ArtifactPaths(tmp_path)
    publish(paths, record("layer_test", grid(GRID)))
    nothing = record("layer_test", grid({WORKS: {"harm_test": 0.1, "benign": 0.05}}))
    publish(paths, nothing)
    note = plan("alpha_sweep", paths.decisions).notes[0]
    assert note.startswith("layer 12 by default: layer_test has chosen no layer")
    # As `finish_level` enters it.
    publish(paths, nothing | {"screen": [{"layer": 16}, {"layer": 12}]})
    sweep = plan("alpha_sweep", paths.decisions)
    assert (sweep.layers, sweep.provisional, sweep.decided_on) == ((16,), True, {"f00d"})
    weak = Cell(16, "add", 2)
    poor = grid({weak: {"harm_test": 0.05, "benign": 0.3}})
    publish(paths, record("alpha_sweep", poor, paths.decisions))
    full = plan("full", paths.decisions)
    assert full.confirmed_cells == plan("full").confirmed_cells
    assert "alpha_sweep has chosen no operating point" in " ".join(full.notes)


def test_the_cost_weight_is_the_files() -> None:
    level = plan("layer_test")
    assert level.config.decision is not None
    free = replace(
        level,
        config=level.config.model_copy(
            update={"decision": level.config.decision.model_copy(update={"cost_weight": 0.0})}
        ),
    )
    better = GRID | {COSTLY: {"harm_test": 0.7, "benign": 0.25}}
    found = decide(free, grid(better), [], MODEL, ORIGIN)
    assert found is not None
    assert found["layer"]["chosen"]["layer"] == 16


def test_what_default_layers_gave_is_provisional() -> None:
    found = record("alpha_sweep", grid(GRID))
    assert found["provisional"] is True
    assert decision_lines(found)[-1].startswith("provisional: ")


def confirmed_blocks(rate: float) -> list[pd.DataFrame]:
    return [
        block(WORKS, "harm_confirm", share(rate, 100)),
        block(WORKS.baseline, "harm_confirm", share(0.2, 100)),
    ]


def confirmed_scores(rate: float) -> pd.DataFrame:
    return pd.concat([grid(GRID), *confirmed_blocks(rate)], ignore_index=True)


def test_confirming_says_how_optimistic_the_choice_was(tmp_path: Path) -> None:
    paths = ArtifactPaths(tmp_path)
    publish(paths, record("alpha_sweep", grid(GRID)))
    found = record("full", confirmed_scores(0.5), paths.decisions)
    raised = found["confirmed"]["raise"]
    assert raised["effect"] == pytest.approx(0.3)
    assert raised["optimism"] == pytest.approx(0.1)
    assert decision_lines(found)[0].startswith(
        "confirmed to raise refusal: layer12-add-alpha4 raises it by +0.30 ["
    )
    # What was not run on the split that is kept is not confirmed, and says so.
    assert found["confirmed"]["lower"]["effect"] is None
    assert found["confirmed"]["lower"]["reason"]


def test_a_default_has_no_optimism() -> None:
    found = record("full", confirmed_scores(0.5))
    raised = found["confirmed"]["raise"]
    assert raised["effect"] == pytest.approx(0.3)
    assert raised["optimism"] is None
    assert "was not chosen by an earlier level" in decision_lines(found)[0]


def test_the_ledger_holds_every_vector_once(tmp_path: Path) -> None:
    paths = ArtifactPaths(tmp_path)
    directions = [{"layer": layer, "hash": f"hash{layer}"} for layer in (8, 12, 16)]
    index = LevelIndex(MODEL, directions, [], {}, {}, {}, 1)
    assert note_confirmations(paths, plan("full"), index) == 1
    assert note_confirmations(paths, plan("full"), index) == 1
    publish(paths, record("alpha_sweep", grid(GRID)))
    assert note_confirmations(paths, plan("full", paths.decisions), index) == 2
    entries = [json.loads(line) for line in paths.ledger.read_text(encoding="utf-8").splitlines()]
    assert [entry["cell"] for entry in entries] == ["layer12-add-alpha4", "layer12-ablate-alpha1"]
    assert {entry["direction"] for entry in entries} == {"hash12"}


def test_a_level_without_a_decision_decides_nothing() -> None:
    assert decide(plan("smoke"), grid(GRID), [], MODEL, ORIGIN) is None
