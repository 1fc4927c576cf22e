"""Attention over preallocated slots, registered with transformers' attention interface.

Grouped queries attend without repeating the key and value heads. Keys and values come in blocks of
:data:`KEY_STEP` positions and are multiplied block by block: so a row's bits do not depend on how
much masked room follows it. A CPU leaves the room out altogether
(:func:`.kernels.attention_over_own_keys`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from steering_reliability.engine.openmp import COMPILED_DTYPES
from steering_reliability.errors import SteeringError

SLOT_ATTENTION = "steering_slots"
# Matrix products are split along their inner dimension, or handed to another kernel, by rules that
# depend on the shape (MKL splits above 192 keys where four or more queries share a key head);
# equal blocks avoid that. And blocks that lie together in memory are read twice as fast as slices
# of longer rows.
KEY_STEP = 32


@dataclass(frozen=True)
class Seen:
    """What the tokens of a pass see, those of the first row first.

    Attributes:
        mask: the same as the model is given it, ``[rows, 1, queries, keys]``.
        row_of: the row of each token, int64, ``[rows * queries]``.
        lengths: keys of its row that each token sees, from the first on, int64.
        n_common: how many keys all rows begin with; the first row alone need hold them.
    """

    mask: torch.Tensor
    row_of: torch.Tensor
    lengths: torch.Tensor
    n_common: int


_seen: ContextVar[Seen | None] = ContextVar("seen", default=None)


def round_up_keys(length: int) -> int:
    """The key length that attention is computed over for rows of up to ``length`` tokens."""
    return -(-length // KEY_STEP) * KEY_STEP


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **extras: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of ``[rows, heads, queries, d_head]`` over the blocks of a slot cache.

    Keys and values are ``[blocks, rows, kv_heads, KEY_STEP, d_head]``, in the query's dtype or
    wider. ``attention_mask`` is added to the scores of the last keys, as many as it has: 0, or
    minus infinity where a key is hidden, ``[rows, 1, queries, keys]``. Where a model made a mask of
    its own, what all rows begin with is written into each of them.

    Returns:
        ``[rows, queries, heads, d_head]`` and no weights, as the interface asks.

    Raises:
        SteeringError: the model's attention has sinks, which are not computed here.
    """
    if extras.get("s_aux") is not None:
        raise SteeringError(
            f"model: {type(module).__name__} uses attention sinks, which the engine does not "
            "compute; use --steer-backend lens"
        )
    rows, heads, queries, d_head = query.shape
    blocks, _, kv_heads = key.shape[:3]
    groups = heads // kv_heads
    scale = d_head**-0.5 if scaling is None else scaling
    seen = _seen.get()
    # A model that makes its own mask of the one it is given wants more than lengths.
    if seen is not None and seen.mask is attention_mask:
        # Here, since compiled code takes a while to load.
        from steering_reliability.engine.kernels import attention_over_own_keys

        wide = query if query.dtype in COMPILED_DTYPES else query.float()
        tokens = wide.transpose(1, 2).reshape(-1, heads, d_head)
        own = seen.row_of, seen.lengths, seen.n_common
        mixed = attention_over_own_keys(tokens, key, value, *own, scale, softcap)
        return mixed.to(query.dtype).unflatten(0, (rows, queries)), None
    if seen is not None:
        _spread_common(key, seen.n_common)
        _spread_common(value, seen.n_common)
        # Small products are twice as fast, and more exact, than in bfloat16.
        key, value = key.float(), value.float()
    grouped = query.reshape(rows * kv_heads, groups * queries, d_head).to(key.dtype) * scale
    scores = torch.cat([torch.bmm(grouped, _items(block).mT) for block in key], dim=-1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.view(rows, heads, queries, blocks * KEY_STEP)
    if attention_mask is not None:
        # Added, not filled in: filling has no vector instructions and takes ten times as long.
        scores[..., blocks * KEY_STEP - attention_mask.shape[-1] :].add_(attention_mask)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    weights = weights.view(rows * kv_heads, groups * queries, blocks * KEY_STEP)
    mixed = torch.bmm(weights[:, :, :KEY_STEP], _items(value[0]))
    for number in range(1, blocks):
        start = number * KEY_STEP
        mixed.baddbmm_(weights[:, :, start : start + KEY_STEP], _items(value[number]))
    return mixed.to(query.dtype).view(rows, heads, queries, d_head).transpose(1, 2), None


def _spread_common(held: torch.Tensor, n_common: int) -> None:
    """Give all rows what they begin with, which compiled code reads from the first."""
    for start in range(0, n_common, KEY_STEP):
        shared = held[start // KEY_STEP, :, :, : n_common - start]
        shared[1:] = shared[:1]


def _items(block: torch.Tensor) -> torch.Tensor:
    """One matrix per row and key head."""
    return block.reshape(-1, *block.shape[2:])


def _given_mask(*_: Any, attention_mask: torch.Tensor | None = None, **__: Any) -> Any:
    return attention_mask


ALL_ATTENTION_FUNCTIONS.register(SLOT_ATTENTION, slot_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(SLOT_ATTENTION, _given_mask)


@contextmanager
def slot_attention_in(config: Any, seen: Seen | None) -> Iterator[None]:
    """Let a model attend through :func:`slot_attention` for a while, and then as before.

    Args:
        config: the model's.
        seen: what tokens see, where a CPU computes.
    """
    before = config._attn_implementation
    config._attn_implementation = SLOT_ATTENTION
    token = _seen.set(seen)
    try:
        yield
    finally:
        _seen.reset(token)
        config._attn_implementation = before
