"""Projects for the plugin's tests. Runs cost seconds each, so tests that only look share one."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import Project

from tests.tiny_models import tiny_model_folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model of 4 layers."""
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def project(tmp_path: Path, model: Path) -> Project:
    """A project of the test's own, with the smoke level."""
    return Project(tmp_path / "project", model)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Project:
    """A project that tests share: they may run it, each in artifacts of its own."""
    return Project(tmp_path_factory.mktemp("shared") / "project", model)


@pytest.fixture(scope="session")
def undisturbed(shared: Project) -> pytest.RunResult:
    """The smoke level, run once from nothing into the shared project's artifacts."""
    result = shared.run("experiments", "-m", "smoke")
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    return result
