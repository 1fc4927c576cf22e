"""Directions that should not steer: random, half-flipped and reversed, of the learned one's norm.

A random direction of the same norm also moves refusal, so a learned direction only works where it
beats these on the same prompts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from steering_reliability.directions.contrastive import Contrasts
from steering_reliability.directions.diagnostics import cosine
from steering_reliability.directions.direction import Direction
from steering_reliability.errors import SteeringError

REVERSED = "reversed"
_NAME = re.compile(r"(random|shuffled)-([1-9]\d*)|reversed")
_STREAMS = {"random": 1, "shuffled": 2}
# Relative to the residual norm: what float32 leaves of differences that cancel exactly.
_ROUNDING = 1e-6


def is_control(name: str) -> bool:
    """Whether a direction of this name is one of these, and should not steer."""
    return _NAME.fullmatch(name) is not None


def build_controls(
    direction: Direction,
    names: Iterable[str],
    contrasts: Contrasts | None = None,
    *,
    seed: int = 0,
) -> dict[str, Direction]:
    """Make controls by name, all with the unit norm and residual norm of the learned direction.

    Args:
        direction: the learned direction.
        names: ``"random-1"``, ``"random-2"``, …, ``"shuffled-1"``, …, ``"reversed"``. A control
            depends on its own name, the seed and the layer, never on which others are asked for.
        contrasts: what the direction was learned from; only shuffled controls need it.
        seed: of the random and shuffled controls.

    Raises:
        SteeringError: an unknown name, or a shuffled control without (enough) contrasts.
    """
    return {name: _build(direction, name, contrasts, seed) for name in names}


def _build(direction: Direction, name: str, contrasts: Contrasts | None, seed: int) -> Direction:
    match = _NAME.fullmatch(name)
    if match is None:
        raise SteeringError(
            f"control: found {name!r}, expected 'random-1', 'shuffled-1' (or a higher number) "
            f"or {REVERSED!r}"
        )
    if name == REVERSED:
        return replace(direction, vector=-direction.vector, method=REVERSED, cosine_with_learned=-1)
    kind = match[1]
    random = np.random.default_rng([seed, _STREAMS[kind], direction.layer, int(match[2])])
    if kind == "random":
        raw = torch.from_numpy(random.standard_normal(direction.d_model))
        return _control(direction, kind, raw, direction.raw_norm)
    if contrasts is None or contrasts.layer != direction.layer:
        found = "none" if contrasts is None else f"those of layer {contrasts.layer}"
        raise SteeringError(
            f"control {name!r}: contrasts: found {found}, expected those that the direction at "
            f"layer {direction.layer} was learned from"
        )
    raw = _half_flipped(contrasts.differences, random)
    raw_norm = float(raw.norm())
    if not raw_norm > _ROUNDING * direction.residual_norm:
        raise SteeringError(
            f"control {name!r}: differences: found all the same within each pair, so that flipping "
            "half of their signs leaves nothing, expected different ones; learn from other prompts"
        )
    return _control(direction, kind, raw, raw_norm)


def _control(direction: Direction, method: str, raw: Tensor, raw_norm: float) -> Direction:
    vector = (raw / raw.norm()).float()
    return replace(
        direction,
        vector=vector,
        method=method,
        raw_norm=raw_norm,
        cosine_with_learned=cosine(vector, direction.vector),
    )


def half_signs(n_prompts: int, n_pairs: int, random: np.random.Generator) -> Tensor:
    """Signs, shape ``[n_prompts, n_pairs]``, of which exactly half are −1.

    Half within every pair too (but for one where the number of prompts is odd): a pair's
    differences agree at cosine .99 across prompts, so unequal halves would leave a multiple of
    the very direction that the control is held against. Where the whole number is odd, one more
    sign is +1.
    """
    signs = torch.ones(n_prompts, n_pairs, dtype=torch.float64)
    # With odd numbers of prompts, half of the pairs get the one flip more.
    more = set(random.permutation(n_pairs)[: n_pairs // 2].tolist()) if n_prompts % 2 else set()
    for pair in range(n_pairs):
        flipped = n_prompts // 2 + (pair in more)
        signs[torch.from_numpy(random.permutation(n_prompts)[:flipped]), pair] = -1
    return signs


def _half_flipped(differences: Tensor, random: np.random.Generator) -> Tensor:
    """Mean difference [d_model] with exactly half the signs flipped."""
    n_prompts, n_pairs, _ = differences.shape
    if n_prompts < 2:
        raise SteeringError(
            "shuffled control: found one prompt, expected at least two whose signs can be flipped"
        )
    signs = half_signs(n_prompts, n_pairs, random)
    return (signs[:, :, None] * differences.double()).mean(dim=(0, 1))
