"""One smoke run for all end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from smoke_runs import run_smoke


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the smoke level leaves behind."""
    folder = tmp_path_factory.mktemp("artifacts")
    done = run_smoke(folder)
    # 1 is a claim that the data contradict; anything beyond is a fault.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert "Traceback" not in done.stdout, done.stdout
    assert "report.html" in done.stdout, done.stdout
    return folder
