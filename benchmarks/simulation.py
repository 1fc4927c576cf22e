"""Simulated prompts, and every claim judged on all runs at once.

Prompts have latent normal scores, correlated between the cells of a prompt as in real runs; a
completion shows a property where the score is under the threshold of the cell's true rate. The
intervals and the rules are those that decide in ``steering_reliability``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from steering_reliability import statistics
from steering_reliability.claims import (
    AblationEffect,
    AlphaMonotonicity,
    AlphaRaisesRefusal,
    BaselineRefusal,
    BeatsControls,
    BenignSideEffect,
    Coherence,
    GeneralizationGap,
)
from steering_reliability.expectations import rules
from steering_reliability.expectations.comparison_claims import step_confidence

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Bounds = tuple[Floats, Floats, Floats]

GRID_LAYERS, GRID_ALPHAS, GRID_CONTROLS, RANK_CONTROLS = 3, 2, 6, 19


@dataclass(frozen=True)
class World:
    """A simulated set of prompts, all runs at once; cells share each prompt's latent score."""

    rng: np.random.Generator
    runs: int
    n: int
    correlation: float

    def prompts(self) -> Floats:
        return self.rng.standard_normal((self.runs, self.n))

    def cell(self, prompts: Floats, rate: float | Floats) -> Bools:
        """``[runs, n]``; the rate is one number or one per run."""
        noise = self.rng.standard_normal(prompts.shape)
        score = np.sqrt(self.correlation) * prompts + np.sqrt(1 - self.correlation) * noise
        threshold = ndtri(np.clip(np.asarray(rate, dtype=float), 0, 1))
        return np.asarray(score < np.reshape(threshold, (-1, 1)))


def paired(after: Bools, before: Bools, confidence: float, one_sided: bool = False) -> Bounds:
    """Newcombe's difference and bounds, one per run."""
    both, gained = (after & before).sum(1), (after & ~before).sum(1)
    lost, n = (~after & before).sum(1), after.shape[1]
    z = statistics.critical_value(confidence, one_sided)
    low, high = statistics.newcombe_bounds(both, gained, lost, n - both - gained - lost, z)
    return np.asarray((gained - lost) / n), low, high


def baseline(world: World, rate: float) -> rules.Rule:
    s = BaselineRefusal()
    point = world.cell(world.prompts(), rate).mean(1)
    inner, outer = (
        statistics.wilson_bounds(point, world.n, statistics.critical_value(confidence))
        for confidence in (0.90, 0.95)
    )
    return rules.within_band(
        point, inner, outer, (s.low, s.high), (s.interval_low, s.interval_high)
    )


def raising(world: World, before: float, effect: float) -> rules.Rule:
    prompts = world.prompts()
    unsteered, steered = world.cell(prompts, before), world.cell(prompts, before + effect)
    return rules.raises(*paired(steered, unsteered, 0.95), AlphaRaisesRefusal().least_effect)


def ablating(world: World, before: float, effect: float) -> rules.Rule:
    s, prompts = AblationEffect(), world.prompts()
    unsteered, steered = world.cell(prompts, before), world.cell(prompts, before + effect)
    applies = unsteered.mean(1) >= s.least_baseline - rules.ROUNDING
    passes, fails = rules.lowers(*paired(steered, unsteered, 0.95), s.least_effect)
    return passes & applies, fails & applies


def monotone(world: World, alphas: tuple[float, ...], rates: tuple[float, ...]) -> rules.Rule:
    prompts = world.prompts()
    cells = [world.cell(prompts, rate) for rate in rates]
    slopes = statistics.prompt_slopes(np.stack(cells, axis=-1), alphas)
    low, high = statistics.bootstrap_bounds(slopes)
    steps = [
        paired(after, before, step_confidence(len(cells) - 1), one_sided=True)
        for before, after in pairwise(cells)
    ]
    passes, fails = rules.never_falls(
        low,
        high,
        np.stack([step[1] for step in steps], axis=-1),
        np.stack([step[2] for step in steps], axis=-1),
        AlphaMonotonicity().tolerance,
    )
    spread = np.ptp(slopes, axis=1) > 0
    return passes & spread, fails & spread


def benign(world: World, rise: float, drop: float) -> rules.Rule:
    return costs_little(benign_cells(world, rise, drop), 0.95)


def benign_cells(world: World, rise: float, drop: float) -> tuple[Bools, Bools, Bools, Bools]:
    """Refused and helped, after and before: refusal rises from .06, helpfulness drops from .85."""
    prompts = world.prompts()
    refused, refuses = world.cell(prompts, 0.06), world.cell(prompts, 0.06 + rise)
    quality = world.prompts()

    def helpful(refusing: Bools, refusal: float, rate: float) -> Bools:
        return ~refusing & world.cell(quality, rate / (1 - refusal))

    helped, helps = helpful(refused, 0.06, 0.85), helpful(refuses, 0.06 + rise, 0.85 - drop)
    return refuses, refused, helps, helped


def costs_little(cells: tuple[Bools, Bools, Bools, Bools], confidence: float) -> rules.Rule:
    margin = BenignSideEffect().margin
    refuses, refused, helps, helped = cells
    rise = paired(refuses, refused, confidence, one_sided=True)
    drop = paired(helped, helps, confidence, one_sided=True)
    return rules.both_stay_under(
        rules.stays_under(*rise[1:], margin), rules.stays_under(*drop[1:], margin)
    )


def coherent(world: World, before: float, rise: float) -> rules.Rule:
    prompts = world.prompts()
    clean, broken = world.cell(prompts, before), world.cell(prompts, before + rise)
    return rules.stays_under(*paired(broken, clean, 0.95, one_sided=True)[1:], Coherence().margin)


def averaged(world: World, before: float, rise: float, samples: int) -> rules.Rule:
    """The coherence claim with several samples per prompt, through the averaging estimator."""
    prompts = world.prompts()
    within = World(world.rng, world.runs, world.n, 0.5)

    def mean(rate: float) -> Floats:
        cell = np.sqrt(0.5) * (prompts + world.prompts())
        return np.asarray(np.mean([within.cell(cell, rate) for _ in range(samples)], axis=0))

    clean, broken = mean(before), mean(before + rise)
    found = [
        statistics.paired_difference(after, first, one_sided=True)
        for after, first in zip(broken, clean, strict=True)
    ]
    low, high = (np.array([getattr(e, side) for e in found]) for side in ("low", "high"))
    return rules.stays_under(low, high, Coherence().margin)


def generalizing(world: World, train: float, test: float) -> rules.Rule:
    effects = []
    for effect in (train, test):
        prompts = world.prompts()
        unsteered, steered = world.cell(prompts, 0.20), world.cell(prompts, 0.20 + effect)
        effects.append(paired(steered, unsteered, 0.95, one_sided=True))
    (x, low1, high1), (y, low2, high2) = effects
    low, high = statistics.mover_bounds(x, low1, high1, y, low2, high2)
    return rules.stays_under(low, high, GeneralizationGap().margin)


def directions(world: World, count: int, spread: float) -> Floats:
    """``[runs, count]`` true rates of exchangeable directions around .20, on the latent scale."""
    return np.asarray(ndtr(ndtri(0.20) + spread * world.rng.standard_normal((world.runs, count))))


def strongest(learned: Bools, rivals: list[Bools], confidence: float) -> tuple[Bounds, Floats]:
    """Difference to each run's strongest control, and the rank p-value."""
    means = np.stack([rival.mean(1) for rival in rivals], axis=1)
    best = np.stack(rivals)[means.argmax(1), np.arange(len(learned))]
    beaten_by = (means >= learned.mean(1)[:, None] - 1e-12).sum(1)
    return paired(learned, best, confidence), (1 + beaten_by) / (len(rivals) + 1)


def controlled(world: World, lead: float | None, spread: float, rank: bool) -> rules.Rule:
    """``lead`` None: the learned direction is drawn like its controls."""
    s, prompts = BeatsControls(), world.prompts()
    count = RANK_CONTROLS if rank else GRID_CONTROLS
    rates = directions(world, count + 1, spread)
    own = rates[:, 0] if lead is None else np.clip(rates[:, 1:].max(1) + lead, 0, 1)
    learned = world.cell(prompts, own)
    rivals = [world.cell(prompts, rates[:, i]) for i in range(1, count + 1)]
    bounds, p_value = strongest(learned, rivals, 0.95)
    if rank:
        return rules.outranks(p_value, bounds[2], s.rank_p, s.least_effect)
    return rules.raises(*bounds, s.least_effect)


def any_layer(world: World, effect: float, layers: int, cost: float, spread: float) -> rules.Rule:
    """Three layers, two alphas; ``effect`` in the first ``layers``, exchangeable elsewhere."""
    harm, train = world.prompts(), world.prompts()
    unsteered, trained = world.cell(harm, 0.20), world.cell(train, 0.20)
    met, all_fail = np.zeros(world.runs, bool), np.ones(world.runs, bool)
    shared = 1 - 0.05 / (GRID_LAYERS * GRID_ALPHAS)
    for layer in range(GRID_LAYERS):
        # A direction is what it is at every alpha: its true effect is drawn once per layer.
        rates = directions(world, GRID_CONTROLS + 1, spread)
        own = np.full(world.runs, 0.20 + effect) if layer < layers else rates[:, 0]
        for _ in range(GRID_ALPHAS):
            learned, on_train = world.cell(harm, own), world.cell(train, own)
            rivals = [world.cell(harm, rate) for rate in rates[:, 1:].T]
            side = benign_cells(world, cost, cost)
            x, y = (
                paired(after, before, 0.95, one_sided=True)
                for after, before in ((on_train, trained), (learned, unsteered))
            )
            gap_fails = statistics.mover_bounds(*x, *y)[0] > GeneralizationGap().margin
            raised, beaten, cheap = _asked(learned, unsteered, rivals, side, 0.95)
            failed = raised[1] | beaten[1] | cheap[1] | gap_fails
            adjusted = _asked(learned, unsteered, rivals, side, shared)
            met |= np.all([passes for passes, _ in adjusted], axis=0) & ~failed
            all_fail &= failed
    return met, all_fail


def _asked(
    learned: Bools,
    unsteered: Bools,
    rivals: list[Bools],
    side: tuple[Bools, Bools, Bools, Bools],
    confidence: float,
) -> list[rules.Rule]:
    against, _ = strongest(learned, rivals, confidence)
    return [
        rules.raises(*paired(learned, unsteered, confidence), AlphaRaisesRefusal().least_effect),
        rules.raises(*against, BeatsControls().least_effect),
        costs_little(side, confidence),
    ]
