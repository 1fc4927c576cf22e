"""The output matrix, left out where nobody looks at the logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from steering_reliability.models.forwards import replaced_forwards


@contextmanager
def output_head(hf_model: Any, needed: bool) -> Iterator[None]:
    """Let a model compute its logits, or leave them out for a while.

    Args:
        hf_model: the transformers model.
        needed: whether anyone reads the logits; where not, they have a width of 0.
    """
    if needed:
        yield
        return
    with replaced_forwards([hf_model.get_output_embeddings()], lambda _head: _nothing):
        yield


def _nothing(hidden: torch.Tensor) -> torch.Tensor:
    return hidden.new_empty(*hidden.shape[:-1], 0)
