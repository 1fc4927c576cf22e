"""Which levels a folder has, found without reading them whole."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from steering_reliability.config.reading import shown, yaml_files
from steering_reliability.errors import SteeringError

MARKER_NAME = "a marker's name: letters, digits and underscores"
_OTHER_KEY = re.compile(r"^(?:layers|interventions|alphas|prompts):", re.MULTILINE)


def find_levels(folder: str | Path) -> dict[str, Path]:
    """The levels whose YAML files are in ``<folder>/configs``, by name, without reading them all.

    Only the ``level:`` line is looked at, so that a mistake elsewhere in a file does not hide its
    level; a file without one goes by its own name.

    Raises:
        SteeringError: two files are the same level, or the name of one that has a level's other
            keys can't be a marker's.
    """
    levels: dict[str, Path] = {}
    for path in yaml_files(Path(folder, "configs")):
        name = _name_in(path) or path.stem
        if name in levels:
            raise SteeringError(
                f"{path}: level: found {name!r} as in {levels[name]}, expected each level once; "
                "rename one"
            )
        levels[name] = path
    return levels


def _name_in(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="replace")
    line = re.search(r"^level:(?:[ \t].*)?$", text, re.MULTILINE)
    if line is None:
        return ""
    try:
        name = yaml.safe_load(line[0])["level"]
    except yaml.YAMLError:
        # As it stands, for the error.
        name = line[0].partition(":")[2].strip()
    if name is None:
        return ""
    if not str(name).isidentifier():
        # Such as a logger's settings: "level: 10".
        if not _OTHER_KEY.search(text):
            return ""
        raise SteeringError(
            f"{path}: level: found {shown(name)}, expected {MARKER_NAME}; rename it"
        )
    return str(name)
