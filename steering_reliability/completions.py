"""What generation produces: one steered completion, as plain data.

This module knows nothing about models or scores; a completion can be stored, read and scored
without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from steering_reliability.cells import Cell

FinishReason = Literal["stop", "length"]


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
            ``refusal_log_odds`` (nats, at the first response token), as the steered model
            itself gives them.
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
