"""The committed notebook is a clean one, and knows every level of the ladder."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from steering_reliability.config import find_levels

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / "ladder_colab.ipynb", as_version=nbformat.NO_CONVERT)


def test_it_is_valid(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)


def test_no_results_are_committed(notebook: nbformat.NotebookNode) -> None:
    for cell in notebook.cells:
        assert not cell.get("outputs"), cell.id
        assert cell.get("execution_count") is None, cell.id


def test_every_level_is_chosen_and_has_a_cell(notebook: nbformat.NotebookNode) -> None:
    sources = {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "code"}
    for level in find_levels(ROOT / "experiments"):
        assert level in sources["settings"]
        assert f'run_level("{level}")' in sources[level]
