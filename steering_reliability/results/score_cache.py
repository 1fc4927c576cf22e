"""Scores that need not be worked out again, by prompt, text and the scorer that gave them.

A convenience and never the truth: the file may be deleted at any time, one that is damaged is left
out of account, and any change of the scorer's code begins another.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import unicodedata
from dataclasses import astuple
from pathlib import Path
from typing import Any

from steering_reliability import scoring
from steering_reliability.results.atomic import write_bytes
from steering_reliability.scoring import Score, score


class ScoreCache:
    """Scores completions, each prompt and text once; what is new can be saved for later runs.

    Args:
        folder: where the scorers' files are; made when something is saved, and not looked at
            before the first score is asked for. Without one, scores are kept in memory alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = None if folder is None else folder / f"{scorer_digest()}.json"
        self._scores: dict[str, Score] | None = None
        self._has_new = False

    def score(self, prompt: str, text: str, finish_reason: str) -> Score:
        """As `scoring.score`."""
        if self._scores is None:
            self._scores = _read(self._file)
        key = _digest(prompt, text, finish_reason)
        if key not in self._scores:
            self._scores[key] = score(prompt, text, finish_reason=finish_reason)
            self._has_new = True
        return self._scores[key]

    def save(self) -> None:
        """Write what was scored, if anything is new, in place of what other scorers left.

        Of processes that save at the same time one wins; the others' scores are worked out again.

        Raises:
            SteeringError: the folder cannot be written.
        """
        if self._file is None or not self._has_new or not self._scores:
            return
        records = {key: astuple(found) for key, found in self._scores.items()}
        write_bytes(self._file, json.dumps(records).encode())
        self._has_new = False
        for other in self._file.parent.glob("*.json"):
            if other != self._file:
                other.unlink(missing_ok=True)


@functools.cache
def scorer_digest() -> str:
    """16 hex digits of the scorer's code, and of what it rests on in Python."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {unicodedata.unidata_version}".encode())
    for path in sorted(Path(scoring.__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _digest(*parts: str) -> str:
    # The lengths keep two parts from being read as two others; a model may emit any code point.
    whole = "".join(f"{len(part)}:{part}" for part in parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def _read(file: Path | None) -> dict[str, Score]:
    if file is None or not file.exists():
        return {}
    try:
        records = json.loads(file.read_bytes())
        return {key: _score(*fields) for key, fields in records.items()}
    except (OSError, ValueError, TypeError, AttributeError, IndexError):
        return {}


def _score(*fields: Any) -> Score:
    values: tuple[Any, ...] = (*fields[:-1], tuple(fields[-1]))
    return Score(*values)
