"""YAML in, checked settings out; every error is one line that names file, key, found, expected.

This module knows nothing about what the settings mean.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from steering_reliability.errors import SteeringError, nearby

ModelT = TypeVar("ModelT", bound=BaseModel)

NonEmpty = Annotated[str, Field(min_length=1)]

_CUSTOM = "steering"
_TYPE_PHRASES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class Settings(BaseModel):
    """Base of everything read from YAML: no unknown key, no coercion, no change afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True, eq=False)
class ModelsByKey:
    """Marks a mapping whose values have a settings model each, chosen by key."""

    models: Mapping[str, type[BaseModel]]


def wrong(found: object, expected: str, key: str = "") -> PydanticCustomError:
    """The error for a validator to raise; ``key`` is where below the validated field it belongs."""
    text = f"found {shown(found)}, expected {expected}"
    return PydanticCustomError(_CUSTOM, "{text}", {"text": text, "key": key})


def refuse_repeats(values: Sequence[object]) -> None:
    """Raise for the first value of a list that it already held."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise wrong(as_written(value), "each value once", key=f"[{index}]")


def yaml_files(folder: Path) -> list[Path]:
    """The YAML files of a folder, whichever way their names end; none where there is no folder."""
    found = [*folder.glob("*.yaml"), *folder.glob("*.yml")]
    return sorted(path for path in found if path.is_file())


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Args:
        path: the file.
        what: what it should be, for errors: ``"a level"``.

    Raises:
        SteeringError: no such file, not UTF-8, not YAML, a key given twice, not a mapping.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SteeringError(
            f"{path}: found no readable file ({error.strerror}), expected {what} in YAML; "
            f"check the path{nearby(path, yaml_files(path.parent))}"
        ) from error
    except UnicodeDecodeError as error:
        raise SteeringError(
            f"{path}: found bytes that are not UTF-8, expected {what} in YAML; save it as UTF-8"
        ) from error
    try:
        data = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise SteeringError(f"{where}: {reason}; mend the YAML") from error
    except RecursionError as error:
        raise SteeringError(f"{path}: found YAML nested too deeply, expected {what}") from error
    if not isinstance(data, dict):
        raise SteeringError(f"{path}: found {shown(data)}, expected {what}: a mapping of keys")
    return data


def validate(model: type[ModelT], data: Mapping[str, Any], where: object) -> ModelT:
    """The settings in ``data``.

    Raises:
        SteeringError: the first thing wrong, as ``<where>: <key>: found …, expected …``; an
            unknown key goes first, since a misspelt key is also a missing one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = next((e for e in errors if e["type"] in _UNKNOWN_KEY), errors[0])
        # A key of the user's may hold a line break.
        message = " ".join(_translate(model, first).splitlines())
        raise SteeringError(f"{where}: {message}") from error


def nearest(word: object, known: Iterable[str]) -> str:
    """Advice for an unknown word: ``did you mean 'layers'?``, or all that is known."""
    names = list(known)
    close = difflib.get_close_matches(str(word).lower(), names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def shown(value: object) -> str:
    """A value as an error shows it, in YAML's words and in one short line."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def as_written(value: object) -> object:
    """A number that was read as a fraction, or a list of them, as people write it: 3, not 3.0."""
    if isinstance(value, list):
        return [as_written(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, where YAML's own would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = seen.setdefault((key.tag, key.value), key.start_mark.line + 1)
                if line != key.start_mark.line + 1:
                    raise yaml.MarkedYAMLError(
                        problem=f"{key.value}: found twice (first in line {line}), expected once",
                        problem_mark=key.start_mark,
                    )
        return super().construct_mapping(node, deep)


_UNKNOWN_KEY = ("extra_forbidden", "invalid_key")


def _translate(model: type[BaseModel], error: ErrorDetails) -> str:
    location, kind, found = error["loc"], error["type"], error["input"]
    context = error.get("ctx", {})
    if kind in _UNKNOWN_KEY:
        parent = _field_at(model, location[:-1])
        advice = nearest(location[-1], _known_keys(*parent))
        prefix = f"{_dotted(location[:-1])}: " if len(location) > 1 else ""
        key = found if kind == "invalid_key" else location[-1]
        return f"{prefix}{shown(key)}: unknown key; {advice}"
    if kind == _CUSTOM:
        joint = "" if not location or context["key"].startswith("[") else "."
        key = f"{_dotted(location)}{joint}{context['key']}".removesuffix(".")
        return f"{key}: {context['text']}"
    if kind == "value_error":
        return f"{_dotted(location)}: {error['msg'].removeprefix('Value error, ')}"
    expected = _describe(*_field_at(model, location))
    if kind == "missing":
        return f"{_dotted(location)}: found nothing, expected {expected}; add it"
    return f"{_dotted(location)}: found {shown(found)}, expected {expected or error['msg']}"


def _dotted(location: Sequence[int | str]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


Described = tuple[Any, tuple[Any, ...]]


def _field_at(model: type[BaseModel], location: Sequence[int | str]) -> Described:
    """The annotation and its metadata where an error lies; a gap is ``(None, ())``."""
    here: Described = (model, ())
    for part in location:
        here = next(_children(here, part), (None, ()))
    return here


def _children(parent: Described, part: int | str) -> Iterator[Described]:
    annotation, metadata = parent
    for mark in metadata:
        if isinstance(mark, ModelsByKey) and part in mark.models:
            yield mark.models[str(part)], ()
    for option in _options(annotation):
        arguments = get_args(option)
        if _is_model(option):
            for name, field in option.model_fields.items():
                if part == (field.alias or name):
                    yield _unwrap(field)
        elif get_origin(option) is dict and isinstance(part, str):
            yield _unwrap(arguments[1])
        elif get_origin(option) in (list, tuple) and isinstance(part, int):
            yield _unwrap(arguments[0])


def _unwrap(annotation: Any) -> Described:
    if isinstance(annotation, FieldInfo):
        inner, metadata = _unwrap(annotation.annotation)
        return inner, (*annotation.metadata, *metadata)
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        flat = [m for mark in marks for m in (mark.metadata if _is_field(mark) else [mark])]
        return inner, tuple(flat)
    return annotation, ()


def _options(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [option for option in get_args(annotation) if option is not types.NoneType]
    return [annotation]


def _known_keys(annotation: Any, metadata: tuple[Any, ...]) -> list[str]:
    known = [key for mark in metadata if isinstance(mark, ModelsByKey) for key in mark.models]
    for option in filter(_is_model, _options(annotation)):
        known += [field.alias or name for name, field in option.model_fields.items()]
    return known


def _describe(annotation: Any, metadata: tuple[Any, ...]) -> str:
    return " or ".join(
        filter(None, (_describe_one(option, metadata) for option in _options(annotation)))
    )


def _describe_one(option: Any, metadata: tuple[Any, ...]) -> str:
    origin = get_origin(option)
    if option in _TYPE_PHRASES and origin is None:
        return _TYPE_PHRASES[option] + _bounds(metadata)
    if origin is Literal:
        words = ", ".join(map(str, get_args(option)))
        return f"one of {words}" if len(get_args(option)) > 1 else words
    if origin in (list, tuple):
        return "a list that is not empty" if _bounds(metadata) else "a list"
    if _is_model(option):
        return f"a mapping with the keys {', '.join(_known_keys(option, ()))}"
    return "a mapping" if origin is dict else ""


def _bounds(metadata: tuple[Any, ...]) -> str:
    words = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
    found = [
        f"{phrase} {getattr(mark, name):g}"
        for name, phrase in words.items()
        for mark in metadata
        if getattr(mark, name, None) is not None
    ]
    if any(getattr(mark, "min_length", 0) for mark in metadata):
        found.append("that is not empty")
    return " " + " and ".join(found) if found else ""


def _is_model(option: Any) -> bool:
    return isinstance(option, type) and issubclass(option, BaseModel)


def _is_field(mark: object) -> bool:
    return isinstance(mark, FieldInfo)
