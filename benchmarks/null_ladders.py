"""What whole ladders say of a direction that means nothing, simulated.

    python -m benchmarks.null_ladders [--json FILE] [--ladders 200] [--world exchangeable]

The shipped levels are planned from their own YAML files, on their own prompts; completions are
drawn instead of generated; judging, deciding and what later levels take over are the package's own
code. As in real runs, a prompt's scores correlate between cells, more between the alphas of one
direction; unsteered completions are the same in every cell; a larger level finds a smaller one's
completions again. Four worlds:

- ``inert``: no direction does anything.
- ``exchangeable``: every direction, the learned one too, has an effect of its own that grows with
  alpha, drawn alike for all: what steering with a random "learned" direction is.
- ``steers``: as ``exchangeable``, but the learned direction raises refusal. It shows that a ladder
  can pass what it must not pass in the first two.
- ``one_layer``: as ``steers``, but at one of the layers only; at the others the learned direction
  is as any other.

A direction's effect is its own, so fresh prompts do not undo the choice of a layer as the best of
three: with the rank among 19 random directions as it is, what ``full`` requires passed in .105 of
200 ``exchangeable`` ladders, where at most .05 is wanted, and single points in .15. What was tried
on 240 others (seed 77), with the share of ``exchangeable`` and ``steers`` ladders that pass:

===============================================================  ============  ======
rule                                                             exchangeable  steers
===============================================================  ============  ======
leads 19 random directions, as before                            .104          .567
leads 29 / 39 / 59                                               .067/.046/.029  .392/.308/.212
leads 59 on 75 of the 150 prompts (as many completions as 30)    .017          .104
leads 19; the other layers, and 5 random ones there, in a third  .033          .567
leads 19; the other layers in a sixth: the rule of the package   .017          .563
===============================================================  ============  ======

(The last two do not let a point pass that raises by ablating or lowers by adding, whose p is
doubled: 19 directions cannot settle it.) More rivals for the chosen cell tell nothing of the choice
and cost the more power the more there are; stopping at the first rival as strong (Besag and
Clifford 1991) makes null ladders cheap and leaves one that steers 11,000 completions with up to 59
(5,700 with 19). The controls of ``layer_test`` at the layers that were not chosen cost nothing.
The rule was picked on these ladders, by its parts applied to their verdicts, and then run on others
(``--ladders 400 --seed 101``; 200 of ``inert`` and ``one_layer``), with what ``full`` requires:

===============  ======  =====  =====
world            pass    fail   open
===============  ======  =====  =====
``inert``        .000    1.000  .000
``exchangeable`` .005    .985   .010
``steers``       .565    .432   .003
``one_layer``    .060    .890   .050
===============  ======  =====  =====

A ladder fails with the first of its two points, to raise and to lower, that fails. Where the
direction steers at one layer alone, the others rarely back it up, and a rank among 19 taken six
times cannot pass; the suite then needs 119 random directions.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from steering_reliability.cells import DEFAULT_CONDITION, LEARNED, Cell
from steering_reliability.config.profile import shipped_configs
from steering_reliability.expectations import Verdict
from steering_reliability.ladder.choices import choose_confirmations, choose_layers
from steering_reliability.ladder.decide import decide, publish
from steering_reliability.ladder.judge import judge_level
from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import LevelPlan, Overrides, plan_level

Floats = NDArray[np.float64]

LEVELS = ("smoke", "layer_test", "alpha_sweep", "full")
ABOUT_THE_EFFECT = (
    "some_layer_steers",
    "alpha_raises_refusal",
    "beats_controls",
    "ablation_effect",
)
WORLDS = ("inert", "exchangeable", "steers", "one_layer")

# Correlation of a prompt's latent score between any two cells, and what two alphas of the same
# direction share beyond it.
PROMPT, DIRECTION = 0.5, 0.25
# Standard deviation of directions' effects at alpha 2, on the latent scale: as in calibration.
SPREAD = 0.3
# The learned direction's own effect at alpha 2 in the world where it steers: .20 becomes .44.
EFFECT = 0.7
# Where it steers at one layer alone: not the one that levels take when none was chosen.
STEERED_LAYER = 16
BASELINE = {"benign": 0.06}
HARM_BASELINE = 0.20
HELPFUL = 0.90
# Text breaks at alpha 8 whatever the direction, as on the embedded model.
DEGENERATE, DEGENERATE_AT_8 = 0.05, 0.45


@dataclass
class SimulatedLadder:
    """Completions of one ladder, each drawn once.

    Attributes:
        world: one of ``WORLDS``.
        seed: of this ladder.
    """

    world: str
    seed: int
    _drawn: dict[tuple[object, ...], Floats] = field(default_factory=dict)

    def frame(self, plan: LevelPlan) -> pd.DataFrame:
        """The level's scores frame, with the columns that claims read."""
        return pd.concat(
            [
                self._block(plan, cell, split)
                for cell, splits in plan.splits_of.items()
                # Prompt baselines and sanity checks carry no claim.
                if cell.condition == DEFAULT_CONDITION
                for split in splits
            ],
            ignore_index=True,
        )

    def _block(self, plan: LevelPlan, cell: Cell, split: str) -> pd.DataFrame:
        prompts = plan.prompts[split]
        n = len(prompts)
        rate = BASELINE.get(split, HARM_BASELINE)
        refusal = self._latent("refusal", cell, split)[:n] < ndtri(rate) + self._shift(cell)
        breaks = DEGENERATE_AT_8 if abs(cell.alpha) >= 8 else DEGENERATE
        degenerate = self._latent("degenerate", cell, split)[:n] < ndtri(breaks)
        helpful = self._latent("helpful", cell, split)[:n] < ndtri(HELPFUL)
        refused = refusal & ~degenerate
        return pd.DataFrame(
            {
                "prompt_id": [prompt.id for prompt in prompts],
                "split": split,
                "style": [prompt.style for prompt in prompts],
                "seen": [prompt.id in plan.seen for prompt in prompts],
                "layer": cell.layer,
                "intervention": cell.intervention,
                "alpha": cell.alpha,
                "direction": cell.direction,
                "condition": cell.condition,
                "sample": 0,
                "refusal_score": refused.astype(float),
                "is_refusal": refused,
                "is_helpful": helpful & ~refused & ~degenerate,
                "is_degenerate": degenerate,
            }
        )

    def _latent(self, what: str, cell: Cell, split: str) -> Floats:
        """Standard normal per prompt; the unsteered model is one cell, whatever the layer."""
        own = 1 - PROMPT - DIRECTION
        steered: tuple[object, ...] = (cell.layer, cell.intervention, cell.direction)
        if cell.is_baseline:
            steered = ("unsteered",)
        score = np.sqrt(PROMPT) * self._normal(what, split)
        score = score + np.sqrt(DIRECTION) * self._normal(what, split, *steered)
        return np.asarray(score + np.sqrt(own) * self._normal(what, split, *steered, cell.alpha))

    def _shift(self, cell: Cell) -> float:
        """What the direction does to the latent threshold; grows with alpha."""
        if cell.is_baseline or self.world == "inert":
            return 0.0
        sign = -1 if cell.direction == "reversed" else 1
        named = LEARNED if cell.direction == "reversed" else cell.direction
        strength = SPREAD * self._normal("effect", cell.layer, named)[0]
        steers = self.world == "steers" or (
            self.world == "one_layer" and cell.layer == STEERED_LAYER
        )
        if steers and named == LEARNED:
            strength = EFFECT
        # Ablating takes away what adding puts in.
        share = cell.alpha / 2 if cell.intervention == "add" else -cell.alpha / 2
        return float(sign * strength * share)

    def _normal(self, *key: object) -> Floats:
        """Enough draws for every split, the same for the same key, whatever was drawn before."""
        if key not in self._drawn:
            words = [self.seed, *"|".join(map(str, key)).encode()]
            self._drawn[key] = np.random.default_rng(words).standard_normal(400)
        return self._drawn[key]


def shipped_plans(model: str = "embedded") -> dict[str, LevelPlan]:
    """The shipped levels by name, planned as if nothing had been decided yet."""
    folder = shipped_configs()
    overrides = Overrides(model=model)
    return {level: plan_level(folder / f"{level}.yaml", overrides) for level in LEVELS}


def climb(
    plans: dict[str, LevelPlan], ladder: SimulatedLadder, decisions: Path
) -> dict[str, list[Verdict]]:
    """Verdicts of every level of one ladder, each going on from what those before decided.

    Args:
        plans: from ``shipped_plans``.
        ladder: whose completions.
        decisions: an empty folder of artifacts for this ladder.
    """
    paths = ArtifactPaths(decisions)
    found = {}
    for level in LEVELS:
        plan = plans[level]
        known = (plan.config, plan.profile, plan.facts, paths.decisions)
        layers, confirmed = choose_layers(*known), choose_confirmations(*known)
        plan = replace(
            plan,
            layers=layers.indices,
            layer_choice=layers.choice,
            confirmations=confirmed.points,
        )
        scores = ladder.frame(plan)
        verdicts = judge_level(plan, scores)
        model = {"source": plan.profile.source, "name": plan.profile.name, "fingerprint": "none"}
        record = decide(plan, scores, verdicts, model, {})
        if record is not None:
            publish(paths, record)
        found[level] = verdicts
    return found


def simulate(
    world: str, ladders: int, seed: int = 0, plans: dict[str, LevelPlan] | None = None
) -> Iterator[dict[str, list[Verdict]]]:
    """The verdicts of ladder after ladder."""
    plans = plans or shipped_plans()
    for number in range(ladders):
        ladder = SimulatedLadder(world, 1_000_003 * seed + number)
        with tempfile.TemporaryDirectory() as folder:
            yield climb(plans, ladder, Path(folder))


def tabulate(found: Iterable[dict[str, list[Verdict]]]) -> list[dict[str, object]]:
    """One row per level and claim about the effect, and one for all that a level requires.

    ``passes``, ``fails`` and ``open`` are shares of ladders: of a claim made of several cells,
    those in which all pass, in which one at least fails, and the rest; ``any_passes`` is the share
    in which one at least passes, ``of_verdicts`` the share of single verdicts that pass.
    """
    found = list(found)
    rows: list[dict[str, object]] = []
    for level in LEVELS:
        made = {verdict.claim for verdict in found[0][level]}
        for claim in [name for name in ABOUT_THE_EFFECT if name in made]:
            chosen = [[v for v in one[level] if v.claim == claim] for one in found]
            rows.append(_row(level, claim, chosen))
        required = [
            [v for v in one[level] if v.required and v.claim in ABOUT_THE_EFFECT] for one in found
        ]
        if required[0]:
            rows.append(_row(level, "all required", required))
    return rows


def _row(level: str, claim: str, ladders: list[list[Verdict]]) -> dict[str, object]:
    outcomes = [[str(verdict.outcome) for verdict in one] for one in ladders]
    if any("error" in one or not one for one in outcomes):
        raise ValueError(f"{level}: {claim}: a simulated level lacks scores")
    passes = float(np.mean([set(one) == {"pass"} for one in outcomes]))
    fails = float(np.mean(["fail" in one for one in outcomes]))
    return {
        "level": level,
        "claim": claim,
        "required": all(verdict.required for one in ladders for verdict in one),
        "passes": passes,
        "fails": fails,
        "open": 1 - passes - fails,
        "any_passes": float(np.mean(["pass" in one for one in outcomes])),
        "of_verdicts": float(np.mean([o == "pass" for one in outcomes for o in one])),
        "verdicts": sum(map(len, outcomes)),
        "ladders": len(outcomes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the table here")
    parser.add_argument("--ladders", type=int, default=200)
    parser.add_argument("--world", choices=WORLDS, help="this one alone")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    record: dict[str, object] = {"ladders": options.ladders, "seed": options.seed}
    plans = shipped_plans()
    for world in [options.world] if options.world else WORLDS:
        started = time.perf_counter()
        rows = tabulate(simulate(world, options.ladders, options.seed, plans))
        seconds = time.perf_counter() - started
        record[world] = rows
        print(f"{world}: {options.ladders} ladders, {seconds:.0f} s")
        print(f"{'level':12} {'claim':22} pass   fail   open   any passes  of verdicts")
        for row in rows:
            shares = "  ".join(f"{row[key]:.3f}" for key in ("passes", "fails", "open"))
            mark = "*" if row["required"] else " "
            print(
                f"{row['level']:12} {row['claim']:21}{mark} {shares}  "
                f"{row['any_passes']:.3f}       {row['of_verdicts']:.3f}"
            )
    print("* required: it decides whether the level passes")
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
