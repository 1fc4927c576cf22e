"""A direction in the residual stream and where it came from. No torch at import time.

This module knows nothing about how a direction is learned or used.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from steering_reliability.errors import SteeringError

if TYPE_CHECKING:
    from torch import Tensor

NULL_GUARD = 1e-3
"""Least raw norm, as a share of the median residual norm, that is not taken for rounding noise."""

_UNIT_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Direction:
    """A unit vector at one layer's output, with the norms and the provenance that give it meaning.

    Attributes:
        vector: unit direction, float32 on the CPU, shape ``[d_model]``.
        layer: 0-indexed block whose output it belongs to.
        raw_norm: norm before normalising, in the units of the residual stream.
        residual_norm: median norm of the residual stream at that layer, over the learning prompts
            and all response tokens of both prefixes.
        method: ``"contrastive_prefix"``, ``"imported"`` where it was made elsewhere, or how a
            control was made: ``"random"``, ``"shuffled"``, ``"reversed"``.
        model_fingerprint: identifies the model it was learned on.
        template_hash: identifies chat template and system prompt.
        prompts_hash: identifies the learning prompts.
        prompt_ids: ids of the prompts it was learned from.
        pairs: (refusal prefix, compliance prefix) pairs.
        pair_agreement: mean cosine between the directions of different pairs; NaN for one pair.
        halved_agreement: the same between pairs on different halves of the prompts, where
            rounding noise cannot agree; NaN for one pair or prompt, or where a file lacks it.
        halved_agreement_low: what that exceeds in 95% of random halvings.
        cosine_with_learned: cosine with the learned direction; 1 for that direction itself.
        versions: versions of the method and of the libraries that computed it.

    Raises:
        SteeringError: the vector is no finite unit vector in float32 on the CPU, or a norm is not
            a positive number.
    """

    vector: Tensor
    layer: int
    raw_norm: float
    residual_norm: float
    method: str = "contrastive_prefix"
    model_fingerprint: str = ""
    template_hash: str = ""
    prompts_hash: str = ""
    prompt_ids: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    pair_agreement: float = math.nan
    halved_agreement: float = math.nan
    halved_agreement_low: float = math.nan
    cosine_with_learned: float = 1.0
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise SteeringError(f"direction: {problem}")

    @property
    def site(self) -> str:
        """Where the direction lives, in TransformerLens's terms."""
        return site_of(self.layer)

    @property
    def d_model(self) -> int:
        """Width of the residual stream it belongs to."""
        return int(self.vector.shape[0])

    @property
    def hash(self) -> str:
        """16 hex digits of what steering depends on: vector, residual norm and layer."""
        digest = hashlib.sha256(self.vector.numpy().astype("<f4").tobytes())
        digest.update(struct.pack("<dq", self.residual_norm, self.layer))
        return digest.hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """Everything but the vector, as builtins that JSON can hold (NaN as ``None``)."""
        described: dict[str, Any] = {"site": self.site, "hash": self.hash}
        for entry in fields(self):
            if entry.name != "vector":
                described[entry.name] = _builtin(getattr(self, entry.name))
        return described


def check_is_direction(found: object, where: str) -> None:
    """Refuse bare vectors, which have no norm that alpha could be counted in.

    Raises:
        SteeringError: it is no direction.
    """
    if not isinstance(found, Direction):
        raise SteeringError(
            f"{where}: found a {type(found).__name__}, expected a Direction, as learn_direction "
            "gives, or Direction(vector, layer, raw_norm, residual_norm)"
        )


def site_of(layer: int) -> str:
    """The hook name of a block's output."""
    return f"blocks.{layer}.hook_out"


def is_null(raw_norm: float, residual_norm: float) -> bool:
    """Whether a raw norm is so small that normalising it would make a direction of noise."""
    return not raw_norm >= NULL_GUARD * residual_norm


def _problem(direction: Direction) -> str | None:
    vector = direction.vector
    found = f"{vector.dtype} on {vector.device}, shape {list(vector.shape)}"
    if vector.ndim != 1 or found.split(",")[0] != "torch.float32 on cpu":
        return f"key 'vector': found {found}, expected torch.float32 on cpu, shape [d_model]"
    norm = float(vector.double().norm())
    return values_problem(norm, direction.raw_norm, direction.residual_norm)


def values_problem(norm: float, raw_norm: float, residual_norm: float) -> str | None:
    """What is wrong with a direction's numbers, if anything: key, value found, value expected."""
    if not abs(norm - 1) <= _UNIT_TOLERANCE:
        advice = "divide it by its norm" if 0 < norm < math.inf else "learn it anew"
        return (
            f"key 'vector': found a vector of norm {norm:g}, expected a finite unit vector; "
            f"{advice}"
        )
    for name, value in (("raw_norm", raw_norm), ("residual_norm", residual_norm)):
        if not 0 < value < math.inf:
            return f"key {name!r}: found {value}, expected a positive number"
    return None


def _builtin(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_builtin(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
