"""Prompts from JSONL and csv files, and from what the ``datasets`` library reads.

Errors name file, line or row, key, what was found and what is expected.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steering_reliability.errors import SteeringError, nearby
from steering_reliability.prompts.duplicates import fold
from steering_reliability.prompts.prompt import Prompt, cut, short
from steering_reliability.prompts.rows import Row, csv_rows, jsonl_rows
from steering_reliability.prompts.sources import FILE_SUFFIXES, names_file

FIELDS = ("id", "prompt", "category", "style")
_READERS = {".jsonl": jsonl_rows, ".csv": csv_rows}
_KINDS = "a jsonl, json, csv or parquet file"


def load_prompts(
    source: str | Path,
    *,
    split: str = "",
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> list[Prompt]:
    """Read the prompts of one split, in the order of the source.

    Args:
        source: a JSONL file with one ``{"id", "prompt", "category", "style"}`` per line (only
            ``prompt`` is required); a csv file, whose values are all taken as text; or what the
            ``datasets`` library reads: a parquet or json file, a folder, or a hub id
            ``owner/name[/configuration[/split]]``.
        split: the prompts' split; by default the file's stem (the last part of a hub id).
        columns: names in the source for ``id``, ``prompt``, ``category``, ``style``, where they
            differ: ``{"prompt": "goal"}``.
        limit: keep the first so many prompts. JSONL and csv files are checked to their end all the
            same.

    Returns:
        At least one prompt; a row without an id is called ``<split>-<row>``, rows from 1.

    Raises:
        SteeringError: the source is missing, empty or unreadable, a prompt has no text, an id or
            a text (but for case, white space and punctuation) occurs twice, a column that
            ``columns`` names is missing, or ``limit`` is below 1.
    """
    if limit is not None and limit < 1:
        raise SteeringError(f"{source}: limit: found {limit}, expected a whole number of 1 or more")
    names = _column_names(source, columns or {})
    path = Path(source)
    is_local = isinstance(source, Path) or path.exists() or names_file(source)
    if is_local and not path.exists():
        raise SteeringError(
            f"{source}: found no such file, expected a prompt file; "
            f"check the path{nearby(path, path.parent.glob('*'))}"
        )
    reader = _READERS.get(path.suffix.lower()) if path.is_file() else None
    if reader is not None:
        rows = reader(path)
    else:
        rows = _dataset_rows(path if is_local else str(source), limit)
    split = split or (path.stem if is_local else path.name)
    prompts = _prompts_of_rows(rows, source, split, names, asked=set(columns or ()))
    return prompts if limit is None else prompts[:limit]


def _column_names(source: str | Path, columns: Mapping[str, str]) -> dict[str, str]:
    for field in columns:
        if field not in FIELDS:
            nearest = difflib.get_close_matches(field, FIELDS, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(FIELDS)}"
            raise SteeringError(f"{source}: columns.{field}: unknown key; {hint}")
    return {field: columns.get(field, field) for field in FIELDS}


def _dataset_rows(source: str | Path, limit: int | None) -> Iterator[Row]:
    if isinstance(source, Path) and source.is_file():
        _check_file(source)
    found = _load(source)
    if isinstance(found, Mapping):
        if len(found) != 1:
            raise SteeringError(
                f"{source}: found the splits {', '.join(map(str, found))}, expected one; "
                "name it, as owner/name/configuration/split or as one folder or file of the source"
            )
        found = next(iter(found.values()))
    rows = found if limit is None else found.select(range(min(limit, len(found))))
    # Rows, not lines: only here is ``name:2`` no place in a file.
    for number, values in enumerate(rows, start=1):
        yield Row(f"{source}: row {number}", values)


def _check_file(path: Path) -> None:
    if path.suffix.lower() not in FILE_SUFFIXES:
        raise SteeringError(
            f"{path}: found a {path.suffix or 'suffixless'} file, expected {_KINDS}; "
            "save it as one of them"
        )
    if path.stat().st_size == 0:
        raise SteeringError(
            f"{path}: found an empty file, expected at least one prompt; add prompts or name "
            "another file"
        )


def _load(source: str | Path) -> Any:
    # Importing datasets takes seconds and pulls in pandas: only who needs it pays.
    import datasets

    try:
        with _no_progress_bars():
            if isinstance(source, Path) and source.is_dir() and _is_saved(source):
                return datasets.load_from_disk(str(source))
            if isinstance(source, Path) and source.is_dir():
                return datasets.load_dataset(str(source))
            if isinstance(source, Path):
                return datasets.load_dataset(source.suffix.lower()[1:], data_files=str(source))
            owner, name, configuration, part = (source.split("/", 3) + [""] * 4)[:4]
            return datasets.load_dataset(
                f"{owner}/{name}".rstrip("/"), configuration or None, split=part or None
            )
    # The library and its readers raise anything from OSError to pyarrow's own errors.
    except Exception as error:
        reason = cut(_reason(error), 160)
        if isinstance(source, Path):
            raise SteeringError(
                f"{source}: could not be read ({reason}), expected {_KINDS}, or a folder of them; "
                "mend it or save it anew"
            ) from error
        raise SteeringError(
            f"{source}: found no readable data set ({reason}), expected {_KINDS}, a folder of "
            "them, or a hub id; check the name and the network"
        ) from error


def _reason(error: BaseException) -> str:
    """What went wrong in the end: the library's own message is that something did."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep the bars of ``datasets`` out of what pytest prints, but leave the user's setting."""
    import datasets

    had_bars = not datasets.are_progress_bars_disabled()
    # What the environment variable says goes before either call, which would only warn of it.
    may_change = datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS is None
    if had_bars and may_change:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_bars and may_change:
            datasets.enable_progress_bars()


def _is_saved(folder: Path) -> bool:
    """Whether the folder is what ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote."""
    return (folder / "state.json").exists() or (folder / "dataset_dict.json").exists()


def _prompts_of_rows(
    rows: Iterable[Row],
    source: str | Path,
    split: str,
    names: Mapping[str, str],
    asked: set[str],
) -> list[Prompt]:
    prompts = []
    ids: dict[str, str] = {}
    texts: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        for field in sorted(asked):
            if names[field] not in row.values:
                raise SteeringError(
                    f"{row.where}: columns.{field}: found no column {names[field]!r}, "
                    f"expected one of {', '.join(map(str, row.values))}; mend the column mapping"
                )
        text = _text_of(row, names["prompt"])
        name = _id_of(row, names["id"], fallback=f"{split}-{number}")
        if name in ids:
            raise SteeringError(
                f"{row.where}: id: found {name!r} as in {ids[name]}, "
                "expected each id once; rename one"
            )
        folded = fold(text)
        if folded in texts:
            raise SteeringError(
                f"{row.where}: prompt: found {short(text)} as in {texts[folded]}, "
                "expected each text once; remove one"
            )
        ids[name] = texts[folded] = row.where
        category, style = (_label_of(row, names[field]) for field in ("category", "style"))
        prompts.append(Prompt(name, text, split, category, style))
    if not prompts:
        raise SteeringError(
            f"{source}: found no prompts, expected at least one; add prompts or name another file"
        )
    return prompts


def _text_of(row: Row, column: str) -> str:
    if column not in row.values:
        found = ", ".join(map(str, row.values)) or "nothing"
        raise SteeringError(
            f"{row.where}: {column}: found only {found}, expected the prompt's text under "
            f"{column!r}; add it, or map it with columns: {{prompt: …}}"
        )
    text = row.values[column]
    if not isinstance(text, str) or not text.strip():
        found = "nothing" if text is None else short(text)
        raise SteeringError(
            f"{row.where}: {column}: found {found}, expected the prompt's text; "
            "write it or remove the row"
        )
    if _has_surrogate(text):
        raise SteeringError(
            f"{row.where}: {column}: found half a surrogate pair in {short(text)}, "
            "expected text that UTF-8 can hold; mend the escape"
        )
    return text


def _id_of(row: Row, column: str, fallback: str) -> str:
    name = row.values.get(column)
    if name is None:
        return fallback
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise SteeringError(
            f"{row.where}: {column}: found {short(name)}, expected text or a whole number; "
            "write an id or leave it out"
        )
    return str(name)


def _label_of(row: Row, column: str) -> str:
    value = row.values.get(column)
    return "" if value is None else str(value)


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
