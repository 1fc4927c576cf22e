"""Whether a source of prompts is a file or folder, or a data set on the hub."""

from __future__ import annotations

import os
from pathlib import Path

from steering_reliability.errors import SteeringError, nearby

FILE_SUFFIXES = frozenset({".jsonl", ".json", ".csv", ".parquet"})
# Not read, but no end of a data set's name either, where a dot may stand too.
_OTHER_SUFFIXES = frozenset(
    {".gz", ".ndjson", ".ods", ".tsv", ".txt", ".xls", ".xlsx", ".yaml", ".yml", ".zip"}
)


def names_file(source: str) -> bool:
    """Whether a source is meant as a path, be anything there or not: a suffix or ``./`` says so."""
    suffix = Path(source).suffix.lower()
    if source.startswith((".", "/", "~")) or "\\" in source:
        return True
    # Only an id with its owner before it may hold a dot: org/model-1.5, org/set.cleaned.
    bare = "/" not in source and suffix[1:].isalpha()
    return bare or suffix in FILE_SUFFIXES | _OTHER_SUFFIXES


def find_source(source: str, folder: Path, where: str) -> Path | str:
    """The file or folder that a source names, or the source itself where it is a hub id.

    Args:
        source: as a level's file has it.
        folder: what a path is relative to.
        where: file and key, for the error.

    Raises:
        SteeringError: it names a file that is not there.
    """
    if names_file(source) or (folder / source).exists():
        return find_file(source, folder, where)
    return source


def find_file(source: str, folder: Path, where: str) -> Path:
    """The file or folder that a source names.

    Raises:
        SteeringError: it is not there.
    """
    path = Path(os.path.normpath(folder / source))
    if not path.exists():
        raise SteeringError(
            f"{where}: found {source!r}, expected a prompt file, but there is no {path}; "
            f"check the path{nearby(path, path.parent.glob('*'))}"
        )
    return path
