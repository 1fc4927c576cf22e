"""Steered generation as others do it: one cell at a time, in batches, with hooks.

``transformers`` is its own ``generate`` with a forward hook; ``transformer-lens`` is
``TransformerBridge.generate`` with hooks. Prompts are padded on the left. Both steer the last
prompt token and every generated one, as the engine does with ``positions: response``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from steering_reliability.directions.direction import site_of
from steering_reliability.engine.lens import bridge_to
from steering_reliability.engine.requests import Request
from steering_reliability.interventions import Steering
from steering_reliability.models.loaded import LoadedModel

Batch = Callable[[torch.Tensor, torch.Tensor, Steering | None], torch.Tensor]


@dataclass
class PeerRun:
    """What a peer generated, and how long it took.

    Attributes:
        tokens: generated tokens by request key, up to the first end of turn.
        seconds: of generation, warm-up left out.
    """

    tokens: dict[str, tuple[int, ...]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Completions per second."""
        return len(self.tokens) / self.seconds

    @property
    def token_rate(self) -> float:
        """Generated tokens per second, ends of turn not counted."""
        return sum(map(len, self.tokens.values())) / self.seconds


def run_peer(
    model: LoadedModel, generate: Batch, cells: Sequence[Sequence[Request]], batch: int
) -> PeerRun:
    """Generate cell by cell in batches.

    Args:
        model: the model.
        generate: the peer, from :func:`transformers_batch` or :func:`lens_batch`.
        cells: requests of one cell each.
        batch: rows of a batch.
    """
    run = PeerRun()
    ends = model.end_token_ids
    generate(*_padded(model, cells[0][:batch]), cells[0][0].steering)
    for requests in cells:
        for start in range(0, len(requests), batch):
            rows = requests[start : start + batch]
            started = time.perf_counter()
            ids, mask = _padded(model, rows)
            output = generate(ids, mask, rows[0].steering)
            run.seconds += time.perf_counter() - started
            for request, row in zip(rows, output[:, ids.shape[1] :].tolist(), strict=True):
                end = next((i for i, token in enumerate(row) if token in ends), len(row))
                run.tokens[request.key] = tuple(row[:end])
    return run


def transformers_batch(model: LoadedModel, max_new_tokens: int) -> Batch:
    """``generate`` of transformers with a forward hook on the steered block."""
    ends = sorted(model.end_token_ids)

    @torch.inference_mode()
    def generate(ids: torch.Tensor, mask: torch.Tensor, steering: Steering | None) -> torch.Tensor:
        with _hooked(model, steering):
            output: torch.Tensor = model.hf_model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=ends[0],
            )
        return output

    return generate


def lens_batch(model: LoadedModel, max_new_tokens: int) -> Batch:
    """``TransformerBridge.generate`` with hooks; its weights are the model's."""
    bridge = bridge_to(model)
    end = min(model.end_token_ids)

    @torch.inference_mode()
    def generate(ids: torch.Tensor, mask: torch.Tensor, steering: Steering | None) -> torch.Tensor:
        def steer(residual: torch.Tensor, hook: Any) -> torch.Tensor:
            return _steer_last(residual, steering)

        hooks = [] if steering is None else [(site_of(steering.layer), steer)]
        with bridge.hooks(fwd_hooks=hooks):
            output: torch.Tensor = bridge.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=end,
                return_type="tokens",
                verbose=False,
            )
        return output

    return generate


def _padded(model: LoadedModel, rows: Sequence[Request]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(request.tokens) for request in rows)
    filler = min(model.end_token_ids)
    ids = torch.full((len(rows), longest), filler)
    mask = torch.zeros_like(ids)
    for row, request in enumerate(rows):
        ids[row, -len(request.tokens) :] = torch.tensor(request.tokens)
        mask[row, -len(request.tokens) :] = 1
    return ids, mask


@contextmanager
def _hooked(model: LoadedModel, steering: Steering | None) -> Iterator[None]:
    if steering is None:
        yield
        return

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (_steer_last(output[0], steering), *output[1:])
        return _steer_last(output, steering)

    handle = model.blocks[steering.layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _steer_last(residual: torch.Tensor, steering: Steering | None) -> torch.Tensor:
    """The prompt's last token, or the one token of a later forward."""
    assert steering is not None
    vector = steering.vector.to(residual)
    last = residual[:, -1:]
    if steering.intervention == "add":
        steered = last + steering.coefficient * vector
    else:
        steered = last - steering.coefficient * (last @ vector)[..., None] * vector
    return torch.cat([residual[:, :-1], steered], dim=1)
