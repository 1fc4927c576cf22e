"""Experiments to start from: copies of the levels, tests and prompts that come with the package."""

from __future__ import annotations

from pathlib import Path

from steering_reliability.config.folder import MARKER_NAME
from steering_reliability.config.profile import shipped_configs
from steering_reliability.errors import SteeringError

_MODEL_LEVEL = "smoke"
_ITS_PROMPTS = ("harm_train.jsonl", "harm_test.jsonl", "benign.jsonl")


def scaffold(folder: Path, level: str | None = None) -> list[Path]:
    """Write experiments to start from; prompt files that are there already stay as they are.

    Args:
        folder: where; made if need be.
        level: name of one level of the user's own, a copy of ``smoke``; None for all levels of
            the ladder under their own names.

    Returns:
        The files that were written.

    Raises:
        SteeringError: the name can't be a level's, or a level or test file is there already, which
            leaves the folder untouched; or the folder can't be written.
    """
    texts = _texts_of_the_ladder() if level is None else _texts_of(level)
    for name in texts:
        if (folder / name).exists() and not name.startswith("prompts/"):
            raise SteeringError(
                f"{folder / name}: found a file, expected none that would be replaced; "
                "name another folder, or another --level"
            )
    written = []
    for name, text in texts.items():
        path = folder / name
        if path.exists():
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SteeringError(
                f"{path}: could not be written ({error.strerror}); name another folder"
            ) from error
        written.append(path)
    return written


def _texts_of_the_ladder() -> dict[str, str]:
    """The text of every file by its path in a folder of experiments."""
    shipped = shipped_configs().parent
    files = [
        *sorted((shipped / "configs").glob("*.yaml")),
        *sorted(shipped.glob("test_*.py")),
        *sorted((shipped / "prompts").glob("*.jsonl")),
    ]
    return {
        file.relative_to(shipped).as_posix(): file.read_text(encoding="utf-8") for file in files
    }


def _texts_of(level: str) -> dict[str, str]:
    """As :func:`_texts_of_the_ladder`, of one level under another name."""
    if not level.isidentifier():
        raise SteeringError(f"--level: found {level!r}, expected {MARKER_NAME}")
    shipped = _texts_of_the_ladder()
    settings = shipped[f"configs/{_MODEL_LEVEL}.yaml"]
    tests = shipped[f"test_{_MODEL_LEVEL}.py"]
    for old, new in {
        f"level: {_MODEL_LEVEL}\n": f"level: {level}\n",
        f"run: {_MODEL_LEVEL}_test\n": "",
    }.items():
        settings = settings.replace(old, new)
    for old, new in {
        f"pytest.mark.{_MODEL_LEVEL}\n": f"pytest.mark.{level}\n",
        f"configs/{_MODEL_LEVEL}.yaml": f"configs/{level}.yaml",
        '"""Level 1: does': '"""Does',
    }.items():
        tests = tests.replace(old, new)
    prompts = {f"prompts/{name}": shipped[f"prompts/{name}"] for name in _ITS_PROMPTS}
    return {f"configs/{level}.yaml": settings, f"test_{level}.py": tests, **prompts}
