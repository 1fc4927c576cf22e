"""The notebook for Colab, run from its first cell to its last on this machine's CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from steering_reliability.config import find_levels
from steering_reliability.results.store import CompletionStore

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 900


def execute(folder: Path, artifacts: Path, kept: Path) -> nbformat.NotebookNode:
    """The notebook as it is after the smoke level, with its outputs."""
    source = ROOT / "notebooks" / "ladder_colab.ipynb"
    # The kernel works in its notebook's folder.
    notebook = folder / source.name
    notebook.write_bytes(source.read_bytes())
    environment = os.environ | {
        "STEERING_REPOSITORY": str(ROOT),
        "STEERING_ARTIFACTS": str(artifacts),
        "STEERING_KEPT": str(kept),
        "STEERING_MODEL": "embedded",
        "STEERING_LEVELS": "smoke",
        # Whoever runs this may have start-up files of their own.
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
    }
    # In a process of its own: Jupyter's warnings are not this suite's.
    command = [sys.executable, "-c", "from nbclient.cli import main; main()", str(notebook)]
    command += ["--inplace", f"--timeout={TIMEOUT_S}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return nbformat.read(notebook, as_version=nbformat.NO_CONVERT)


def outputs_of(notebook: nbformat.NotebookNode, cell_id: str) -> Iterator[tuple[str, str]]:
    """Type and content of everything that a cell shows."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []) if cell.id == cell_id else []:
            if output.output_type == "stream":
                yield "stream", output.text
            else:
                yield from output.data.items()


@pytest.fixture(scope="module")
def kept(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a lost runtime kept: the smoke level's completions, and no results yet."""
    copy = tmp_path_factory.mktemp("notebook") / "kept"
    return shutil.copytree(artifacts, copy, ignore=shutil.ignore_patterns("runs", "tables"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts folder of a new runtime, not there yet."""
    return tmp_path_factory.mktemp("runtime") / "artifacts"


@pytest.fixture(scope="module")
def notebook(
    tmp_path_factory: pytest.TempPathFactory, own: Path, kept: Path
) -> nbformat.NotebookNode:
    return execute(tmp_path_factory.mktemp("notebook"), own, kept)


@pytest.mark.parametrize("folder", ["own", "kept"])
def test_smoke_is_run_and_packed_and_kept(
    notebook: nbformat.NotebookNode, folder: str, request: pytest.FixtureRequest
) -> None:
    artifacts: Path = request.getfixturevalue(folder)
    run = artifacts / "runs" / "smoke_test"
    assert (run / "report.html").is_file()
    assert (run / "manifest.json").is_file()
    with zipfile.ZipFile(artifacts / "smoke_test.zip") as packed:
        assert {"smoke_test/report.html", "smoke_test/summary.csv"} <= set(packed.namelist())


def test_the_kept_store_is_whole(notebook: nbformat.NotebookNode, kept: Path) -> None:
    assert [path.name for path in kept.glob("store*")] == ["store.sqlite"]
    with CompletionStore(kept / "store.sqlite") as store:
        assert store.stats().completions == 120
        assert store.verify() == []


def test_smoke_is_shown(notebook: nbformat.NotebookNode) -> None:
    outputs = list(outputs_of(notebook, "smoke"))
    text = "".join(content for kind, content in outputs if kind == "stream")
    assert "0 completions generated, 120 from the store" in text
    verdicts, summary = (content for kind, content in outputs if kind == "text/html")
    assert "alpha_raises_refusal" in verdicts
    assert "is_refusal_mean" in summary
    assert any(kind == "image/png" for kind, _ in outputs)


def test_other_levels_say_that_they_are_skipped(notebook: nbformat.NotebookNode) -> None:
    for level in set(find_levels(ROOT / "experiments")) - {"smoke"}:
        skipped = ("stream", f"{level}: skipped, it is not in LEVELS\n")
        assert list(outputs_of(notebook, level)) == [skipped]
