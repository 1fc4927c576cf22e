"""Command-line options, all prefixed ``--steer-``."""

from __future__ import annotations

from pathlib import Path

import pytest

from steering_reliability.ladder.plan import Overrides


def add_options(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("steering", "steering reliability")
    group.addoption(
        "--steer-model",
        default="embedded",
        metavar="MODEL",
        help="a profile's name, a local folder or a hub id (default: embedded)",
    )
    group.addoption(
        "--steer-device",
        default="auto",
        metavar="DEVICE",
        help="auto (CUDA, then MPS, then CPU), or a torch device (default: auto)",
    )
    group.addoption(
        "--steer-dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of weights and computation (default: the model profile's)",
    )
    group.addoption(
        "--steer-layers",
        metavar="LAYERS",
        help="layers in place of the level's, such as 8,12, or depths such as 0.4",
    )
    group.addoption(
        "--steer-alphas",
        metavar="ALPHAS",
        help="alphas in place of the level's, such as 1,2,4; 0 is always among them",
    )
    group.addoption(
        "--steer-artifacts",
        metavar="FOLDER",
        help="where results go (default: artifacts/ beside pytest.ini)",
    )
    group.addoption(
        "--steer-inconclusive",
        choices=("pass", "fail"),
        help="whether an inconclusive claim fails its test (default: as the level says)",
    )
    group.addoption(
        "--steer-backend",
        choices=("slots", "lens"),
        default="slots",
        help="the slot engine, or transformer-lens, slow and independent (default: slots)",
    )
    group.addoption(
        "--steer-fresh",
        action="store_true",
        help="generate everything anew, whatever the store holds",
    )


def overrides(config: pytest.Config) -> Overrides:
    """What the command line changes of every level.

    Raises:
        pytest.UsageError: a layer or alpha is no number.
    """
    layers = _numbers(config.getoption("steer_layers"), "--steer-layers", "8,12 or 0.4")
    alphas = _numbers(config.getoption("steer_alphas"), "--steer-alphas", "1,2,4")
    return Overrides(
        model=config.getoption("steer_model"),
        layers=None if layers is None else tuple(_layer(value) for value in layers),
        alphas=alphas,
        device=config.getoption("steer_device"),
        dtype=config.getoption("steer_dtype"),
        backend=config.getoption("steer_backend"),
    )


def artifacts_folder(config: pytest.Config) -> Path:
    """Where results go."""
    given = config.getoption("steer_artifacts")
    if given:
        return Path(given).absolute()
    # Without a configuration file pytest guesses the root folder from all arguments that are
    # paths, a model's among them.
    root = config.rootpath if config.inipath else config.invocation_params.dir
    return root / "artifacts"


def _layer(value: float) -> int | float:
    return int(value) if value == 0 or value >= 1 else value


def _numbers(text: str | None, option: str, example: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    numbers = []
    for part in text.split(","):
        try:
            number = float(part)
        except ValueError:
            number = float("nan")
        whole = option != "--steer-layers" or number < 1 or number.is_integer()
        negative_layer = option == "--steer-layers" and number < 0
        if not abs(number) < float("inf") or not whole or negative_layer:
            raise pytest.UsageError(
                f"{option}: found {part.strip()!r}, expected numbers such as {example}"
            )
        numbers.append(number)
    return tuple(dict.fromkeys(numbers))
