"""What can be said of a direction before anything is generated with it."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import torch
from scipy import stats
from torch import Tensor


def cosine(left: Tensor, right: Tensor) -> float:
    """Cosine of the angle between two vectors, in [-1, 1]; NaN if either is zero."""
    left, right = left.double(), right.double()
    norms = float(left.norm() * right.norm())
    if norms == 0:
        return math.nan
    return max(-1.0, min(1.0, float(left @ right) / norms))


def pair_agreement(differences: Tensor) -> float:
    """Mean cosine between the directions of different prefix pairs.

    One pair's direction is mostly the difference of two fixed texts and so agrees with itself on
    any prompts; that pairs in different words agree is what speaks for a common meaning.

    Args:
        differences: residual differences, shape ``[n_prompts, n_pairs, d_model]``.

    Returns:
        The mean over all unordered couples of pairs; NaN for a single pair.
    """
    directions = torch.unbind(differences.double().mean(dim=0))
    cosines = [cosine(left, right) for left, right in combinations(directions, 2)]
    return sum(cosines) / len(cosines) if cosines else math.nan


def halved_cosines(differences: Tensor, orders: Tensor | None = None) -> Tensor:
    """Cosines between each pair's direction on one half of the prompts and each's on the other.

    Rounding noise depends on prompt and shape of the batch, not on what a prefix says, so that on
    the same prompts the noise of two pairs can be the very same vector and agree at cosine 1. On
    other prompts only what the pairs mean, or how their texts differ, can agree.

    Args:
        differences: ``[n_prompts, n_pairs, d_model]``, at least two prompts.
        orders: of the prompts, ``[n_halvings, n_prompts]``; the first half of each is held against
            the second. As they are if None.

    Returns:
        ``[n_halvings, n_pairs, n_pairs]``, symmetric; 0 where a pair leaves no difference at all.
    """
    n_prompts = len(differences)
    orders = torch.arange(n_prompts)[None] if orders is None else orders
    in_first = torch.zeros(orders.shape, dtype=torch.float64)
    in_first.scatter_(1, orders[:, : n_prompts // 2], 1)
    halves = []
    for chosen in (in_first, 1 - in_first):
        # Sums are enough: a cosine does not ask how many prompts they are of.
        by_pair = torch.tensordot(chosen, differences.double(), dims=1)
        norms = by_pair.norm(dim=-1, keepdim=True)
        halves.append(by_pair / torch.where(norms == 0, torch.ones_like(norms), norms))
    cosines = halves[0] @ halves[1].mT
    return (cosines + cosines.mT) / 2


def halved_agreement(
    differences: Tensor, *, halvings: int = 100, seed: int = 0
) -> tuple[float, float]:
    """``pair_agreement`` between pairs on different halves of the prompts.

    Args:
        differences: shape ``[n_prompts, n_pairs, d_model]``.
        halvings: random halvings of the prompts.
        seed: of the halvings.

    Returns:
        The mean over all couples of different pairs, in [-1, 1]: its median over the halvings, and
        what 95% of the halvings exceed. NaN for a single pair or prompt.
    """
    n_prompts, n_pairs, _ = differences.shape
    if n_prompts < 2 or n_pairs < 2:
        return math.nan, math.nan
    random = np.random.default_rng(seed)
    orders = np.stack([random.permutation(n_prompts) for _ in range(halvings)])
    cosines = halved_cosines(differences, torch.from_numpy(orders))
    couples = cosines.sum(dim=(1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(dim=1)
    found = (couples / (n_pairs * (n_pairs - 1))).tolist()
    return _quantile(found, 0.5), _quantile(found, 0.05)


def diagnose(
    differences: Tensor, midpoints: Tensor | None = None, *, halves: int = 100, seed: int = 0
) -> dict[str, float]:
    """What one layer's differences say of their mean before anything is generated with it.

    Braun et al. 2025 find that such numbers predict how reliably a direction steers. Where the
    prefixes are fixed texts they are near their maximum whatever the direction means, so they
    describe and do not decide.

    Args:
        differences: refusal minus compliance, shape ``[n_prompts, n_pairs, d_model]``.
        midpoints: half of refusal plus compliance, same shape; without them no AUC is told.
        halves: random halves of the prompts.
        seed: of the halves.

    Returns:
        NaN where there is nothing to compare. ``pair_cosine_min`` and ``pair_cosine_max`` bound the
        cosines between the directions of two pairs. ``prompt_agreement`` is the mean cosine
        between a prompt's direction and that of all others. ``split_half_median``,
        ``split_half_low`` and ``split_half_high`` are the median and the central 90% of the cosine
        between directions of two halves of the prompts. ``left_out_prompts`` and
        ``left_out_pairs`` are the shares of differences on the refusal side of the direction
        that was learned without their prompt, or without their pair. ``left_out_auc`` is how well
        a direction of half of the prompts and pairs orders the activations of the other half of
        both: the chance that one after a refusal lies above one after a compliance, of whatever
        prompt and pair (area under the ROC curve, Hanley and McNeil 1982).
    """
    differences = differences.double()
    n_prompts, n_pairs, _ = differences.shape
    by_pair = torch.unbind(differences.mean(dim=0))
    pair_cosines = [cosine(left, right) for left, right in combinations(by_pair, 2)]
    by_prompt = differences.mean(dim=1)
    split = _split_half_cosines(by_prompt, halves, seed)
    return {
        "pair_cosine_min": min(pair_cosines, default=math.nan),
        "pair_cosine_max": max(pair_cosines, default=math.nan),
        "prompt_agreement": _mean(
            [
                cosine(own, others)
                for own, others in zip(by_prompt, _without_each(by_prompt), strict=True)
            ]
            if n_prompts > 1
            else []
        ),
        "split_half_median": _quantile(split, 0.5),
        "split_half_low": _quantile(split, 0.05),
        "split_half_high": _quantile(split, 0.95),
        "left_out_prompts": _left_out(differences) if n_prompts > 1 else math.nan,
        "left_out_pairs": _left_out(differences.transpose(0, 1)) if n_pairs > 1 else math.nan,
        "left_out_auc": math.nan if midpoints is None else left_out_auc(differences, midpoints),
    }


def _split_half_cosines(by_prompt: Tensor, halves: int, seed: int) -> list[float]:
    half = len(by_prompt) // 2
    if half == 0:
        return []
    random = np.random.default_rng(seed)
    cosines = []
    for _ in range(halves):
        order = torch.from_numpy(random.permutation(len(by_prompt)))
        left, right = by_prompt[order[:half]], by_prompt[order[half : 2 * half]]
        cosines.append(cosine(left.mean(dim=0), right.mean(dim=0)))
    return cosines


def _without_each(rows: Tensor) -> Tensor:
    """Mean of all rows but one, for each, the shape of ``rows``."""
    return (rows.sum(dim=0) - rows) / (len(rows) - 1)


def _left_out(differences: Tensor) -> float:
    """Share of ``[n_groups, n_members, d_model]`` on the side of the other groups' mean."""
    learned_without = _without_each(differences.mean(dim=1))
    projections = torch.einsum("gmd,gd->gm", differences, learned_without)
    return float((projections > 0).double().mean())


def left_out_auc(differences: Tensor, midpoints: Tensor) -> float:
    """Area under the ROC curve on prompts and pairs that the direction was not learned from.

    Args:
        differences: refusal minus compliance, ``[n_prompts, n_pairs, d_model]``.
        midpoints: half of refusal plus compliance, same shape.

    Returns:
        The mean over the four ways to learn from one half of prompts and pairs and to judge the
        other half of both; .5 is chance. NaN for a single prompt or pair.
    """
    differences, midpoints = differences.double(), midpoints.double()
    if min(differences.shape[:2]) < 2:
        return math.nan
    areas = []
    for prompts, pairs in product((0, 1), repeat=2):
        direction = differences[prompts::2, pairs::2].mean(dim=(0, 1))
        others = (slice(1 - prompts, None, 2), slice(1 - pairs, None, 2))
        middle, half = midpoints[others] @ direction, differences[others] @ direction / 2
        refusing, complying = (middle + half).flatten(), (middle - half).flatten()
        won = stats.mannwhitneyu(refusing.numpy(), complying.numpy()).statistic
        areas.append(float(won) / refusing.numel() ** 2)
    return _mean(areas)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _quantile(values: list[float], share: float) -> float:
    return float(np.quantile(values, share)) if values else math.nan
