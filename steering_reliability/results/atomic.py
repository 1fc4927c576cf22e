"""Files that are whole or not there: text, JSON, CSV and parquet.

A file is written beside its place and moved there when it is complete, so whoever reads it, and
whoever is killed, sees the former file or the new one. The same data give the same bytes.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steering_reliability.errors import SteeringError

if TYPE_CHECKING:
    import pandas as pd

CSV_DIGITS = 6
# Columns that cells are looked up and merged by: rounded, they would no longer be found.
CSV_EXACT = frozenset({"alpha"})

_SURROGATES = re.compile("[\ud800-\udfff]")


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file atomically; its folder is made if missing.

    Raises:
        SteeringError: the folder cannot be written.
    """
    write_together({path: data})


def write_text(path: Path, text: str) -> None:
    """Writes text as UTF-8 atomically; see `write_bytes`."""
    write_bytes(path, text_bytes(text))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically; see `write_bytes` and `json_bytes`."""
    write_bytes(path, json_bytes(value))


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Writes a table atomically; see `write_bytes` and `csv_text`."""
    write_text(path, csv_text(frame))


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Writes a table atomically; see `write_bytes` and `parquet_bytes`."""
    write_bytes(path, parquet_bytes(frame))


def write_together(files: Mapping[Path, bytes | None]) -> None:
    """Writes several files, all of them staged on disk before the first one is replaced.

    Whatever goes wrong while they are written leaves every former file as it was; only a kill
    amid the renames that follow can mix new files with former ones.

    Args:
        files: content by path, replaced in this order; None removes the file.

    Raises:
        SteeringError: a folder cannot be written, or the disk is full.
    """
    staged: dict[Path, Path] = {}
    path = Path()
    try:
        for path, data in files.items():
            if data is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                staged[path] = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
                _write_through(staged[path], data)
        for path in files:
            if path in staged:
                staged[path].replace(path)
                del staged[path]
            else:
                path.unlink(missing_ok=True)
        for folder in {path.parent for path in files}:
            _sync_folder(folder)
    except OSError as error:
        raise SteeringError(
            f"{path}: found a folder that cannot be written ({error.strerror or error}), expected"
            " a writable one with space; former files are as they were: free the disk or choose"
            " another folder with --steer-artifacts"
        ) from error
    finally:
        for temporary in staged.values():
            # What cannot be removed now must not hide the error that led here.
            try:
                temporary.unlink(missing_ok=True)
            except OSError:
                continue


def text_bytes(text: str) -> bytes:
    r"""UTF-8; a lone surrogate, which UTF-8 cannot say, is written out as ``\udXXX``."""
    return text.encode("utf-8", "backslashreplace")


def json_bytes(value: Any) -> bytes:
    """Indented strict JSON; NaN and infinities are null, numpy scalars and paths are plain.

    Raises:
        TypeError: the value holds something that JSON has no word for.
    """
    return text_bytes(json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def csv_text(frame: pd.DataFrame) -> str:
    """CSV that is the same, byte for byte, for the same table, wherever it was made.

    Floats have six significant digits (columns named alpha all of them) in their shortest form
    (``0.0``, ``4.0``, ``0.166667``, ``1e-09``); NaN is empty; lines end in ``\\n``.
    """
    text = frame.copy()
    for name in text.columns:
        if text[name].dtype.kind == "f":
            exact = name in CSV_EXACT
            text[name] = [_float_text(value, exact) for value in text[name]]
    return str(text.to_csv(index=False, lineterminator="\n"))


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Parquet without the index; lone surrogates become U+FFFD, as Arrow's text is UTF-8."""
    safe = frame.copy(deep=False)
    for name in safe.columns:
        if safe[name].dtype == object:
            safe[name] = [well_formed(v) if isinstance(v, str) else v for v in safe[name]]
    buffer = BytesIO()
    safe.to_parquet(buffer, index=False)
    return buffer.getvalue()


def well_formed(text: str) -> str:
    """The text with U+FFFD for lone surrogates: pandas keeps text in Arrow, which has none."""
    return _SURROGATES.sub("\ufffd", text)


def _float_text(value: float, exact: bool) -> str:
    if math.isnan(value):
        return ""
    rounded = float(value) if exact else float(f"{value:.{CSV_DIGITS}g}")
    # Adding zero turns -0.0, which sums may or may not end in, into 0.0.
    return repr(rounded + 0.0)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.as_posix() if isinstance(value, Path) else value


def _write_through(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # Without it a power cut can undo the rename. Windows cannot open folders and needs it not.
    if os.name == "posix" and folder.is_dir():
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
