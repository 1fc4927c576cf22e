"""The slot engine: rows of all cells in one batch, each with its own steering.

A fixed number of slots is stepped together; a finished row's slot is refilled at once. A
completion depends on its request alone: prompts are prefilled by themselves, rows start at
position 0, key lengths grow in fixed steps, and the batch size is fixed, unless a probe at
start-up shows that this machine gives the same bits at a smaller one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from steering_reliability.completions import Completion
from steering_reliability.engine.attention import KEY_STEP, round_up_keys, slot_attention_in
from steering_reliability.engine.cache import Prefix, PrefixStore, SlotCache
from steering_reliability.engine.head import output_head
from steering_reliability.engine.limits import check_context, smaller_batches
from steering_reliability.engine.measures import RowMeasures
from steering_reliability.engine.requests import GenerationSettings, Request
from steering_reliability.engine.sampling import choose_tokens, request_noise
from steering_reliability.interventions import RowSteering
from steering_reliability.models.loaded import LoadedModel

_PREFIX_BUDGET_BYTES = 1 << 30
_EMPTY = Prefix((), ())
# Matrix products hand the rows beyond a multiple of four (AVX2; eight with AVX-512) to other
# kernels, and how many those are depends on the number of threads; so prompts fill such steps.
_PREFILL_STEP = 8


class SlotEngine:
    """Generates requests in slots.

    Args:
        model: the model to steer.
        settings: how to generate.
        longest_prompt: tokens of the longest prompt that will be submitted.

    Raises:
        SteeringError: the context can't fit, or the model's attention isn't supported.
    """

    def __init__(
        self, model: LoadedModel, settings: GenerationSettings, longest_prompt: int
    ) -> None:
        context = longest_prompt + settings.max_new_tokens
        check_context(model, context)
        self._model = model
        self._settings = settings
        self._queue: deque[Request] = deque()
        self._rows: list[Request | None] = [None] * settings.slots
        device, slots = model.device, settings.slots
        self._cache = SlotCache(model.n_layers, slots, context, device)
        self._scratch = SlotCache(model.n_layers, 1, context + _PREFILL_STEP, device)
        self._steering = RowSteering(slots, model.d_model, device, model.dtype)
        self._prefixes = PrefixStore(_PREFIX_BUDGET_BYTES)
        self._shared = tuple(model.format.shared_prefix)
        self._next_token = torch.zeros(slots, dtype=torch.long, device=device)
        self._n_generated = torch.zeros(slots, dtype=torch.long, device=device)
        self._generated = torch.zeros(
            slots, settings.max_new_tokens, dtype=torch.long, device=device
        )
        self._noise = torch.zeros(
            slots, settings.max_new_tokens, dtype=torch.float64, device=device
        )
        self._measures = RowMeasures(model, slots)
        self._end_ids = torch.tensor(sorted(model.end_token_ids), device=device)
        self._batch_sizes: list[int] | None = None
        self.steps = 0
        self.idle_slot_steps = 0

    def submit(self, requests: Iterable[Request]) -> None:
        """Queue requests; slots take them in this order."""
        self._queue.extend(requests)

    @property
    def pending(self) -> int:
        """Requests queued or in a slot."""
        return len(self._queue) + sum(row is not None for row in self._rows)

    @torch.inference_mode()
    def pump(self) -> list[Completion]:
        """Advance every row by one token, and return the completions that this finished."""
        self._admit()
        active = [index for index, row in enumerate(self._rows) if row is not None]
        if not active:
            return []
        n = self._shrink(active)
        ids, positions = self._next_token[:n, None], self._cache.positions[:n, None]
        logits = self._logits(self._cache, ids, positions, self._steering)
        return self._advance(logits[:, -1].float(), n)

    def _admit(self) -> None:
        for row, request in enumerate(self._rows):
            if request is None and self._queue:
                self._enter(row, self._queue.popleft())

    def _enter(self, row: int, request: Request) -> None:
        settings = self._settings
        tokens = request.tokens
        shared, own = self._prompt_prefixes(request)
        self._cache.write(row, 0, shared)
        self._cache.write(row, shared.length, own)
        self._cache.positions[row] = len(tokens) - 1
        self._steering.set_row(row, request.steering)
        self._next_token[row] = tokens[-1]
        self._n_generated[row] = 0
        if settings.temperature > 0:
            noise = request_noise(
                settings.seed, request.prompt_id, request.sample, settings.max_new_tokens
            )
            self._noise[row] = torch.from_numpy(noise)
        self._measures.reset(row)
        self._rows[row] = request

    def _prompt_prefixes(self, request: Request) -> tuple[Prefix, Prefix]:
        """Keys and values of all prompt tokens but the last, which every cell steers itself."""
        body = request.tokens[:-1]
        if self._settings.positions == "all" and request.steering is not None:
            # No other cell shares a steered prompt.
            return _EMPTY, self._prefill(body, _EMPTY, request)
        n_shared = len(self._shared)
        if body[:n_shared] != self._shared or not n_shared:
            return _EMPTY, self._prefixes.get(body, lambda: self._prefill(body, _EMPTY))
        shared = self._prefixes.get(self._shared, lambda: self._prefill(self._shared, _EMPTY))
        rest = body[n_shared:]
        if not rest:
            return shared, _EMPTY
        return shared, self._prefixes.get(body, lambda: self._prefill(rest, shared))

    def _prefill(
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
        with output_head(self._model.hf_model, needed=False):
            self._forward(self._scratch, ids, positions.clamp(max=stop - 1)[None], steering)
        prefix = self._scratch.read(0, start, stop)
        self._scratch.empty_row(0, stop + filling)
        return prefix

    def _logits(
        self, cache: SlotCache, ids: torch.Tensor, positions: torch.Tensor, steering: RowSteering
    ) -> torch.Tensor:
        with output_head(self._model.hf_model, needed=True):
            return self._forward(cache, ids, positions, steering)

    def _forward(
        self, cache: SlotCache, ids: torch.Tensor, positions: torch.Tensor, steering: RowSteering
    ) -> torch.Tensor:
        model = self._model
        cache.n_keys = round_up_keys(int(positions.max()) + 1)
        keys = torch.arange(cache.n_keys, device=ids.device)
        visible = keys[None, None, None, :] <= positions[:, None, :, None]
        mask = torch.zeros(visible.shape, dtype=model.dtype, device=ids.device)
        mask.masked_fill_(~visible, torch.finfo(model.dtype).min)
        with slot_attention_in(model.text_config), _steered(model, steering):
            output = model.hf_model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return output.logits

    def _advance(self, logits: torch.Tensor, n: int) -> list[Completion]:
        settings = self._settings
        position = self._n_generated[:n]
        noise = self._noise[:n].gather(1, position[:, None]).squeeze(1)
        chosen = choose_tokens(logits, noise, settings.temperature, settings.top_p)
        self._measures.update(logits, chosen, position)
        ended = torch.isin(chosen, self._end_ids)
        self._generated[:n].scatter_(1, position[:, None], chosen[:, None])
        self._n_generated[:n] += (~ended).long()
        full = self._n_generated[:n] >= settings.max_new_tokens
        self._next_token[:n] = chosen
        self._cache.positions[:n] += 1
        self.steps += 1
        done = (ended | full).tolist()
        stopped = ended.tolist()
        finished = []
        for row in range(n):
            if self._rows[row] is None:
                self.idle_slot_steps += 1
                self._park(row)
            elif done[row]:
                finished.append(self._leave(row, stopped[row]))
        return finished

    def _leave(self, row: int, stopped: bool) -> Completion:
        request = self._rows[row]
        assert request is not None
        ids = self._generated[row, : int(self._n_generated[row])].tolist()
        self._rows[row] = None
        self._steering.set_row(row, None)
        self._cache.empty_row(row, int(self._cache.positions[row]))
        self._park(row)
        return Completion(
            prompt_id=request.prompt_id,
            cell=request.cell,
            text=self._model.tokenizer.decode(ids, skip_special_tokens=True),
            token_ids=tuple(ids),
            finish_reason="stop" if stopped else "length",
            sample=request.sample,
            measurements=self._measures.read(row),
            key=request.key,
        )

    def _park(self, row: int) -> None:
        """An empty slot goes on being stepped; let it cost the fewest keys."""
        self._cache.positions[row] = 0
        self._n_generated[row] = 0

    def _shrink(self, active: list[int]) -> int:
        """Rows to step: all slots, or at the tail fewer, where that gives the same bits."""
        slots = self._settings.slots
        if self._queue or len(active) > slots // 2:
            return slots
        if self._batch_sizes is None:
            self._batch_sizes = smaller_batches(slots, self._probe)
        n = min((size for size in self._batch_sizes if size >= len(active)), default=slots)
        free = [row for row in range(n) if self._rows[row] is None]
        for source in (row for row in active if row >= n):
            self._move(source, free.pop(0))
        return n

    def _move(self, source: int, target: int) -> None:
        length = int(self._cache.positions[source])
        self._cache.move_row(source, target, length)
        self._steering.move_row(source, target)
        self._measures.move_row(source, target)
        for state in (self._cache.positions, self._next_token, self._n_generated):
            state[target] = state[source]
        self._generated[target] = self._generated[source]
        self._noise[target] = self._noise[source]
        self._rows[target], self._rows[source] = self._rows[source], None
        self._park(source)

    def _probe(self, n: int) -> torch.Tensor:
        """Logits of the first rows of a fixed batch of ``n``, for the comparison of sizes."""
        cache = SlotCache(self._model.n_layers, n, 2 * KEY_STEP, self._model.device)
        ids = torch.arange(n, device=self._model.device)[:, None] % 997
        cache.positions[:] = torch.arange(n, device=self._model.device) % KEY_STEP
        idle = RowSteering(n, self._model.d_model, self._model.device, self._model.dtype)
        return self._logits(cache, ids, cache.positions[:, None], idle)[:, -1]


@contextmanager
def _steered(model: LoadedModel, steering: RowSteering) -> Iterator[None]:
    """Steer block outputs while the model runs."""

    def hook_of(layer: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (steering.apply(layer, output[0]), *output[1:])
            return steering.apply(layer, output)

        return hook

    handles = [
        model.blocks[layer].register_forward_hook(hook_of(layer)) for layer in steering.layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
