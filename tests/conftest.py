"""Warnings are errors here, and only here: a library's new warning must not fail an experiment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tests start sessions beside each other; torch's threads would starve them by spinning while they
# wait. Read when torch is first imported, here and in those sessions.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The machines are noisy and shared; how long an example took says nothing about the code.
# The same commit gets the same answer each time; `--hypothesis-profile explore` looks further.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", patient, derandomize=True)
settings.register_profile("explore", patient)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.filterwarnings("error"), append=False)
