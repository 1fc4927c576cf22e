"""What a level takes over from an earlier one, and what it does where there is nothing to take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steering_reliability.cells import Cell
from steering_reliability.config import find_levels
from steering_reliability.errors import SteeringError
from steering_reliability.ladder.choices import FORMAT, profile_digest
from steering_reliability.ladder.climb import Ladder, timeline
from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import LevelPlan, Overrides, plan_level
from steering_reliability.ladder.targets import Target, claim_targets
from steering_reliability.layer_choices import NAMED, LayerChoice

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
LEVELS = find_levels(EXPERIMENTS)

RAISE = {
    "goal": "raise",
    "layer": 16,
    "intervention": "add",
    "alpha": 4.0,
    "effect": 0.3,
    "effect_low": 0.1,
    "effect_high": 0.5,
    "n_harm": 50,
}
LOWER = RAISE | {"goal": "lower", "intervention": "ablate", "alpha": 1.0}


def planned(level: str, decisions: Path | None = None, **overrides: Any) -> LevelPlan:
    return plan_level(LEVELS[level], Overrides(**overrides), decisions)


def record(level: str, **changes: Any) -> dict[str, Any]:
    """A decision on the embedded model, as ``decide`` writes it."""
    profile = planned("smoke").profile
    return {
        "format": FORMAT,
        "level": level,
        "model": {
            "name": "embedded",
            "source": "embedded",
            "fingerprint": "f00d",
            "n_layers": 30,
            "d_model": 576,
        },
        "profile": profile_digest(profile),
        "provisional": False,
        **changes,
    }


def write(folder: Path, content: dict[str, Any] | str, level: str = "layer_test") -> Path:
    path = folder / f"{level}.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


LAYER = {"layer": {"chosen": RAISE, "reason": "it is best"}}


def test_the_layer_is_taken_from_the_decision(tmp_path: Path) -> None:
    plan = planned("alpha_sweep", write(tmp_path, record("layer_test", **LAYER)))
    assert plan.layers == (16,)
    assert plan.provisional is False
    assert plan.decided_on == {"f00d"}
    assert plan.notes[0] == "layer 16, decided by layer_test: it is best"


def test_of_how_many_layers_it_is_the_best_comes_with_the_layer(tmp_path: Path) -> None:
    backed = {"chosen": RAISE | {"layers_tried": 3, "elsewhere_p": 1 / 6}, "reason": "best"}
    folder = write(tmp_path, record("layer_test", layer=backed))
    assert planned("alpha_sweep", folder).layer_choice == LayerChoice(3, 1 / 6)
    # A layer that the user names was not chosen.
    assert planned("alpha_sweep", folder, layers=(16,)).layer_choice == NAMED
    assert planned("alpha_sweep").layer_choice == NAMED


NONE_CHOSEN = {"layer": {"chosen": None, "reason": "none is certain"}}
# A row for each layer and alpha.
SCREENED = [
    {"layer": layer, "alpha": alpha} for layer, alpha in ((16, 2), (8, 4), (16, 4), (12, 2))
]


def test_without_a_chosen_layer_it_is_the_one_screened_first(tmp_path: Path) -> None:
    folder = write(tmp_path, record("layer_test", **NONE_CHOSEN, screen=SCREENED))
    plan = planned("alpha_sweep", folder)
    assert (plan.layers, plan.provisional) == ((16,), True)
    assert plan.decided_on == {"f00d"}
    # The screen chose among three, and random directions have no part in it.
    assert plan.layer_choice == LayerChoice(3)
    assert plan.notes[0] == (
        "layer 16, the best of 3 by the screen of layer_test, which chose none; provisional, "
        "name another with --steer-layers"
    )


def test_a_chosen_layer_goes_before_the_one_screened_first(tmp_path: Path) -> None:
    screened = SCREENED[1:]
    folder = write(tmp_path, record("layer_test", **LAYER, screen=screened))
    plan = planned("alpha_sweep", folder)
    assert (plan.layers, plan.provisional) == ((16,), False)


@pytest.mark.parametrize(
    "screen",
    [None, [], {}, [None], [{}], [{"layer": "16"}], [{"layer": 30}], [{"layer": 8}, None], 3],
)
def test_without_a_usable_screen_it_is_the_default(tmp_path: Path, screen: Any) -> None:
    folder = write(tmp_path, record("layer_test", **NONE_CHOSEN, screen=screen))
    plan = planned("alpha_sweep", folder)
    assert (plan.layers, plan.provisional) == ((12,), True)
    assert plan.notes[0].startswith("layer 12 by default: layer_test has chosen no layer; prov")


def test_a_decision_that_does_not_tell_is_of_an_older_format(tmp_path: Path) -> None:
    folder = write(tmp_path, record("layer_test", **LAYER) | {"format": 1})
    plan = planned("alpha_sweep", folder)
    assert (plan.layers, plan.provisional) == ((12,), True)
    assert "is of format 1, expected 4" in plan.notes[0]


def test_a_provisional_decision_stays_provisional(tmp_path: Path) -> None:
    folder = write(tmp_path, record("layer_test", **LAYER, provisional=True))
    plan = planned("alpha_sweep", folder)
    assert (plan.layers, plan.provisional) == ((16,), True)
    assert plan.notes[0].endswith("; that decision is provisional")


def test_a_named_layer_goes_before_the_decision(tmp_path: Path) -> None:
    folder = write(tmp_path, record("layer_test", **LAYER))
    plan = planned("alpha_sweep", folder, layers=(8, 0.4))
    assert (plan.layers, plan.provisional) == ((8, 12), False)
    assert plan.notes[0] == "layer 8, 12: from --steer-layers"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "layer_test has decided nothing yet"),
        ("", "{path} is damaged (JSONDecodeError: Expecting value: line 1 column 1 (char 0))"),
        ('{"format": 1', "{path} is damaged (JSONDecodeError: "),
        ("[]", "{path} is damaged (TypeError: "),
        ("{}", "{path} is damaged (KeyError: 'format')"),
        ({"format": 9}, "{path} is of format 9, expected 4"),
        ({"profile": "0"}, "{path} is stale: it was decided on model 'embedded', with other set"),
        (
            {"model": {"name": "tiny", "n_layers": 2, "d_model": 8, "fingerprint": "a"}},
            "{path} is stale: it was decided on model 'tiny', not on 'embedded'",
        ),
        ({"layer": {"chosen": None, "reason": ""}}, "layer_test has chosen no layer"),
        ({"layer": {"chosen": {"layer": "12"}}}, "the decision of layer_test is damaged"),
        (
            {"layer": {"chosen": {"layer": 12, "layers_tried": "3"}}},
            "the decision of layer_test is damaged",
        ),
    ],
)
def test_without_a_usable_decision_the_default_is_run_provisionally(
    tmp_path: Path, content: dict[str, Any] | str | None, problem: str
) -> None:
    if isinstance(content, dict):
        content = record("layer_test", **LAYER) | content
    if content is not None:
        write(tmp_path, content)
    plan = planned("alpha_sweep", tmp_path)
    assert (plan.layers, plan.provisional, plan.decided_on) == ((12,), True, frozenset())
    problem = problem.format(path=tmp_path / "layer_test.json")
    assert plan.notes[0].startswith(f"layer 12 by default: {problem}")
    assert plan.notes[0].endswith(
        "; provisional, run layer_test first or name a layer with --steer-layers"
    )
    assert "\n" not in plan.notes[0]


def test_operating_points_are_confirmed_for_both_goals(tmp_path: Path) -> None:
    points = {"raise": {"chosen": RAISE}, "lower": {"chosen": LOWER}}
    folder = write(tmp_path, record("alpha_sweep", operating_points=points), "alpha_sweep")
    plan = planned("full", folder)
    assert plan.confirmed_cells == [Cell(16, "add", 4), Cell(16, "ablate", 1)]
    assert plan.provisional is False
    # To be run again is not to be confirmed.
    assert plan.notes[0] == (
        "layer16-add-alpha4 (to raise refusal) and layer16-ablate-alpha1 (to lower refusal), "
        "chosen by alpha_sweep, are run again on fresh prompts, harm_confirm"
    )
    assert plan.splits_of[Cell(16, "add", 4)] == (
        "harm_train", "harm_test", "benign", "harm_confirm"
    )  # fmt: skip
    assert plan.splits_of[Cell(16, "add", 0)][-1] == "harm_confirm"
    # Nothing else of the grid touches the split that is kept.
    assert sum("harm_confirm" in splits for splits in plan.splits_of.values()) == 4 + 2 * 19
    assert len(plan.controls_of(Cell(16, "add", 4), "harm_confirm")) == 19
    assert len(plan.controls_of(Cell(16, "ablate", 1), "harm_confirm")) == 19
    # Three directions beside the learned one, four conditions with a baseline of their own, and 30
    # prompts once more in another order.
    prompting, sanity = 150 + 200, (3 + 2 * 4) * 135 + 2 * 30
    assert plan.n_beside_grid == (3 + 2 * 19) * 150 + prompting + sanity


def test_each_operating_point_is_held_against_controls_for_its_own_goal(tmp_path: Path) -> None:
    both = {**LOWER, "intervention": "add", "alpha": 4.0}
    points = {"raise": {"chosen": RAISE}, "lower": {"chosen": both}}
    folder = write(tmp_path, record("alpha_sweep", operating_points=points), "alpha_sweep")
    assert claim_targets(planned("full", folder), "beats_controls") == [
        Target(16, "add", 4.0, "raise"),
        Target(16, "add", 4.0, "lower"),
    ]
    points = {"raise": {"chosen": LOWER}, "lower": {"chosen": RAISE}}
    folder = write(tmp_path, record("alpha_sweep", operating_points=points), "alpha_sweep")
    assert claim_targets(planned("full", folder), "beats_controls") == [
        Target(16, "add", 4.0, "lower"),
        Target(16, "ablate", 1.0, "raise"),
    ]


def test_controls_of_ablation_stand_beside_those_of_adding(tmp_path: Path) -> None:
    plan = planned("alpha_sweep", tmp_path)
    ablate = Cell(12, "ablate", 1)
    controls = plan.controls_of(ablate, "harm_test")
    assert controls == [replace(ablate, direction=f"random-{number}") for number in range(1, 6)]
    assert plan.controls_of(Cell(12, "ablate", 2), "harm_test") == []
    # Five random, one shuffled and one reversed direction at two alphas of adding.
    assert len(plan.control_cells) == 2 * 7 + 5
    assert plan.n_beside_grid == 2_100
    assert claim_targets(plan, "beats_controls") == [
        Target(12, "add", 2.0),
        Target(12, "add", 4.0),
        Target(12, "ablate", 1.0),
    ]


@pytest.mark.parametrize(
    ("points", "cells", "note"),
    [
        (
            None,
            [Cell(12, "add", 4)],
            "layer12-add-alpha4 is run on fresh prompts, harm_confirm, by default: alpha_sweep has",
        ),
        (
            {"raise": {"chosen": None}, "lower": {"chosen": None}},
            [Cell(12, "add", 4)],
            "layer12-add-alpha4 is run on fresh prompts, harm_confirm, by default: alpha_sweep has "
            "chosen no operating point; provisional, run alpha_sweep first",
        ),
        (
            {"raise": {"chosen": None}, "lower": {"chosen": LOWER}},
            [Cell(16, "ablate", 1), Cell(12, "add", 4)],
            "layer16-ablate-alpha1 (to lower refusal), chosen by alpha_sweep, is run again on "
            "fresh prompts, harm_confirm; it chose no cell to raise refusal, so "
            "layer12-add-alpha4 is run by",
        ),
        (
            {"raise": {"chosen": {"layer": 1}}},
            [Cell(12, "add", 4)],
            "layer12-add-alpha4 is run on fresh prompts, harm_confirm, by default: the decision of "
            "alpha_sweep is damaged",
        ),
    ],
)
def test_what_was_not_chosen_is_confirmed_by_default(
    tmp_path: Path, points: dict[str, Any] | None, cells: list[Cell], note: str
) -> None:
    if points is not None:
        write(tmp_path, record("alpha_sweep", operating_points=points), "alpha_sweep")
    plan = planned("full", tmp_path)
    assert plan.confirmed_cells == cells
    assert plan.provisional is True
    assert plan.notes[0].startswith(note)


@pytest.mark.parametrize(
    ("level", "grid", "shared", "beside"),
    [
        ("smoke", 120, 0, 0),
        # Three layers, two alphas, seven controls, fifty prompts.
        ("layer_test", 1050, 300, 2200),
        # Seven controls at two alphas of adding, five random ones at one of ablating.
        ("alpha_sweep", 2700, 300, 2100),
        # Baseline, operating point and nineteen random directions on 150 prompts.
        ("full", 12500, 2500, 5045),
    ],
)
def test_the_shipped_levels_cost_what_the_documents_say(
    level: str, grid: int, shared: int, beside: int
) -> None:
    plan = planned(level)
    assert (plan.n_completions, plan.n_unsteered_shared, plan.n_beside_grid) == (
        grid, shared, beside
    )  # fmt: skip
    assert sum(map(plan.n_completions_of, plan.cells)) == grid + shared + (level == "full") * 300


def test_the_timeline_counts_each_completion_once(tmp_path: Path) -> None:
    lines = timeline(Ladder(EXPERIMENTS, ArtifactPaths(tmp_path)))
    assert [line.split()[0] for line in lines[:4]] == [
        "smoke", "layer_test", "alpha_sweep", "full"
    ]  # fmt: skip
    assert lines[0].endswith("120 completions, 120 to generate")
    # The smoke level's sixty prompts, unsteered and at layer 12 with alpha 2, are there already.
    assert lines[1].endswith("3,250 completions, 3,130 to generate")
    assert lines[4].startswith("in all")
    assert "run smoke first" in lines[5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": "smok"}, "--from: found 'smok', expected one of smoke, layer_test, "),
        ({"last": "x"}, "--to: found 'x', expected one of smoke, layer_test, alpha_sweep, full"),
        (
            {"first": "full", "last": "smoke"},
            "--to: found 'smoke', which comes before 'full'; expected one of full",
        ),
    ],
)
def test_an_unknown_level_is_told(tmp_path: Path, arguments: Any, message: str) -> None:
    with pytest.raises(SteeringError) as caught:
        timeline(Ladder(EXPERIMENTS, ArtifactPaths(tmp_path), **arguments))
    assert str(caught.value).startswith(message)


def test_a_folder_without_levels_is_told(tmp_path: Path) -> None:
    with pytest.raises(SteeringError, match="found no levels"):
        timeline(Ladder(tmp_path, ArtifactPaths(tmp_path)))
