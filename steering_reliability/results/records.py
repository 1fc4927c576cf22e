"""A completion as the store keeps it, and its form on disk.

A record holds what generation determined, not which prompt and cell asked for it: the unsteered
model's completion of a prompt is one record, shared by every layer and intervention.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from steering_reliability.cells import Cell
from steering_reliability.completions import Completion, FinishReason

Row = tuple[str, bytes, bytes, float, str]
"""key, record (JSON), checksum, created_at, run (JSON): one row of the completions table."""


class DamagedRecordError(ValueError):
    """A row whose bytes are not those that were written."""


@dataclass(frozen=True)
class StoredCompletion:
    """One completion, found by its key.

    Attributes:
        key: content address: hex hash of everything that determines the completion.
        text, token_ids, finish_reason, measurements: as in `Completion`.
        created_at: seconds since the epoch; informational.
        run: which run made it (level, model, ...); informational.
    """

    key: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    measurements: Mapping[str, float] = field(default_factory=dict)
    created_at: float = 0.0
    run: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, completion: Completion, run: Mapping[str, str] | None = None) -> StoredCompletion:
        """What is to be stored of a fresh completion, stamped with the current time.

        Raises:
            ValueError: the completion has no key.
        """
        if not completion.key:
            raise ValueError(f"completion of {completion.prompt_id}: found no key")
        return cls(
            key=completion.key,
            text=completion.text,
            token_ids=completion.token_ids,
            finish_reason=completion.finish_reason,
            measurements=dict(completion.measurements),
            created_at=time.time(),
            run=dict(run or {}),
        )

    def labelled(self, prompt_id: str, cell: Cell, sample: int = 0) -> Completion:
        """The completion, as that of a prompt and cell whose key is this one's."""
        return Completion(
            prompt_id=prompt_id,
            cell=cell,
            text=self.text,
            token_ids=self.token_ids,
            finish_reason=self.finish_reason,
            sample=sample,
            measurements=dict(self.measurements),
            key=self.key,
        )


def encode(completion: StoredCompletion) -> Row:
    """The row of a completion. Any text survives, lone surrogates and NUL included."""
    record = {
        "text": completion.text,
        "token_ids": list(completion.token_ids),
        "finish_reason": completion.finish_reason,
        "measurements": {name: float(value) for name, value in completion.measurements.items()},
    }
    # JSON's own \u escapes would merge two surrogates that stood apart into one character.
    content = json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")
    run = json.dumps(dict(completion.run), sort_keys=True)
    checksum = _checksum(completion.key, content, run)
    return completion.key, content, checksum, completion.created_at, run


def decode(row: Row) -> StoredCompletion:
    """The completion of a row.

    Raises:
        DamagedRecordError: its checksum or its JSON does not hold.
    """
    key, content, checksum, created_at, run = row
    try:
        if _checksum(key, content, run) != checksum:
            raise DamagedRecordError(f"record {key}: checksum does not match")
        record = json.loads(content.decode("utf-8", "surrogatepass"))
        return StoredCompletion(
            key=key,
            text=record["text"],
            token_ids=tuple(record["token_ids"]),
            finish_reason=record["finish_reason"],
            measurements=record["measurements"],
            created_at=created_at,
            run=json.loads(run),
        )
    except DamagedRecordError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedRecordError(f"record {key}: {type(error).__name__}: {error}") from error


def is_intact(row: Row) -> bool:
    """Whether a row's checksum holds; quicker than to decode it."""
    key, content, checksum, _, run = row
    try:
        return _checksum(key, content, run) == checksum
    except (TypeError, AttributeError):
        return False


def _checksum(key: str, content: bytes, run: str) -> bytes:
    whole = b"\0".join((key.encode(), content, run.encode()))
    return hashlib.blake2b(whole, digest_size=16).digest()
