"""What a test may ask a claim of where the command line changed the grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from steering_reliability.cells import Cell
from steering_reliability.errors import SteeringError
from steering_reliability.ladder.plan import LevelPlan, Overrides, plan_level
from steering_reliability.ladder.targets import asked_target, why_not_claimed
from tests.tiny_models import tiny_model_folder

LEVEL: dict[str, Any] = {
    "level": "mine",
    "question": "Which cells?",
    "layers": [1, 2],
    "interventions": ["add"],
    "alphas": [0, 2, 4],
    "prompts": {
        "folder": "prompts",
        "per_split": 1,
        "splits": {"harm_train": "harm_train.jsonl"},
    },
    "direction": {"learn_from": {"split": "harm_train", "last": 1}},
    "claims": {"coherence": {}, "alpha_monotonicity": {"split": "harm_train"}},
}
DECIDED: dict[str, Any] = {"layers": {"from": "earlier", "default": [1]}}


def plan(folder: Path, *, changes: dict[str, Any] | None = None, **overrides: Any) -> LevelPlan:
    """The level on a model of 4 layers."""
    (folder / "prompts").mkdir()
    lines = '{"id": "a", "prompt": "One."}\n{"id": "b", "prompt": "Quite another."}\n'
    (folder / "prompts" / "harm_train.jsonl").write_text(lines, encoding="utf-8")
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(LEVEL | (changes or {})), encoding="utf-8")
    model = tiny_model_folder(folder / "model", "llama")
    return plan_level(path, Overrides(model=str(model), **overrides))


@pytest.mark.parametrize(
    ("overrides", "changes", "cell", "option"),
    [
        ({"alphas": (8,)}, {}, Cell(1, "add", 4), "--steer-alphas 8"),
        ({"layers": (1,)}, {}, Cell(2, "add", 4), "--steer-layers 1"),
        ({"layers": (1,), "alphas": (8,)}, {}, Cell(2, "add", 4), "--steer-layers 1"),
        ({"layers": (1,)}, DECIDED, Cell(3, "add", 4), "--steer-layers 1"),
        ({"layers": (1,)}, {"layers": [0.5, 99]}, Cell(2, "add", 4), "--steer-layers 1"),
    ],
)
def test_a_cell_that_an_option_takes_out_is_told_with_the_option(
    tmp_path: Path, overrides: Any, changes: Any, cell: Cell, option: str
) -> None:
    planned = plan(tmp_path, changes=changes, **overrides)
    asked = asked_target(planned, "coherence", cell, None)
    assert why_not_claimed(planned, "coherence", asked) == f"{option} leaves out {cell.id}"


@pytest.mark.parametrize(
    ("overrides", "changes", "cell"),
    [
        ({"alphas": (8,)}, {}, Cell(3, "add", 4)),
        ({"alphas": (8,)}, {}, Cell(1, "ablate", 4)),
        ({"layers": (1,)}, {}, Cell(3, "add", 4)),
        ({"layers": (1,)}, {}, Cell(99, "add", 4)),
        ({"layers": (1,)}, {}, Cell(2, "ablate", 4)),
        ({"layers": (1,)}, {}, Cell(2, "add", 5)),
        ({"layers": (1,)}, DECIDED, Cell(99, "add", 4)),
        ({"layers": (1,)}, {"layers": [2, 99]}, Cell(99, "add", 4)),
    ],
)
def test_a_cell_that_never_was_the_levels_is_an_error_with_an_option_too(
    tmp_path: Path, overrides: Any, changes: Any, cell: Cell
) -> None:
    planned = plan(tmp_path, changes=changes, **overrides)
    with pytest.raises(SteeringError, match=f"found cell {cell.id}, expected one of the level's"):
        asked_target(planned, "coherence", cell, None)


@pytest.mark.parametrize("series", [(99, "add"), (2, "ablate"), ("2", "add"), 2])
def test_a_series_that_never_was_the_levels_is_an_error_with_an_option_too(
    tmp_path: Path, series: Any
) -> None:
    planned = plan(tmp_path, layers=(1,))
    assert asked_target(planned, "alpha_monotonicity", None, (2, "add")).layer == 2
    with pytest.raises(SteeringError, match=r"^series: found .*, expected one of the level's"):
        asked_target(planned, "alpha_monotonicity", None, series)
