"""What is found in a test is told in full once; the tests after it refer to that one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
import torch
from projects import Project

from steering_reliability.directions import Direction, save_direction
from tests.tiny_models import D_MODEL

N_TESTS = 9

Spoil = Callable[[Project], list[str]]


def unloadable_model(project: Project) -> list[str]:
    folder = project.root / "unloadable"
    shutil.copytree(project.model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}))
    return [f"--steer-model={folder}"]


def cut_weights(project: Project) -> list[str]:
    folder = project.root / "cut"
    shutil.copytree(project.model, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    return [f"--steer-model={folder}"]


def directions_of_another_model(project: Project) -> list[str]:
    for layer in (1, 2):
        direction = Direction(torch.eye(D_MODEL)[0], layer, 1.0, 2.0, model_fingerprint="f" * 16)
        save_direction(direction, project.experiments / f"layer{layer}.safetensors")
    project.write_level(direction={"file": "../layer{layer}.safetensors"})
    return []


def failing_judge(project: Project) -> list[str]:
    judge = "def refuses(prompts, completions):\n    raise RuntimeError('no judgement today')\n"
    (project.experiments / "configs" / "own_judge.py").write_text(judge, encoding="utf-8")
    project.write_level(scoring={"refusal": "own_judge:refuses"})
    return []


def test_an_expected_failure_has_told_nothing(project: Project) -> None:
    # pytest prints no error of it, so that the next test must tell it in full.
    shown = '    steering.check("no_such_claim")'
    (project.experiments / "test_twice.py").write_text(
        "import pytest\npytestmark = pytest.mark.smoke\n"
        f"@pytest.mark.xfail\ndef test_a(steering):\n{shown}\n"
        f"def test_b(steering):\n{shown}\n",
        encoding="utf-8",
    )
    result = project.run("experiments/test_twice.py")
    assert result.parseoutcomes() == {"xfailed": 1, "failed": 1}
    assert "in full there" not in result.stdout.str()


@pytest.mark.parametrize(
    ("workers", "environment"),
    # In CI pytest's summary, too, tells each failure whole.
    [((), {}), (("-n2",), {}), ((), {"CI": "true"})],
    ids=["alone", "n2", "in-ci"],
)
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (unloadable_model, "expected 'embedded', a folder with config.json and weights"),
        (cut_weights, "expected those of this config.json, whole; copy the model again"),
        (directions_of_another_model, "learn the direction on the model that it will steer"),
        (failing_judge, "failed with RuntimeError: no judgement today"),
    ],
    ids=["model", "weights", "direction", "judge"],
)
def test_what_fails_every_test_is_told_in_full_once(
    project: Project,
    spoil: Spoil,
    told: str,
    workers: tuple[str, ...],
    environment: dict[str, str],
) -> None:
    result = project.run("experiments", *spoil(project), *workers, environment=environment)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == {"failed": N_TESTS}
    assert "Traceback" not in result.stdout.str()
    lines = [line for line in result.outlines if not line.startswith(("FAILED ", "steering"))]
    full = [line for line in lines if told in line]
    assert len(full) == 1
    again = [line for line in lines if line.endswith(", in full there)")]
    assert len(again) == N_TESTS - 1
    assert all(len(line) < 170 for line in again)
    assert all("(as in test_" in line for line in again)
