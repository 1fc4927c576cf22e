"""Reads the residual stream where prompts are continued in several ways, and computes no more.

This module knows nothing about directions: it gives block outputs for rows of tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

if TYPE_CHECKING:
    from steering_reliability.models.loaded import LoadedModel

# Enough rows for matrix products at full speed; few enough for the memory that they share.
_PROMPTS_AT_ONCE = 8
_LENGTH_STEP = 5


@dataclass(frozen=True)
class Continued:
    """Token ids of a prompt and of what it is continued by, each way on its own."""

    prompt: list[int]
    continuations: list[list[int]]


class _DeepestReached(Exception):  # noqa: N818 - control flow, not an error
    """Ends a forward pass once the deepest wanted layer is known."""


def read_continuations(
    model: LoadedModel, requests: Sequence[Continued], layers: Sequence[int]
) -> Iterator[tuple[int, dict[int, Tensor]]]:
    """Block outputs at the tokens of every continuation, in float32.

    A prompt is computed once for all its continuations, what all prompts begin with once for all
    of them, and no block after the deepest wanted layer runs.

    Args:
        model: in whatever dtype; it computes in float32 meanwhile.
        requests: all with the same number of continuations.
        layers: 0-indexed blocks.

    Yields:
        A request's index and, per layer, ``[n_continuations, longest, d_model]`` on the CPU;
        what lies beyond a continuation's own length is meaningless.
    """
    longest_prompts_last = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt))
    with torch.no_grad(), _in_float32(model, max(layers)), _Reader(model, layers) as reader:
        begin = common_beginning([request.prompt for request in requests])
        shared = DynamicCache(config=model.hf_model.config)
        if begin:
            reader.run([begin], shared)
        for start in range(0, len(requests), _PROMPTS_AT_ONCE):
            # Of like length, so that little is padded.
            indices = longest_prompts_last[start : start + _PROMPTS_AT_ONCE]
            batch = [requests[index] for index in indices]
            read = _read_batch(reader, batch, len(begin), copy.deepcopy(shared))
            for row, index in enumerate(indices):
                yield index, {layer: read[layer][row] for layer in layers}


def _read_batch(
    reader: _Reader, batch: list[Continued], n_shared: int, cache: DynamicCache
) -> dict[int, Tensor]:
    """Per layer ``[prompts, n_continuations, longest, d_model]``, float32, on the CPU."""
    cache.batch_repeat_interleave(len(batch))
    own = [request.prompt[n_shared:] for request in batch]
    width = max(map(len, own))
    if width:
        # What is padded on the right can't be seen by what stands before it.
        reader.run(padded(own), cache)
    lengths = n_shared + torch.tensor([*map(len, own)])
    by_number = [*zip(*(request.continuations for request in batch), strict=True)]
    longest = [max(map(len, texts)) for texts in by_number]
    read: dict[int, Tensor] = {}
    for numbers in _of_like_length(longest):
        rows = padded([request.continuations[n] for request in batch for n in numbers])
        seen = seen_after(lengths.repeat_interleave(len(numbers)), n_shared + width, len(rows[0]))
        continued = copy.deepcopy(cache)
        continued.batch_repeat_interleave(len(numbers))
        reader.run(rows, continued, *seen)
        for layer, residual in reader.residuals.items():
            part = residual.float().cpu().unflatten(0, (len(batch), len(numbers)))
            shape = (len(batch), len(longest), max(longest), part.shape[-1])
            read.setdefault(layer, torch.zeros(shape))[:, numbers, : len(rows[0])] = part
    return read


def _of_like_length(lengths: Sequence[int]) -> list[list[int]]:
    """Indices, in groups whose texts fill as many steps: so little is padded."""
    by_steps: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        by_steps.setdefault(max(1, -(-length // _LENGTH_STEP)), []).append(index)
    return [*by_steps.values()]


def common_beginning(rows: Sequence[Sequence[int]]) -> list[int]:
    """Tokens that all rows begin with."""
    length = 0
    for tokens in zip(*rows, strict=False):
        if len(set(tokens)) > 1:
            break
        length += 1
    return list(rows[0][:length])


def padded(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Rows of equal length, filled on the right, where what stands before can't see it."""
    width = max(map(len, rows))
    return [[*row, *[0] * (width - len(row))] for row in rows]


def seen_after(lengths: Tensor, n_cached: int, n_new: int) -> tuple[Tensor, Tensor]:
    """Mask and positions of new tokens that follow a part of what is cached, row by row.

    Args:
        lengths: cached tokens of each row that are not padding, ``[rows]``.
        n_cached: tokens cached per row, padding included.
        n_new: new tokens per row.

    Returns:
        1 for what may be seen, ``[rows, n_cached + n_new]``, and positions ``[rows, n_new]``.
    """
    past = torch.arange(n_cached) < lengths[:, None]
    new = torch.ones(len(lengths), n_new, dtype=torch.bool)
    return torch.cat([past, new], dim=1).long(), lengths[:, None] + torch.arange(n_new)


class _Reader:
    """Runs the model up to the deepest wanted layer and keeps what it saw on the way.

    Attributes:
        residuals: per wanted layer the last run's block output, ``[rows, tokens, d_model]``.
    """

    def __init__(self, model: LoadedModel, layers: Sequence[int]) -> None:
        self._model = model
        self._layers = layers
        self._handles: list[Any] = []
        self.residuals: dict[int, Tensor] = {}

    def __enter__(self) -> _Reader:
        for layer in self._layers:
            block = self._model.blocks[layer]
            self._handles.append(block.register_forward_hook(self._keep(layer)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep(self, layer: int) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self.residuals[layer] = output[0] if isinstance(output, tuple) else output
            if layer == max(self._layers):
                raise _DeepestReached

        return hook

    def run(
        self,
        rows: list[list[int]],
        cache: DynamicCache,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> None:
        """Continue the cached tokens by rows of equal length.

        Args:
            rows: token ids.
            cache: of as many rows; grows by theirs.
            mask: 1 for what may be seen, ``[rows, cached + new]``; everything if None.
            positions: of the new tokens, ``[rows, new]``; after the cached ones if None.
        """
        device = self._model.device
        try:
            with self._model.packed.in_use():
                self._model.hf_model(
                    input_ids=torch.tensor(rows, device=device),
                    attention_mask=None if mask is None else mask.to(device),
                    position_ids=None if positions is None else positions.to(device),
                    past_key_values=cache,
                    use_cache=True,
                )
        except _DeepestReached:
            return
        raise RuntimeError("the model ran without calling the block at the deepest wanted layer")


@contextmanager
def _in_float32(model: LoadedModel, deepest: int) -> Iterator[None]:
    """Compute in float32 meanwhile: the rounding of bfloat16 exceeds the null guard."""
    unused = {id(p) for block in model.blocks[deepest + 1 :] for p in block.parameters()}
    narrow = [
        (parameter, parameter.data)
        for parameter in model.hf_model.parameters()
        if parameter.is_floating_point()
        and parameter.dtype != torch.float32
        and id(parameter) not in unused
    ]
    try:
        for parameter, data in narrow:
            parameter.data = data.float()
        yield
    finally:
        for parameter, data in narrow:
            parameter.data = data
