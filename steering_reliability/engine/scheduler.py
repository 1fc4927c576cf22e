"""The slot engine: rows of all cells in one batch, each with its own steering.

A fixed number of slots is stepped together; a finished row's slot is refilled at once. A
completion depends on its request alone: prompts are prefilled by themselves, rows start at
position 0, key lengths grow in fixed steps, and the batch size is fixed, unless a step that is
computed at both shows that this machine gives the same bits at a smaller one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import torch

from steering_reliability.completions import Completion
from steering_reliability.engine.cache import SlotCache
from steering_reliability.engine.forward import forward
from steering_reliability.engine.limits import check_context, smallest_batch
from steering_reliability.engine.measures import RowMeasures
from steering_reliability.engine.memory import check_memory
from steering_reliability.engine.prefill import Prefiller
from steering_reliability.engine.requests import GenerationSettings, Request
from steering_reliability.engine.sampling import choose_tokens, request_noise
from steering_reliability.errors import SteeringError
from steering_reliability.interventions import RowSteering
from steering_reliability.models.loaded import LoadedModel


class SlotEngine:
    """Generates requests in slots.

    Args:
        model: the model to steer.
        settings: how to generate.
        longest_prompt: tokens of the longest prompt that will be submitted.

    Raises:
        SteeringError: the context or the slots can't fit, or the model's attention isn't
            supported.

    Attributes:
        slots: rows of the batch; half as many after each time that CUDA ran out of memory.
    """

    def __init__(
        self, model: LoadedModel, settings: GenerationSettings, longest_prompt: int
    ) -> None:
        context = longest_prompt + settings.max_new_tokens
        check_context(model, context)
        check_memory(model, settings, context)
        self._model = model
        self._settings = settings
        self._longest_prompt = longest_prompt
        self._queue: deque[Request] = deque()
        self._end_ids = torch.tensor(sorted(model.end_token_ids), device=model.device)
        self.steps = 0
        self.idle_slot_steps = 0
        self._allocate(settings.slots)

    def _allocate(self, slots: int) -> None:
        model, n_new = self._model, self._settings.max_new_tokens
        device = model.device
        self.slots = slots
        self._rows: list[Request | None] = [None] * slots
        self._prefiller = Prefiller(model, self._settings.positions, self._longest_prompt)
        self._cache = SlotCache(model.n_layers, slots, self._longest_prompt + n_new, device)
        self._steering = RowSteering(slots, model.d_model, device, model.dtype)
        self._next_token = torch.zeros(slots, dtype=torch.long, device=device)
        self._n_generated = torch.zeros(slots, dtype=torch.long, device=device)
        self._generated = torch.zeros(slots, n_new, dtype=torch.long, device=device)
        self._noise = torch.zeros(slots, n_new, dtype=torch.float64, device=device)
        self._measures = RowMeasures(model, slots)
        self._batch_sizes = [slots]
        self._halves = True

    def submit(self, requests: Iterable[Request]) -> None:
        """Queue requests; slots take them in this order."""
        self._queue.extend(requests)

    @property
    def pending(self) -> int:
        """Requests queued or in a slot."""
        return len(self._queue) + sum(row is not None for row in self._rows)

    @torch.inference_mode()
    def pump(self) -> list[Completion]:
        """Advance every row by one token, and return the completions that this finished.

        Where CUDA runs out of memory, half the slots go on, and what was in them begins anew.

        Raises:
            SteeringError: one slot is too many.
        """
        try:
            return self._step()
        except torch.OutOfMemoryError:
            pass
        # Not while the error is handled: its traceback keeps the failed pass in memory.
        self._halve()
        return []

    def _halve(self) -> None:
        if self.slots == 1:
            raise SteeringError(
                f"model: {self._model.device} is out of memory with one slot; shorten prompts or "
                "generation.max_new_tokens, or use a smaller dtype"
            )
        held = [request for request in self._rows if request is not None]
        self._queue.extendleft(reversed(held))
        del self._cache, self._prefiller, self._measures
        torch.cuda.empty_cache()
        self._allocate(self.slots // 2)

    def _step(self) -> list[Completion]:
        self._admit()
        active = [row for row, request in enumerate(self._rows) if request is not None]
        if not active:
            return []
        n = self._shrink(active)
        half = self._forward(n // 2) if self._may_halve(n, len(active)) else None
        # Last, for the keys that it leaves behind: those of another batch may be other bits.
        logits = self._forward(n)
        if half is not None:
            self._halves = torch.allclose(half, logits[: n // 2], rtol=0, atol=0, equal_nan=True)
            if self._halves:
                self._batch_sizes.append(n // 2)
        return self._advance(logits, n)

    def _may_halve(self, n: int, n_active: int) -> bool:
        """Whether it is to be found out if half the rows, computed by themselves, are the same."""
        if n > self._batch_sizes[-1] or self._queue or not self._halves:
            return False
        return n_active <= n // 2 and n // 2 >= smallest_batch()

    def _forward(self, n: int) -> torch.Tensor:
        ids, positions = self._next_token[:n, None], self._cache.positions[:n, None]
        return forward(self._model, self._cache, ids, positions, self._steering)

    def _admit(self) -> None:
        free = [row for row, request in enumerate(self._rows) if request is None]
        entering = [(row, self._queue.popleft()) for row in free[: len(self._queue)]]
        try:
            self._prefiller.prepare([request for _, request in entering])
            for row, request in entering:
                self._enter(row, request)
        except Exception:
            # A request whose prompt can't be computed isn't lost, nor half begun.
            for row, request in reversed(entering):
                self._rows[row] = None
                self._queue.appendleft(request)
            raise

    def _enter(self, row: int, request: Request) -> None:
        settings = self._settings
        self._rows[row] = request
        shared, own = self._prefiller.prefixes_of(request)
        self._cache.set_beginning(row, shared)
        self._cache.write(row, shared.length, own)
        self._cache.positions[row] = len(request.tokens) - 1
        self._steering.set_row(row, request.steering)
        self._next_token[row] = request.tokens[-1]
        self._n_generated[row] = 0
        if settings.temperature > 0:
            noise = request_noise(
                settings.seed, request.prompt_id, request.sample, settings.max_new_tokens
            )
            self._noise[row] = torch.from_numpy(noise)
        self._measures.reset(row)

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
        measurements = self._measures.read(row)
        self._rows[row] = None
        self._steering.set_row(row, None)
        # float16 may have left an infinite key behind a completion that is finite itself.
        overflowed = not math.isfinite(measurements["mean_logprob"])
        if overflowed or self._model.dtype == torch.float16:
            self._cache.empty_rows(slice(row, row + 1))
        self._park(row)
        return Completion(
            prompt_id=request.prompt_id,
            cell=request.cell,
            text=self._model.tokenizer.decode(ids, skip_special_tokens=True),
            token_ids=tuple(ids),
            finish_reason="stop" if stopped else "length",
            sample=request.sample,
            measurements=measurements,
            key=request.key,
        )

    def _park(self, row: int) -> None:
        self._cache.park(row)
        self._n_generated[row] = 0

    def _shrink(self, active: list[int]) -> int:
        """Rows to step: all, or at the tail fewer, where that gives the same bits."""
        n_rows = self.slots
        if self._queue or len(active) > n_rows // 2:
            return n_rows
        n = min(size for size in self._batch_sizes if size >= len(active))
        free = [row for row in range(n) if self._rows[row] is None]
        for source in (row for row in active if row >= n):
            self._move(source, free.pop(0))
        return n

    def _move(self, source: int, target: int) -> None:
        self._cache.move_row(source, target)
        self._steering.move_row(source, target)
        self._measures.move_row(source, target)
        for state in (self._cache.positions, self._next_token, self._n_generated):
            state[target] = state[source]
        self._generated[target] = self._generated[source]
        self._noise[target] = self._noise[source]
        self._rows[target], self._rows[source] = self._rows[source], None
        self._park(source)
