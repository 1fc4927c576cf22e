"""What each row's steering does to a residual stream, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from steering_reliability.cells import Cell
from steering_reliability.directions import Direction
from steering_reliability.directions.controls import build_controls
from steering_reliability.engine.lens import intervene
from steering_reliability.errors import SteeringError
from steering_reliability.interventions import Directions, RowSteering, resolve_steering

WIDTH, LAYER = 16, 1
CELLS = [
    Cell(LAYER, "add", 2),
    Cell(LAYER, "ablate", 1),
    Cell(LAYER, "ablate", 4),
    Cell(LAYER, "add", 2, "random-1"),
]
CONTROL = Cell(LAYER, "ablate", 1, "random-1")


@pytest.fixture(scope="module")
def directions() -> Directions:
    vector = torch.randn(WIDTH, generator=torch.Generator().manual_seed(3))
    learned = Direction(vector / vector.norm(), LAYER, 1.0, 8.0)
    controls = build_controls(learned, ["random-1", "random-2", "reversed"])
    return {
        ("learned", LAYER): learned,
        **{(name, LAYER): control for name, control in controls.items()},
    }


def residual_stream(rows: int, positions: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(11)
    return torch.randn(rows, positions, WIDTH, generator=generator)


def steered(cells: list[Cell | None], directions: Directions, h: torch.Tensor) -> torch.Tensor:
    rows = RowSteering(len(cells), WIDTH, h.device, h.dtype)
    for row, cell in enumerate(cells):
        rows.set_row(row, None if cell is None else resolve_steering(cell, directions, 0.125))
    return rows.apply(LAYER, h)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_a_control_takes_away_as_much_as_the_learned_direction(
    directions: Directions, alpha: float
) -> None:
    cells: list[Cell | None] = [
        replace(CONTROL, alpha=alpha, direction=name) for name in ("random-1", "random-2")
    ]
    h = residual_stream(rows=2)
    moved = steered(cells, directions, h) - h
    v = directions["learned", LAYER].vector
    torch.testing.assert_close(moved.norm(dim=-1), alpha * (h @ v).abs())
    for row, name in enumerate(("random-1", "random-2")):
        u = directions[name, LAYER].vector
        along = moved[row] @ u
        torch.testing.assert_close(along[:, None] * u, moved[row])
        assert torch.equal(along.sign(), -(h[row] @ u).sign()), "it goes against its component"


def test_ablating_along_the_learned_line_is_ablation(directions: Directions) -> None:
    h = residual_stream(rows=2)
    plain, backwards = steered(
        [Cell(LAYER, "ablate", 1), replace(CONTROL, direction="reversed")], directions, h[[0, 0]]
    )
    torch.testing.assert_close(plain, backwards)


def test_mates_that_are_controls_change_no_bit_of_other_rows(directions: Directions) -> None:
    h = residual_stream(rows=len(CELLS) + 2)
    alone = steered([*CELLS, None, None], directions, h)
    mated = steered([*CELLS, None, CONTROL], directions, h)
    assert torch.equal(alone[:-1], mated[:-1])
    assert torch.equal(mated[-2], h[-2])
    assert not torch.equal(mated[-1], h[-1])


def test_moving_and_clearing_a_row_takes_its_matching_along(directions: Directions) -> None:
    h = residual_stream(rows=3)
    rows = RowSteering(3, WIDTH, h.device, h.dtype)
    rows.set_row(0, resolve_steering(CONTROL, directions, 0.125))
    expected = rows.apply(LAYER, h[[0, 0, 0]])[0]
    rows.move_row(0, 2)
    moved = rows.apply(LAYER, h[[0, 0, 0]])
    assert torch.equal(moved[2], expected)
    assert torch.equal(moved[:2], h[[0, 0]])
    rows.set_row(2, resolve_steering(Cell(LAYER, "ablate", 1, "learned"), directions, 0.125))
    plain = steered([Cell(LAYER, "ablate", 1)] * 3, directions, h)
    assert torch.equal(rows.apply(LAYER, h)[2], plain[2])


def test_the_second_implementation_agrees(directions: Directions) -> None:
    cells: list[Cell | None] = [*CELLS, CONTROL]
    h = residual_stream(rows=len(cells))
    found = steered(cells, directions, h)
    for row, cell in enumerate(cells):
        assert cell is not None
        steering = resolve_steering(cell, directions, 0.125)
        assert steering is not None
        torch.testing.assert_close(intervene(h[[row]], steering)[0], found[row])


def test_a_control_needs_the_learned_direction(directions: Directions) -> None:
    alone = {key: value for key, value in directions.items() if key[0] != "learned"}
    with pytest.raises(SteeringError) as caught:
        resolve_steering(CONTROL, alone, 0.125)
    message = str(caught.value)
    assert "cell layer1-ablate-alpha1-random-1: no direction 'learned' for layer 1" in message
    assert "\n" not in message
    added = resolve_steering(replace(CONTROL, intervention="add"), alone, 0.125)
    assert added is not None
    assert added.measured is None


def test_a_direction_of_ones_own_is_ablated_by_itself(directions: Directions) -> None:
    mine = {("mine", LAYER): directions["random-1", LAYER]}
    steering = resolve_steering(replace(CONTROL, direction="mine"), mine, 0.125)
    assert steering is not None
    assert steering.measured is None
