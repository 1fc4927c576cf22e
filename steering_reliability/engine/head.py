"""The output matrix, multiplied as fast as the machine can, or not at all where nobody looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# MKL reaches half its speed on a matrix as tall as a vocabulary; in blocks of this many rows it
# reaches nearly all of it (`python -m benchmarks.engine` prints both).
_BLOCK = 2048


@contextmanager
def output_head(hf_model: Any, needed: bool) -> Iterator[None]:
    """Let a model compute its logits in blocks of the vocabulary, or leave them out.

    Args:
        hf_model: the transformers model.
        needed: whether anyone reads the logits; where not, they have a width of 0.
    """
    head = hf_model.get_output_embeddings()
    if needed and not _worth_splitting(head):
        yield
        return
    head.forward = (lambda hidden: _in_blocks(head, hidden)) if needed else _nothing
    try:
        yield
    finally:
        del head.forward


def _worth_splitting(head: Any) -> bool:
    plain = type(head) is torch.nn.Linear and head.weight.device.type == "cpu"
    return plain and head.weight.shape[0] > 2 * _BLOCK


def _in_blocks(head: torch.nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    weight, bias = head.weight, head.bias
    rows = hidden.reshape(-1, hidden.shape[-1])
    logits = rows.new_empty(rows.shape[0], weight.shape[0])
    for start in range(0, weight.shape[0], _BLOCK):
        block = slice(start, start + _BLOCK)
        torch.mm(rows, weight[block].t(), out=logits[:, block])
    if bias is not None:
        logits += bias
    return logits.view(*hidden.shape[:-1], -1)


def _nothing(hidden: torch.Tensor) -> torch.Tensor:
    return hidden.new_empty(*hidden.shape[:-1], 0)
