"""Is anything lost when a level is killed, wherever it is killed?

``python -m benchmarks.kills --artifacts FOLDER``: runs a level on the embedded model undisturbed;
runs it again in another folder, killed with SIGKILL at random moments and started again each time;
and compares what is left. The kills are spread over the time that the undisturbed run took, so
they fall into loading, learning, generating and writing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

LEVEL = "layer_test"


def start(artifacts: Path, level: str) -> subprocess.Popen[bytes]:
    """The level as its user starts it, in a process group of its own."""
    command = [sys.executable, "-m", "pytest", "experiments", "-m", level, "-q"]
    command += ["--steer-artifacts", str(artifacts)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def stored(artifacts: Path) -> set[str]:
    """Keys of the completions in the store."""
    path = artifacts / "store.sqlite"
    if not path.exists():
        return set()
    with sqlite3.connect(path) as connection:
        return {key for (key,) in connection.execute("SELECT key FROM completions")}


def disturb(artifacts: Path, level: str, kills: int, duration: float, seed: int) -> list[int]:
    """Kill the level so many times; how many completions were stored after each."""
    chance = random.Random(seed)
    counts, kept = [], set[str]()
    for _ in range(kills):
        process = start(artifacts, level)
        try:
            process.wait(timeout=chance.uniform(2.0, 2.5 * duration / kills))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = stored(artifacts)
        if not kept <= now:
            raise SystemExit(f"{len(kept - now)} stored completions were lost by a kill")
        kept = now
        counts.append(len(kept))
        print(f"  killed: {len(kept)} completions stored", flush=True)
    return counts


def results(artifacts: Path, level: str) -> tuple[bytes, int]:
    """A level's summary.csv, and how many completions its last run made itself."""
    for path in (artifacts / "runs").glob("*/manifest.json"):
        manifest = json.loads(path.read_text("utf-8"))
        if manifest["level"] == level:
            return path.with_name("summary.csv").read_bytes(), int(manifest["generated"])
    raise SystemExit(f"{artifacts}: no finished run of {level}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=Path, required=True, help="an empty folder")
    parser.add_argument("--level", default=LEVEL)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--undisturbed", type=Path, help="artifacts of a run to compare with")
    parser.add_argument("--seconds", type=float, default=300, help="how long that run took")
    options = parser.parse_args()
    whole, duration = options.undisturbed, options.seconds
    if whole is None:
        whole = options.artifacts / "undisturbed"
        started = time.monotonic()
        start(whole, options.level).wait()
        duration = time.monotonic() - started
        print(f"undisturbed: {len(stored(whole))} completions, {duration:.0f} s", flush=True)
    broken = options.artifacts / "killed"
    before = disturb(broken, options.level, options.kills, duration, options.seed)
    start(broken, options.level).wait()
    summary, last = results(broken, options.level)
    same = summary == results(whole, options.level)[0]
    again = last - (len(stored(broken)) - before[-1])
    print(f"after {options.kills} kills and a last run: summary.csv the same: {same}")
    print(f"{len(stored(broken))} stored; the last run made {last}, {again} of them once more")
    if not same or again:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
