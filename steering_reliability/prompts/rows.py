"""Rows of prompt files that are read here: JSONL and csv, each with its line in the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steering_reliability.errors import SteeringError
from steering_reliability.prompts.prompt import short


@dataclass(frozen=True)
class Row:
    """One row of a source.

    Attributes:
        where: file and line, or source and row, for errors.
        values: by column; None is nothing.
    """

    where: str
    values: Mapping[str, Any]


def jsonl_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSONL file.

    Raises:
        SteeringError: it cannot be read, is not UTF-8, or a line is no JSON object.
    """
    # Universal newlines, not str.splitlines: JSON strings may hold U+2028 as it is.
    lines = io.StringIO(_text(path, "JSONL"), newline=None)
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield Row(f"{path}:{number}", _json_object(f"{path}:{number}", line))


def csv_rows(path: Path) -> Iterator[Row]:
    """The rows of a csv file below its header, every value as the text that stands there.

    Libraries of data frames would make numbers of ``13`` and nothing of ``NA``, and count rows,
    where an editor counts lines.

    Raises:
        SteeringError: it cannot be read, is not UTF-8, is empty, has no row below the header, or
            a row is not one.
    """
    rows = _csv_lines(path)
    where, header = next(rows, ("", []))
    if not header:
        raise SteeringError(
            f"{path}: found an empty file, expected a line of column names and a prompt per row "
            "below it; add them or name another file"
        )
    named = [name for name in header if name]
    for name in named:
        if named.count(name) > 1:
            raise SteeringError(
                f"{where}: found the column {short(name)} twice, expected each name once; "
                "rename one"
            )
    is_empty = True
    for where, values in rows:
        is_empty = False
        if len(values) > len(header):
            raise SteeringError(
                f"{where}: found {len(values)} values, expected {len(header)}, one per column; "
                "put a text that holds a comma in double quotes"
            )
        filled = [value or None for value in values] + [None] * (len(header) - len(values))
        yield Row(where, dict(zip(header, filled, strict=True)))
    if is_empty:
        raise SteeringError(
            f"{path}: found no rows below the column names, expected a prompt per row; "
            "add prompts or name another file"
        )


def _csv_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Every row that is not blank, with the line that it begins in."""
    reader = csv.reader(io.StringIO(_text(path, "csv"), newline=""), strict=True)
    where = f"{path}:1"
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield where, values
            where = f"{path}:{reader.line_num + 1}"
    except csv.Error as error:
        reason = str(error)
        if reason == "unexpected end of data":
            reason = "a double quote is opened and never closed"
        elif reason.startswith("field larger"):
            reason = f"a value of over {csv.field_size_limit():,} characters"
        raise SteeringError(
            f"{where}: found a row that cannot be read ({reason}), expected values between commas, "
            "texts that hold commas, quotes or line breaks in double quotes; close the quotes, and "
            'write "" for a quote within them'
        ) from error


def _text(path: Path, kind: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SteeringError(
            f"{path}: found a file that cannot be read ({error.strerror}), expected {kind}; "
            "check its permissions"
        ) from error
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        place = error.start - data.rfind(b"\n", 0, error.start)
        raise SteeringError(
            f"{path}:{line}: found the byte {data[error.start]:#04x} (byte {place} of the line), "
            f"which is not UTF-8, expected {kind} in UTF-8; save the file as UTF-8"
        ) from error


def _json_object(where: str, line: str) -> Mapping[str, Any]:
    expected = 'expected one JSON object per line, like {"id": "a-1", "prompt": "Why?"}'
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise SteeringError(
            f"{where}: found bad JSON ({reason}): {short(line.strip())}, {expected}; mend the line"
        ) from error
    if not isinstance(value, dict):
        raise SteeringError(f"{where}: found {short(value)}, {expected}; mend the line")
    return value
