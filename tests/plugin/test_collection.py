"""Which tests there are, which of them run, and what that costs before any model is loaded."""

from __future__ import annotations

import pytest
from projects import Project

NOT_NEEDED = {"TEST_IMPORTS": "1"}

SMOKE_IDS = [
    "experiments/test_smoke.py::test_cell_is_complete[layer1-add-alpha0]",
    "experiments/test_smoke.py::test_cell_is_complete[layer1-add-alpha2]",
    "experiments/test_smoke.py::test_cell_is_complete[layer2-add-alpha0]",
    "experiments/test_smoke.py::test_cell_is_complete[layer2-add-alpha2]",
    "experiments/test_smoke.py::test_coherence[layer1-add-alpha2]",
    "experiments/test_smoke.py::test_coherence[layer2-add-alpha2]",
    "experiments/test_smoke.py::test_baseline_refusal",
    "experiments/test_smoke.py::test_alpha_raises_refusal[layer1-add-alpha2]",
    "experiments/test_smoke.py::test_alpha_raises_refusal[layer2-add-alpha2]",
]


MY_ID = "experiments/test_my_level.py::test_baseline_refusal"


def collected(result: pytest.RunResult) -> list[str]:
    assert result.ret in (0, pytest.ExitCode.NO_TESTS_COLLECTED), f"{result.stdout}{result.stderr}"
    return [line for line in result.outlines if "::" in line]


def test_collecting_imports_no_heavy_library(project: Project) -> None:
    result = project.run("experiments", "--collect-only", "-q", environment=NOT_NEEDED)
    assert collected(result) == SMOKE_IDS
    result.stdout.fnmatch_lines(["imported:"])
    assert not project.artifacts.exists()


CHOICES = [
    ("experiments", SMOKE_IDS),
    (".", SMOKE_IDS),
    ("", SMOKE_IDS),
    ("experiments -m smoke", SMOKE_IDS),
    ("experiments/test_smoke.py", SMOKE_IDS),
    ("experiments -k layer2-add-alpha2]", [SMOKE_IDS[3], SMOKE_IDS[5], SMOKE_IDS[8]]),
    ("experiments -m my_level -k baseline", [MY_ID]),
    ("experiments/test_my_level.py -k baseline", [MY_ID]),
    (". -m my_level -k baseline", [MY_ID]),
]


@pytest.mark.parametrize(("arguments", "expected"), CHOICES)
def test_what_is_selected(project: Project, arguments: str, expected: list[str]) -> None:
    project.write_level("my_level")
    assert collected(project.run(*arguments.split(), "--collect-only", "-q")) == expected


def test_a_negated_choice_leaves_the_other_levels(project: Project) -> None:
    project.write_level("my_level")
    result = project.run("experiments", "-m", "not smoke", "-k", "baseline", "--collect-only")
    result.stdout.fnmatch_lines(["steering: my_level: *", "*1/13 tests collected*"])
    assert "steering: smoke" not in result.stdout.str()


def test_a_bare_run_says_that_it_is_the_smoke_level(project: Project) -> None:
    project.write_level("my_level")
    bare = project.run("experiments", "--collect-only")
    bare.stdout.fnmatch_lines(
        [
            "steering: smoke: *",
            "steering: no -m given, so the smoke level only; others: -m with my_level",
        ]
    )
    assert "my_level: " not in bare.stdout.str()


def test_ids_follow_the_grid(project: Project) -> None:
    project.write_level(layers=[0, 0.99], interventions=["add", "ablate"], alphas=[0.5, 0, -2])
    ids = collected(project.run("experiments", "--collect-only", "-q", "-k", "complete"))
    assert [test_id.partition("[")[2] for test_id in ids] == [
        f"layer{layer}-{kind}-alpha{alpha}]"
        for layer in (0, 3)
        for kind in ("add", "ablate")
        for alpha in ("-2", "0", "0.5")
    ]


def test_the_command_line_changes_the_grid(project: Project) -> None:
    options = ["--steer-layers", "3", "--steer-alphas", "1,4"]
    ids = collected(project.run("experiments", "--collect-only", "-q", "-k", "complete", *options))
    grid = [test_id.partition("[")[2] for test_id in ids]
    assert grid == ["layer3-add-alpha0]", "layer3-add-alpha1]", "layer3-add-alpha4]"]


def test_a_marker_beside_the_levels_own_narrows_it(project: Project) -> None:
    (project.root / "pytest.ini").write_text(
        "[pytest]\naddopts = --strict-markers\nmarkers = quick\n", encoding="utf-8"
    )
    tests = project.experiments / "test_smoke.py"
    quick = "@pytest.mark.quick\ndef test_coherence"
    tests.write_text(tests.read_text("utf-8").replace("def test_coherence", quick), "utf-8")
    result = project.run("experiments", "-m", "smoke and quick", "--collect-only", "-q")
    assert collected(result) == SMOKE_IDS[4:6]


def test_a_broken_level_that_is_not_run_is_no_obstacle(project: Project) -> None:
    project.write_level("my_level")
    project.config("my_level").write_text("level: my_level\nlayerz: [1\n", encoding="utf-8")
    for arguments in (["-m", "smoke"], []):
        result = project.run("experiments", *arguments, "--collect-only", "-q")
        assert collected(result) == SMOKE_IDS


def test_a_wrong_expression_is_left_to_pytest(project: Project) -> None:
    result = project.run("experiments", "-m", "smoke and")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: Wrong expression passed to '-m': *"])
