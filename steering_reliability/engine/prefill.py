"""Prompts computed by themselves, each once, and shared by all cells that leave them alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from steering_reliability.engine.attention import round_up_keys
from steering_reliability.engine.cache import Prefix, PrefixStore, SlotCache
from steering_reliability.engine.forward import forward
from steering_reliability.engine.requests import Positions, Request
from steering_reliability.interventions import RowSteering
from steering_reliability.models.loaded import LoadedModel

_PREFIX_BUDGET_BYTES = 1 << 30
_EMPTY = Prefix((), ())
# Matrix products hand the rows beyond a multiple of four (AVX2; eight with AVX-512) to other
# kernels, and how many those are depends on the number of threads; so prompts fill such steps.
_PREFILL_STEP = 8


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
        self._prefixes = PrefixStore(_PREFIX_BUDGET_BYTES)
        self._shared = tuple(model.format.shared_prefix)
        room = round_up_keys(longest_prompt + _PREFILL_STEP)
        self._scratch = SlotCache(model.n_layers, 1, room, model.device)

    def prefixes_of(self, request: Request) -> tuple[Prefix, Prefix]:
        """What all prompts begin with, and what is the request's own, up to its last token."""
        body = request.tokens[:-1]
        if self._positions == "all" and request.steering is not None:
            # No other cell shares a steered prompt.
            return _EMPTY, self._compute(body, _EMPTY, request)
        n_shared = len(self._shared)
        if body[:n_shared] != self._shared or not n_shared:
            return _EMPTY, self._prefixes.get(body, lambda: self._compute(body, _EMPTY))
        shared = self._prefixes.get(self._shared, lambda: self._compute(self._shared, _EMPTY))
        rest = body[n_shared:]
        if not rest:
            return shared, _EMPTY
        return shared, self._prefixes.get(body, lambda: self._compute(rest, shared))

    def _compute(
        self, tokens: Sequence[int], before: Prefix, request: Request | None = None
    ) -> Prefix:
        """Compute a prompt by itself, so that its bits depend on it alone."""
        if not tokens:
            return _EMPTY
        steering = RowSteering(1, self._model.d_model, self._model.device, self._model.dtype)
        if request is not None:
            steering.set_row(0, request.steering)
        self._scratch.write(0, 0, before)
        start, stop = before.length, before.length + len(tokens)
        # What fills the last step comes after the prompt, so the prompt can't see it.
        filling = -len(tokens) % _PREFILL_STEP
        ids = torch.tensor([[*tokens, *[tokens[-1]] * filling]], device=self._model.device)
        positions = torch.arange(start, stop + filling, device=self._model.device)
        self._scratch.prefill_start = start
        forward(
            self._model,
            self._scratch,
            ids,
            positions.clamp(max=stop - 1)[None],
            steering,
            needs_logits=False,
        )
        prefix = self._scratch.read(0, start, stop)
        self._scratch.empty_row(0, stop + filling)
        return prefix
