"""Which levels a folder has, found without reading them whole."""

from __future__ import annotations

import re
from pathlib import Path

from steering_reliability.errors import SteeringError


def find_levels(folder: str | Path) -> dict[str, Path]:
    """The levels whose YAML files are in ``<folder>/configs``, by name, without reading them all.

    Only the ``level:`` line is looked at, so that a mistake elsewhere in a file does not hide its
    level; a file without one goes by its own name.

    Raises:
        SteeringError: two files are the same level.
    """
    levels: dict[str, Path] = {}
    for path in sorted(filter(Path.is_file, Path(folder, "configs").glob("*.yaml"))):
        text = path.read_text(encoding="utf-8", errors="replace")
        line = re.search(r"""^level:\s*["']?(\w+)""", text, re.MULTILINE)
        name = line[1] if line else path.stem
        if name in levels:
            raise SteeringError(
                f"{path}: level: found {name!r} as in {levels[name]}, expected each level once; "
                "rename one"
            )
        levels[name] = path
    return levels
