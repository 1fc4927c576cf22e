"""What generation produces: one steered completion, as plain data.

This module knows nothing about models or scores; a completion can be stored, read and scored
without torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from steering_reliability.cells import Cell

FinishReason = Literal["stop", "length"]

PREFIX_TOKENS = (16, 32)
"""Lengths, in tokens, at which a completion is also judged as if it had been cut off there."""

UNSTEERED_LOGPROB = "unsteered_logprob"
"""Among a completion's measurements, of a sample: how likely the unsteered model finds it."""


@dataclass(frozen=True)
class Completion:
    """One completion of one prompt in one cell.

    Attributes:
        prompt_id: id of the prompt.
        cell: the cell it was generated in; the unsteered model's completions carry the
            requested cell with ``alpha=0``.
        text: decoded text up to, and without, the first end of turn.
        token_ids: generated tokens, the end-of-turn token excluded.
        finish_reason: ``"stop"`` at an end of turn, ``"length"`` at the token limit.
        sample: index of the sample, 0 for greedy decoding.
        measurements: ``mean_logprob`` (nats per token), ``mean_entropy`` (nats),
            ``refusal_log_odds`` (the first-token log-odds, nats), as the steered model
            itself gives them; ``chars_16`` and ``chars_32`` (characters of the text that the first
            so many tokens make) where `mark_prefixes` entered them; of a sample `UNSTEERED_LOGPROB`
            (nats per token, under the unsteered model after the same prompt).
        key: content address: hash of everything that determines the completion.
    """

    prompt_id: str
    cell: Cell
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    sample: int = 0
    measurements: Mapping[str, float] = field(default_factory=dict)
    key: str = ""

    def serialize(self) -> dict[str, Any]:
        """Plain builtins only, fit for JSON, SQLite and the xdist wire."""
        record = asdict(self)
        record["token_ids"] = list(self.token_ids)
        record["measurements"] = {name: float(v) for name, v in self.measurements.items()}
        return record

    @classmethod
    def deserialize(cls, record: Mapping[str, Any]) -> Completion:
        fields = dict(record)
        fields["cell"] = Cell(**fields["cell"])
        fields["token_ids"] = tuple(fields["token_ids"])
        return cls(**fields)


def mark_prefixes(completion: Completion, decode: Callable[[Sequence[int]], str]) -> Completion:
    """The completion with ``chars_16`` and ``chars_32`` among its measurements.

    Token ids mean nothing without the tokenizer, and a run is judged again without it, so the
    places of `PREFIX_TOKENS` are kept as offsets into the text. A character that the cut splits
    does not count; a completion that ends before has its whole length.

    Args:
        completion: of an engine, with its token ids.
        decode: token ids to text, as the engine decoded them.
    """
    marked = dict(completion.measurements)
    for k in PREFIX_TOKENS:
        text = completion.text
        if len(completion.token_ids) > k:
            text = os.path.commonprefix([decode(completion.token_ids[:k]), text])
        marked[f"chars_{k}"] = float(len(text))
    return replace(completion, measurements=marked)
