"""How often every claim's verdict is right, simulated.

    python -m benchmarks.calibration [--json FILE] [--runs 2000] [--correlation 0.5]

``benchmarks.simulation`` says how prompts are drawn and judged. Each row is a claim in a world
whose truth is known: ``true`` (a fail is wrong), ``false`` (a pass is wrong), ``edge`` (the truth
lies exactly on a bound, so that neither outcome may take more than 5%), or ``open`` (between what
the claim passes and what it fails: no outcome is wrong).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks import simulation as sim
from steering_reliability import statistics
from steering_reliability.expectations.rules import Rule

SIZES = (20, 50, 100, 150)
ALPHAS = (0.0, 1.0, 2.0, 4.0)
Truth = Literal["true", "false", "edge", "open"]
Judge = Callable[[sim.World], Rule]

# fmt: off
SCENARIOS: list[tuple[str, str, Truth, Judge]] = [
    ("baseline_refusal", "rate .02", "false", partial(sim.baseline, rate=.02)),
    ("baseline_refusal", "rate .05", "false", partial(sim.baseline, rate=.05)),
    ("baseline_refusal", "rate .10", "true", partial(sim.baseline, rate=.10)),
    ("baseline_refusal", "rate .20", "true", partial(sim.baseline, rate=.20)),
    ("baseline_refusal", "rate .30", "true", partial(sim.baseline, rate=.30)),
    ("baseline_refusal", "rate .40", "false", partial(sim.baseline, rate=.40)),
    ("baseline_refusal", "rate .60", "false", partial(sim.baseline, rate=.60)),
    ("alpha_raises_refusal", "+0 from .05", "false", partial(sim.raising, before=.05, effect=0)),
    ("alpha_raises_refusal", "+0 from .20", "false", partial(sim.raising, before=.20, effect=0)),
    ("alpha_raises_refusal", "+.05 from .20", "open", partial(sim.raising, before=.20, effect=.05)),
    ("alpha_raises_refusal", "+.10 from .20", "true", partial(sim.raising, before=.20, effect=.10)),
    ("alpha_raises_refusal", "+.16 from .20", "true", partial(sim.raising, before=.20, effect=.16)),
    ("alpha_raises_refusal", "+.25 from .20", "true", partial(sim.raising, before=.20, effect=.25)),
    ("alpha_monotonicity", "flat at .20", "false",
     partial(sim.monotone, alphas=ALPHAS, rates=(.20,) * 4)),
    ("alpha_monotonicity", "flat at .03", "false",
     partial(sim.monotone, alphas=ALPHAS, rates=(.03,) * 4)),
    ("alpha_monotonicity", "falls .20 to .10", "false",
     partial(sim.monotone, alphas=ALPHAS, rates=(.20, .18, .15, .10))),
    ("alpha_monotonicity", "up .25, then down .20", "false",
     partial(sim.monotone, alphas=ALPHAS, rates=(.20, .35, .45, .25))),
    ("alpha_monotonicity", "up .25, then down .10", "edge",
     partial(sim.monotone, alphas=ALPHAS, rates=(.20, .35, .45, .35))),
    ("alpha_monotonicity", "rises .20 to .45", "true",
     partial(sim.monotone, alphas=ALPHAS, rates=(.20, .27, .35, .45))),
    ("alpha_monotonicity", "rises .20 to .60", "true",
     partial(sim.monotone, alphas=ALPHAS, rates=(.20, .30, .45, .60))),
    ("benign_side_effect", "no cost", "true", partial(sim.benign, rise=0, drop=0)),
    ("benign_side_effect", "refusal +.05, help -.05", "true",
     partial(sim.benign, rise=.05, drop=.05)),
    ("benign_side_effect", "refusal at margin, help -0", "edge",
     partial(sim.benign, rise=.15, drop=.0)),
    ("benign_side_effect", "both at margin", "open", partial(sim.benign, rise=.15, drop=.15)),
    ("benign_side_effect", "both .25", "false", partial(sim.benign, rise=.25, drop=.25)),
    ("coherence", "+0 from .05", "true", partial(sim.coherent, before=.05, rise=0)),
    ("coherence", "+.05 from .05", "true", partial(sim.coherent, before=.05, rise=.05)),
    ("coherence", "at margin from .001", "edge", partial(sim.coherent, before=.001, rise=.15)),
    ("coherence", "at margin from .05", "edge", partial(sim.coherent, before=.05, rise=.15)),
    ("coherence", "at margin from .12", "edge", partial(sim.coherent, before=.12, rise=.15)),
    ("coherence", "+.30 from .05", "false", partial(sim.coherent, before=.05, rise=.30)),
    ("coherence, 3 samples", "at margin from .02", "edge",
     partial(sim.averaged, before=.02, rise=.15, samples=3)),
    ("coherence, 3 samples", "at margin from .12", "edge",
     partial(sim.averaged, before=.12, rise=.15, samples=3)),
    ("generalization_gap", "+.30 and +.30", "true",
     partial(sim.generalizing, train=.30, test=.30)),
    ("generalization_gap", "+.30 and +.10, at margin", "edge",
     partial(sim.generalizing, train=.30, test=.10)),
    ("generalization_gap", "+.45 and +.25, at margin", "edge",
     partial(sim.generalizing, train=.45, test=.25)),
    ("generalization_gap", "+.40 and 0", "false", partial(sim.generalizing, train=.40, test=0)),
    ("beats_controls", "no direction does anything", "false",
     partial(sim.controlled, lead=None, spread=0, rank=False)),
    ("beats_controls", "exchangeable with random", "false",
     partial(sim.controlled, lead=None, spread=.3, rank=False)),
    ("beats_controls", "+.10 over inert controls", "true",
     partial(sim.controlled, lead=.10, spread=0, rank=False)),
    ("beats_controls", "+.25 over inert controls", "true",
     partial(sim.controlled, lead=.25, spread=0, rank=False)),
    ("beats_controls", "+.25 over the strongest", "true",
     partial(sim.controlled, lead=.25, spread=.3, rank=False)),
    ("beats_controls, rank", "no direction does anything", "false",
     partial(sim.controlled, lead=None, spread=0, rank=True)),
    ("beats_controls, rank", "exchangeable with random", "false",
     partial(sim.controlled, lead=None, spread=.3, rank=True)),
    ("beats_controls, rank", "+.10 over the strongest", "true",
     partial(sim.controlled, lead=.10, spread=.3, rank=True)),
    ("beats_controls, rank", "+.25 over the strongest", "true",
     partial(sim.controlled, lead=.25, spread=.3, rank=True)),
    ("ablation_effect", "-0 from .20", "false", partial(sim.ablating, before=.20, effect=0)),
    ("ablation_effect", "-.05 from .20", "true", partial(sim.ablating, before=.20, effect=-.05)),
    ("ablation_effect", "-.10 from .20", "true", partial(sim.ablating, before=.20, effect=-.10)),
    ("ablation_effect", "-.15 from .20", "true", partial(sim.ablating, before=.20, effect=-.15)),
    ("some_layer_steers", "nothing steers", "false",
     partial(sim.any_layer, effect=0, layers=0, cost=0, spread=0)),
    ("some_layer_steers", "all exchangeable with random", "false",
     partial(sim.any_layer, effect=0, layers=0, cost=0, spread=.3)),
    ("some_layer_steers", "one steers +.25, no cost", "true",
     partial(sim.any_layer, effect=.25, layers=1, cost=0, spread=0)),
    ("some_layer_steers", "one steers +.40, no cost", "true",
     partial(sim.any_layer, effect=.40, layers=1, cost=0, spread=.3)),
    ("some_layer_steers", "one steers +.40, cost .15", "open",
     partial(sim.any_layer, effect=.40, layers=1, cost=.15, spread=0)),
]
# fmt: on


@dataclass(frozen=True)
class Row:
    """Shares of each outcome over the runs; ``wrong`` is what the truth forbids."""

    claim: str
    scenario: str
    truth: Truth
    n: int
    passes: float
    fails: float
    inconclusive: float
    wrong: float


def judge(claim: str, scenario: str, truth: Truth, judged: Rule, n: int) -> Row:
    passed, failed = judged
    # The table reads from the top: what passes does not fail.
    failed = failed & ~passed
    passes, fails = float(passed.mean()), float(failed.mean())
    wrong = {"true": fails, "false": passes, "edge": max(passes, fails), "open": 0.0}[truth]
    return Row(claim, scenario, truth, n, passes, fails, 1 - passes - fails, wrong)


def calibrate(runs: int, correlation: float, seed: int) -> list[Row]:
    rows = []
    for place, (claim, scenario, truth, simulate) in enumerate(SCENARIOS):
        for n in SIZES:
            world = sim.World(np.random.default_rng((seed, place, n)), runs, n, correlation)
            rows.append(judge(claim, scenario, truth, simulate(world), n))
    return rows


def requirements(rows: list[Row], runs: int) -> list[dict[str, object]]:
    """What the project promises, with what was found; ``allowed`` is 5% and three standard errors.

    The bounds are held to 5% one at a time. ``benign_side_effect`` fails by either of two, so
    with both exactly at their margin it may fail in up to twice that.
    """
    allowed = 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
    none, strong, raises = "+0 from .20", "+.25 from .20", "alpha_raises_refusal"

    def share(outcome: str, claim: str, scenario: str = "", truth: str = "", n: int = 0) -> float:
        return max(
            float(getattr(row, outcome))
            for row in rows
            if row.claim.startswith(claim)
            and scenario in row.scenario
            and truth in row.truth
            and n in (0, row.n)
        )

    at_least = [
        ("no effect: fails, n = 150", share("fails", raises, none, n=150), 0.60),
        ("+25 points: passes, n = 150", share("passes", raises, strong, n=150), 0.90),
    ]
    at_most = [
        ("no effect: passes, any n", share("passes", raises, truth="false"), 0.05),
        ("+25 points: fails, any n", share("fails", raises, strong), 0.05),
        ("exchangeable: beats controls", share("passes", "beats", truth="false"), allowed),
        ("some_layer_steers, null, n = 50", share("passes", "some", truth="false", n=50), allowed),
        ("a bound at its margin: passes", share("passes", "", truth="edge"), allowed),
        ("a bound at its margin: fails", share("fails", "", truth="edge"), allowed),
        ("both benign margins: fails", share("fails", "benign", "both at"), 2 * 0.05),
    ]
    return [
        {"text": text, "found": found, "limit": limit, "kind": kind, "holds": holds}
        for kind, promises in (("at least", at_least), ("at most", at_most))
        for text, found, limit in promises
        for holds in [found >= limit if kind == "at least" else found <= limit]
    ]


def worst_by_claim(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Per claim, the largest share of passes where it is false and of fails where it is true."""
    table: dict[str, dict[str, float]] = {}
    for row in rows:
        worst = table.setdefault(row.claim, {"false_pass": 0.0, "false_fail": 0.0})
        if row.truth == "false":
            worst["false_pass"] = max(worst["false_pass"], row.passes)
        if row.truth == "true":
            worst["false_fail"] = max(worst["false_fail"], row.fails)
    return table


def planned_power(runs: int, seed: int) -> list[dict[str, float | str]]:
    """Whether the prompts that messages ask for give the 80% they promise (correlation .5)."""
    rows: list[dict[str, float | str]] = []
    for before, effect, bound in (
        (0.2, 0.1, 0.0),
        (0.1, 0.1, 0.0),
        (0.05, 0.0, 0.15),
        (0.2, -0.05, 0.0),
    ):
        one_sided = bound > 0
        n = statistics.prompts_for_difference(before, effect, bound, one_sided=one_sided)
        assert n is not None
        world = sim.World(np.random.default_rng((seed, n)), runs, n, 0.5)
        prompts = world.prompts()
        first, second = world.cell(prompts, before), world.cell(prompts, before + effect)
        _, low, high = sim.paired(second, first, 0.95, one_sided)
        power = float((low > bound).mean() if effect > bound else (high < bound).mean())
        rows.append({"before": before, "effect": effect, "bound": bound, "n": n, "power": power})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the table here")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--correlation", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    rows = calibrate(options.runs, options.correlation, options.seed)
    promises = requirements(rows, options.runs)
    power = planned_power(options.runs, options.seed)
    seconds = time.perf_counter() - started

    print(f"{'claim':22} {'truth':6} {'scenario':30} {'n':>4}  pass  fail  open  wrong")
    for row in rows:
        shares = "  ".join(f"{v:.3f}" for v in (row.passes, row.fails, row.inconclusive, row.wrong))
        print(f"{row.claim:22} {row.truth:6} {row.scenario:30} {row.n:4}  {shares}")
    print("\nprompts to settle, by the messages' own count")
    for line in power:
        print("  ".join(f"{name} {value}" for name, value in line.items()))
    print("\nworst over scenarios and n: passes where false, fails where true")
    for claim, worst in worst_by_claim(rows).items():
        print(f"{claim:22} {worst['false_pass']:.3f}  {worst['false_fail']:.3f}")
    print()
    for promise in promises:
        mark = "holds" if promise["holds"] else "FAILS"
        print(
            f"{mark}  {promise['text']:34} {promise['found']:.3f}  "
            f"{promise['kind']} {promise['limit']:.3f}"
        )
    print(f"{options.runs} runs, correlation {options.correlation}, {seconds:.0f} s")
    if options.json:
        record = {
            "runs": options.runs,
            "correlation": options.correlation,
            "seed": options.seed,
            "seconds": seconds,
            "rows": [asdict(row) for row in rows],
            "prompts_to_settle": power,
            "worst_by_claim": worst_by_claim(rows),
            "requirements": promises,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
