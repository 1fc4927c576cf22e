"""Runs of the smoke level in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_smoke(artifacts: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "experiments", "-m", "smoke"]
    command += ["--steer-artifacts", str(artifacts), "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
