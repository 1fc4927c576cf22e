"""What a level writes for the levels after it, from its scores to the file that they read."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from claim_frames import block, grid, share

from steering_reliability.cells import Cell
from steering_reliability.config import find_levels
from steering_reliability.expectations import LayerChoice, Verdict
from steering_reliability.ladder.decide import (
    decide,
    note_confirmations,
    publish,
    resample,
)
from steering_reliability.ladder.index import LevelIndex
from steering_reliability.ladder.judge import judge_claim, judge_level
from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import LevelPlan, Overrides, plan_level
from steering_reliability.ladder.targets import Target
from steering_reliability.report.decided import note_lines, points_of

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
    (point,) = points_of(json.loads(paths.decision("layer_test").read_text("utf-8")), [])
    assert point.found[-1] == (
        "its layer is the best of 2, and at the others its direction leads random ones too"
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
    assert note_lines(found)[-1].startswith("provisional: ")


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
    point, other = points_of(found, [])
    assert point.title == "layer12-add-alpha4 to raise refusal"
    assert point.found[0].startswith(
        "run again on fresh prompts (harm_confirm, n = 100): refusal raised by +.30 ["
    )
    assert point.found[0].endswith("; there no claim is made of it")
    assert point.found[-1].startswith("the earlier estimate was +.40, too hopeful by +.10 [")
    # What was not run on the split that is kept says so.
    assert found["confirmed"]["lower"]["effect"] is None
    assert other.found[0].startswith("not run again: no completions of layer12-ablate-alpha1")


def test_to_be_run_again_is_not_called_confirmed_and_its_claims_stand_beside(
    tmp_path: Path,
) -> None:
    paths = ArtifactPaths(tmp_path)
    publish(paths, record("alpha_sweep", grid(GRID)))
    full = plan("full", paths.decisions)
    rivals = full.controls_of(WORKS, "harm_confirm")
    beaten = [block(cell, "harm_confirm", share(0.7, 100)) for cell in rivals]
    frame = pd.concat([confirmed_scores(0.5), *beaten], ignore_index=True)
    asked = (("beats_controls", "raise"), ("benign_side_effect", None), ("coherence", None))
    verdicts = [
        judge_claim(full, frame, claim, Target.of(WORKS, goal))  # type: ignore[arg-type]
        for claim, goal in asked
    ]
    assert [verdict.outcome for verdict in verdicts] == ["fail", "pass", "pass"]
    found = decide(full, frame, verdicts, MODEL, ORIGIN)
    point = points_of(found, verdicts)[0]
    assert "; there beats_controls fails (-.20 [" in point.found[0]
    assert point.there == (verdicts[0],)
    assert point.found[1].startswith("benign cost .00 [.00, .0")
    assert point.found[2].startswith("the earlier estimate was +.40")
    assert "confirmed" not in " ".join(point.found)
    # A cost that may be too large is told with its claim.
    costly = replace(verdicts[1], outcome="inconclusive")
    missing = replace(verdicts[2], outcome="error", estimate=math.nan)
    point = points_of(found, [verdicts[0], missing, costly])[0]
    assert point.found[1].startswith("benign_side_effect is inconclusive (")
    assert point.found[1].endswith("; coherence could not be judged")
    assert not any("benign cost" in clause for clause in point.found)


def test_an_effect_the_other_way_is_not_called_raised() -> None:
    (point,) = points_of(record("full", confirmed_scores(0.1)), [])
    assert "): refusal not raised, -.10 [" in point.found[0]


def test_a_default_has_no_optimism() -> None:
    found = record("full", confirmed_scores(0.5))
    raised = found["confirmed"]["raise"]
    assert raised["effect"] == pytest.approx(0.3)
    assert raised["optimism"] is None
    assert points_of(found, [])[0].found[-1] == "it was not chosen by an earlier level"


class TestResample:
    """What other prompts of the same kind would choose; every draw is judged anew."""

    def resampled(
        self, level: str, scores: pd.DataFrame, own: tuple[Verdict, ...] = ()
    ) -> dict[str, Any]:
        planned = plan(level)
        verdicts = [*judge_level(planned, scores), *own]
        found = decide(planned, scores, verdicts, MODEL, ORIGIN)
        assert found is not None
        resample(planned, scores, verdicts, found, draws=60)
        json.dumps(found, allow_nan=False)
        return dict(found["layer"] if "layer" in found else found["operating_points"]["raise"])

    def test_a_cell_that_hardly_pays_is_often_not_chosen(self) -> None:
        decided = self.resampled("alpha_sweep", grid({WORKS: {"harm_test": 0.35, "benign": 0.17}}))
        assert decided["chosen"]["cell"] == WORKS.id
        found = decided["resamples"]
        assert found["draws"] == 60
        assert 0.1 < found["nothing"] < 0.7
        assert found["cells"] == {WORKS.id: pytest.approx(1 - found["nothing"])}
        record = {"operating_points": {"raise": decided}}
        (point,) = points_of(record, [])
        # Of one layer nothing is said of layers.
        assert point.found[-1] == (
            f"with the prompts drawn anew 60 times it would be {WORKS.id} in "
            f"{found['cells'][WORKS.id]:.0%}, nothing in {found['nothing']:.0%}"
        )

    def test_text_that_is_hardly_coherent_is_often_not_chosen(self) -> None:
        rates = {WORKS: {"harm_test": 0.6, "benign": 0.05}}
        decided = self.resampled("alpha_sweep", grid(rates, degenerate={WORKS: 0.09}))
        assert decided["chosen"]["cell"] == WORKS.id
        assert 0.1 < decided["resamples"]["nothing"] < 0.7
        assert self.resampled("alpha_sweep", grid(rates))["resamples"]["nothing"] == 0

    def test_a_claim_that_hardly_holds_often_leaves_the_cell_out(self) -> None:
        # A cost of .20 has a lower bound near the margin of .15.
        decided = self.resampled("alpha_sweep", grid({WORKS: {"harm_test": 0.9, "benign": 0.25}}))
        assert decided["chosen"]["cell"] == WORKS.id
        assert 0.1 < decided["resamples"]["nothing"] < 0.9

    def test_what_a_test_found_by_itself_stays_as_it_is(self) -> None:
        about = {"layer": WORKS.layer, "intervention": "add", "alpha": WORKS.alpha}
        own = Verdict("mine", WORKS.id, "fail", 0, 0, 0, 0.95, 9, 1, "", False, None, about)
        decided = self.resampled("alpha_sweep", grid({WORKS: GRID[WORKS]}), (own,))
        assert decided["chosen"] is None
        assert decided["resamples"] == {"draws": 60, "nothing": 1, "cells": {}, "layers": {}}

    def test_a_toss_up_between_layers_says_so(self) -> None:
        blocks = []
        for cell, start in ((Cell(8, "add", 2), 0), (Cell(16, "add", 2), 50)):
            blocks.append(block(cell, "harm_test", share(0.5, 100, start=start)))
            blocks.append(block(cell, "benign", share(0.05, 100)))
            blocks.append(block(cell.baseline, "harm_test", share(0.2, 100)))
            blocks.append(block(cell.baseline, "benign", share(0.05, 100)))
        decided = self.resampled("layer_test", pd.concat(blocks, ignore_index=True))
        assert 0.25 < decided["resamples"]["layers"]["8"] < 0.75
        (point,) = points_of({"layer": decided}, [])
        assert "it would be layer " in point.found[1]

    def test_a_cell_that_lacks_scores_is_in_no_draw(self) -> None:
        scores = grid({WORKS: GRID[WORKS], COSTLY: {"harm_test": 0.9, "benign": 0.05}})
        gap = scores.index[(scores.layer == 16) & (scores.alpha > 0)][:1]
        decided = self.resampled("layer_test", scores.drop(gap).reset_index(drop=True))
        assert list(decided["left_out"]) == [COSTLY.id]
        assert decided["resamples"]["cells"] == {WORKS.id: 1}


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
