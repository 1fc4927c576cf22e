"""Hold the verdicts of a run against those of a second implementation, and print both."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from benchmarks.recompute.claims import CLAIMS
from benchmarks.recompute.estimates import DRAWS, EQUAL, RUN_DRAWS, Answer, Drawn
from benchmarks.recompute.run import MissingError, Run

WHY = "why there is no answer"


def recompute(run: Run, verdict: dict[str, Any]) -> Answer:
    details = verdict["details"]
    point = (details.get("layer", -1), details.get("intervention", ""), details.get("alpha", 0.0))
    claim = verdict["claim"]
    # What an earlier level's scores say of its choice is taken as told.
    told = ("goal", "layers_tried", "elsewhere_p")
    chosen = {name: details[name] for name in told if name in details}
    try:
        answer = CLAIMS[claim](run, run.claims[claim], point, 1, **chosen)
    except MissingError as missing:
        empty = dict.fromkeys(("estimate", "low", "high", "p_value"), math.nan)
        return {"outcome": "error", "n": 0, **empty, "confidence": 0.95, WHY: str(missing)}
    return {"confidence": 0.95, **answer}


def differences(verdict: dict[str, Any], answer: Answer) -> list[str]:
    """What the two do not agree on, of all that the recomputation has."""
    told = {**verdict["details"], **verdict}
    names = [name for name, value in answer.items() if not agree(told.get(name), value)]
    notes = [f"{name}: run {told.get(name)}, here {answer[name]}" for name in names if name != WHY]
    return [*notes, str(answer[WHY])] if notes and WHY in answer else notes


def agree(told: Any, value: Any) -> bool:
    if isinstance(value, bool | str):
        return bool(told == value)
    if told is None:
        return bool(math.isnan(value))
    if not isinstance(told, int | float):
        return False
    allowed = draw_error(value) if isinstance(value, Drawn) else EQUAL
    return bool(abs(told - value) <= allowed)


def draw_error(p: float) -> float:
    """Five standard errors between the run's Monte Carlo p-value and this one, and two draws."""
    variance = max(p * (1 - p), 1 / RUN_DRAWS)
    return 5 * math.sqrt(variance / RUN_DRAWS + variance / DRAWS) + 2 / RUN_DRAWS


def shown(verdict: dict[str, Any]) -> str:
    """``inconclusive +0.050 [-0.080, +0.170] n=50``."""
    estimate, low, high = (
        "?" if value is None or math.isnan(value) else f"{value:+.3f}"
        for value in (verdict[name] for name in ("estimate", "low", "high"))
    )
    return f"{verdict['outcome']:12} {estimate} [{low}, {high}] n={verdict['n']}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recompute", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run, such as artifacts/runs/smoke_test")
    folder = parser.parse_args(arguments).run
    for name in ("completions.parquet", "verdicts.json", "manifest.json"):
        if not (folder / name).is_file():
            parser.error(f"{folder}: no {name} there, expected the folder of a run")
    run = Run(folder)
    equal = different = 0
    for verdict in run.verdicts:
        name = f"{verdict['claim']} [{verdict['target']}]"
        if verdict["claim"] not in CLAIMS:
            print(f"-        {name}: no claim of the suite, not recomputed")
            continue
        answer = recompute(run, verdict)
        notes = differences(verdict, answer)
        different += bool(notes)
        equal += not notes
        print(f"{'DIFFERS' if notes else 'equal':8} {name:52} {shown(verdict)}")
        if notes:
            print(f"{'here':>8} {'':52} {shown(answer)}")
            print(*(f"{'':9}{note}" for note in notes), sep="\n")
    others = len(run.verdicts) - equal - different
    print(f"{equal} verdicts equal, {different} differ, {others} not recomputed")
    return int(different > 0 or equal == 0)


if __name__ == "__main__":
    sys.exit(main())
