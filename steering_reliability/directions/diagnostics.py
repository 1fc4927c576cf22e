"""What can be said of a direction before anything is generated with it."""

from __future__ import annotations

import math
from itertools import combinations

import torch
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
