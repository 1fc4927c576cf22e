"""Prompts computed once, and shared by all cells that leave them alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from steering_reliability.engine.attention import round_up_keys
from steering_reliability.engine.cache import EMPTY, Prefix, PrefixStore, SlotCache
from steering_reliability.engine.forward import forward
from steering_reliability.engine.requests import Positions, Request
from steering_reliability.engine.resumed import kept_outputs, resumed
from steering_reliability.interventions import RowSteering, Steering
from steering_reliability.models.loaded import LoadedModel

PREFIX_BUDGET_BYTES = 1 << 30
Tokens = tuple[int, ...]
# Matrix products hand the rows beyond a multiple of four (AVX2; eight with AVX-512) to other
# kernels, and how many those are depends on the number of threads; so prompts fill such steps.
_PREFILL_STEP = 8
# Prompts that are computed together, where that gives the same bits: enough tokens for the matrix
# products to be fast.
PROMPTS_AT_ONCE = 8


@dataclass(frozen=True)
class _Unsteered:
    """A prompt up to the block that cells steer: what blocks below keep, and what this one gives.

    Attributes:
        prefix: keys and values of all blocks; those up to the block are any cell's.
        output: the block's own return value before it is steered, its residual stream
            ``[1, tokens, d_model]``.
    """

    prefix: Prefix
    output: Any

    @property
    def n_bytes(self) -> int:
        """Memory taken up; the residual stream is small beside the keys and values."""
        return self.prefix.n_bytes


class Prefiller:
    """Computes all tokens of a prompt but the last, which every cell steers itself.

    Args:
        model: the model.
        positions: whether prompts are steered too.
        longest_prompt: tokens of the longest prompt.
    """

    def __init__(
        self,
        model: LoadedModel,
        positions: Positions,
        longest_prompt: int,
    ) -> None:
        self._model = model
        self._positions = positions
        # Steered prompts have a store of their own; the two share what the memory check counts.
        budget = PREFIX_BUDGET_BYTES // 2 if positions == "all" else PREFIX_BUDGET_BYTES
        self._prefixes: PrefixStore[Prefix] = PrefixStore(budget)
        self._unsteered: PrefixStore[_Unsteered] = PrefixStore(budget)
        self._shared = tuple(model.format.shared_prefix)
        room = round_up_keys(longest_prompt + _PREFILL_STEP)
        at_once = 1 if positions == "all" else PROMPTS_AT_ONCE
        self._scratch = SlotCache(model.n_layers, at_once, room, model.device)
        # By where the prompts' own tokens begin and how many steps they fill.
        self._same_bits: dict[tuple[int, int], bool] = {}

    def prepare(self, requests: Sequence[Request]) -> None:
        """Compute the prompts among these that are new, those of like length together.

        Only lengths at which this machine gives a prompt the same bits beside others as alone; the
        rest are computed alone, when they are asked for. Groups are of one size, filled up with
        their last prompt, since that is decided for a size.
        """
        if self._positions == "all":
            return
        own = {
            body: rest
            for body in dict.fromkeys(request.tokens[:-1] for request in requests)
            if body not in self._prefixes and (rest := self._after_shared(body))
        }
        if len(own) < 2:
            return
        shared = self._shared_prefix()
        for width, bodies in _of_like_length(own):
            shape = shared.length, width
            if self._same_bits.get(shape) is False:
                continue
            rows = [own[body] for body in bodies]
            rows += rows[-1:] * (PROMPTS_AT_ONCE - len(rows))
            found = self._compute_all(rows, shared)
            if shape not in self._same_bits:
                self._same_bits[shape] = all(
                    _equal(found[i], self._compute(rows[i], shared)) for i in (0, -1)
                )
            if self._same_bits[shape]:
                for body, prefix in zip(bodies, found, strict=False):
                    self._prefixes.put(body, prefix)

    def prefixes_of(self, request: Request) -> tuple[Prefix, Prefix]:
        """What all prompts begin with, and what is the request's own, up to its last token."""
        body = request.tokens[:-1]
        if self._positions == "all" and request.steering is not None:
            return EMPTY, self._steered(body, request.steering)
        rest = self._after_shared(body)
        if rest is None:
            return EMPTY, self._prefixes.get(body, lambda: self._compute(body, EMPTY))
        shared = self._shared_prefix()
        if not rest:
            return shared, EMPTY
        return shared, self._prefixes.get(body, lambda: self._compute(rest, shared))

    def _after_shared(self, body: Tokens) -> Tokens | None:
        """What follows the beginning that all prompts share; None where it isn't there."""
        n_shared = len(self._shared)
        return body[n_shared:] if n_shared and body[:n_shared] == self._shared else None

    def _shared_prefix(self) -> Prefix:
        return self._prefixes.get(self._shared, lambda: self._compute(self._shared, EMPTY))

    def _steered(self, tokens: Sequence[int], steering: Steering) -> Prefix:
        """A prompt that is steered itself; what lies below the steered block is shared."""
        if not tokens:
            return EMPTY
        layer = steering.layer
        below = self._unsteered.get((tokens, layer), lambda: self._below(tokens, layer))
        rows = self._no_steering()
        rows.set_row(0, steering)
        with resumed(self._model, layer, below.output):
            above = self._compute(tokens, EMPTY, rows)
        # Block `layer` reads what no steering has reached, so its keys are still shared.
        shared = slice(layer + 1)
        return Prefix(
            below.prefix.keys[shared] + above.keys[layer + 1 :],
            below.prefix.values[shared] + above.values[layer + 1 :],
        )

    def _below(self, tokens: Sequence[int], layer: int) -> _Unsteered:
        with kept_outputs(self._model, [layer]) as outputs:
            prefix = self._compute(tokens, EMPTY)
        return _Unsteered(prefix, outputs[layer])

    def _no_steering(self, n_rows: int = 1) -> RowSteering:
        return RowSteering(n_rows, self._model.d_model, self._model.device, self._model.dtype)

    def _compute(
        self, tokens: Sequence[int], before: Prefix, steering: RowSteering | None = None
    ) -> Prefix:
        """Compute a prompt by itself."""
        return self._compute_all([tokens], before, steering)[0] if tokens else EMPTY

    def _compute_all(
        self,
        rows: Sequence[Sequence[int]],
        before: Prefix,
        steering: RowSteering | None = None,
    ) -> list[Prefix]:
        """Compute prompts that fill as many steps, after the same beginning."""
        start = before.length
        lengths = torch.tensor([len(tokens) for tokens in rows])
        width = _filled(max(map(len, rows)))
        for row in range(len(rows)):
            self._scratch.write(row, 0, before)
        # What fills the last step comes after the prompt, so the prompt can't see it.
        ids = torch.tensor([[*tokens, *[tokens[-1]] * (width - len(tokens))] for tokens in rows])
        positions = torch.minimum(torch.arange(width), lengths[:, None] - 1) + start
        self._scratch.prefill_start = start
        forward(
            self._model,
            self._scratch,
            ids.to(self._model.device),
            positions.to(self._model.device),
            steering or self._no_steering(len(rows)),
            needs_logits=False,
        )
        prefixes = [
            self._scratch.read(row, start, start + len(tokens)) for row, tokens in enumerate(rows)
        ]
        self._scratch.empty_rows(slice(len(rows)))
        return prefixes


def _equal(one: Prefix, other: Prefix) -> bool:
    return all(map(torch.equal, (*one.keys, *one.values), (*other.keys, *other.values)))


def _filled(length: int) -> int:
    return -(-length // _PREFILL_STEP) * _PREFILL_STEP


def _of_like_length(
    own: Mapping[Tokens, Sequence[int]],
) -> Iterator[tuple[int, list[Tokens]]]:
    """Groups of prompts whose own tokens fill as many steps, and how many tokens those are.

    A prompt that would be a group of its own is in none.
    """
    by_width: dict[int, list[Tokens]] = {}
    for body, tokens in own.items():
        by_width.setdefault(_filled(len(tokens)), []).append(body)
    for width, bodies in by_width.items():
        for start in range(0, len(bodies) - 1, PROMPTS_AT_ONCE):
            yield width, bodies[start : start + PROMPTS_AT_ONCE]
