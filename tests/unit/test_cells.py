"""A cell's id and back."""

from __future__ import annotations

import pytest

from steering_reliability.cells import Cell


@pytest.mark.parametrize(
    "cell",
    [
        Cell(0, "add", 0),
        Cell(12, "ablate", 1.5),
        Cell(16, "add", -2),
        Cell(3, "add", 1e-7),
        Cell(3, "add", 1e20),
    ],
)
def test_a_cell_of_the_grid_is_found_by_its_id(cell: Cell) -> None:
    assert Cell.from_id(cell.id) == cell


@pytest.mark.parametrize(
    "text", ["", "layer12", "layer12-add", "layer-1-add-alpha2", Cell(12, "add", 2, "random-1").id]
)
def test_what_is_no_such_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected an id such as layer12-add-alpha2"):
        Cell.from_id(text)
