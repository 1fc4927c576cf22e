"""Required claims that no test asks for, claims asked of the wrong thing, and alphas left out."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import Any

import pytest
from projects import SMOKE, Project

from steering_reliability.results.run import read_run

MISSED: dict[str, Any] = {
    "required": True,
    "low": 0.5,
    "high": 0.8,
    "interval_low": 0.4,
    "interval_high": 0.9,
}
CLAIMS: dict[str, Any] = {"coherence": {"margin": 0.95}, "baseline_refusal": MISSED}
UNCHECKED = (
    "steering: smoke: required claim baseline_refusal fails and no test that ran checks it: "
    'add or unskip one that calls steering.check("baseline_refusal")'
)
COHERENCE = """
    import pytest

    pytestmark = pytest.mark.smoke


    def test_cell(steering, steered_cell):
        assert len(steering.scores(steered_cell))


    def test_coherence(steering, steered_cell):
        steering.check("coherence", steered_cell)
"""
SKIPPED = """


    @pytest.mark.skip
    def test_baseline(steering):
        steering.check("baseline_refusal")
"""
BASELINE = """
    import pytest

    pytestmark = pytest.mark.smoke


    @pytest.mark.xfail
    def test_baseline(steering):
        steering.check("baseline_refusal")
"""


def write_tests(project: Project, text: str, name: str = "test_smoke.py") -> None:
    (project.experiments / name).write_text(dedent(text).lstrip(), encoding="utf-8")


@pytest.fixture(scope="module")
def unchecked(tmp_path_factory: pytest.TempPathFactory, model: Any) -> Project:
    """A level with a required claim that fails, and no test that asks for it."""
    project = Project(tmp_path_factory.mktemp("unchecked") / "project", model)
    project.write_level(claims=CLAIMS)
    write_tests(project, COHERENCE)
    return project


@pytest.mark.parametrize("workers", [[], ["-n0"], ["-n2"]])
def test_a_required_claim_that_no_test_checks_fails_the_run(
    unchecked: Project, workers: list[str]
) -> None:
    result = unchecked.run("experiments", "-m", "smoke", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED, f"{result.stdout}{result.stderr}"
    assert result.parseoutcomes() == {"passed": 4}
    assert UNCHECKED in result.outlines
    assert read_run(unchecked.folder()).verdicts[-1].outcome == "fail"


@pytest.mark.parametrize("workers", [[], ["-n2"]])
@pytest.mark.parametrize(
    "part", ["-k coherence", "--deselect experiments/test_smoke.py::test_cell"]
)
def test_a_part_answers_for_itself_alone(unchecked: Project, part: str, workers: list[str]) -> None:
    result = unchecked.run("experiments", *part.split(), *workers)
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    assert "no test that ran" not in result.stdout.str()


def test_a_test_that_is_skipped_checks_no_claim(unchecked: Project) -> None:
    write_tests(unchecked, f"{COHERENCE.rstrip()}{SKIPPED}")
    try:
        result = unchecked.run("experiments")
    finally:
        write_tests(unchecked, COHERENCE)
    assert result.ret == pytest.ExitCode.TESTS_FAILED, f"{result.stdout}{result.stderr}"
    assert result.parseoutcomes() == {"passed": 4, "skipped": 1}
    assert UNCHECKED in result.outlines


LAST_FAILED = ("-p", "cacheprovider", "--lf")


def test_last_failed_is_a_part_only_where_something_failed(project: Project) -> None:
    project.write_level(claims=CLAIMS)
    write_tests(project, COHERENCE)
    whole = project.run("experiments", *LAST_FAILED)
    assert "no previously failed tests, not deselecting items" in whole.stdout.str()
    assert whole.ret == pytest.ExitCode.TESTS_FAILED, f"{whole.stdout}{whole.stderr}"
    assert UNCHECKED in whole.outlines

    failed = {"experiments/test_smoke.py::test_coherence[layer1-add-alpha2]": True}
    cache = project.root / ".pytest_cache" / "v" / "cache" / "lastfailed"
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps(failed), encoding="utf-8")
    part = project.run("experiments", *LAST_FAILED)
    assert part.ret == 0, f"{part.stdout}{part.stderr}"
    assert part.parseoutcomes()["passed"] == 1
    assert "steering: smoke: required claim" not in part.stdout.str()


def test_a_file_or_a_test_is_a_part_where_another_file_has_more(unchecked: Project) -> None:
    project = unchecked
    write_tests(project, BASELINE, "test_more.py")
    try:
        for arguments in (["test_smoke.py"], ["test_smoke.py::test_coherence", "test_more.py"]):
            result = project.run(*(f"experiments/{one}" for one in arguments))
            assert result.ret == 0, f"{result.stdout}{result.stderr}"
            assert "no test that ran" not in result.stdout.str()
        # Its test says how it did, and pytest was told not to mind.
        whole = project.run("experiments")
        assert whole.ret == 0
        assert whole.parseoutcomes() == {"passed": 4, "xfailed": 1}
    finally:
        (project.experiments / "test_more.py").unlink()


def test_a_claim_that_is_asked_of_one_cell_alone_is_unchecked_at_others(project: Project) -> None:
    project.write_level(claims={"alpha_raises_refusal": {"least_effect": 0.9}}, inconclusive="fail")
    write_tests(
        project,
        """
        import pytest

        pytestmark = pytest.mark.smoke


        def test_all(steering):
            steering.scores(*steering.plan.cells)


        @pytest.mark.xfail
        def test_one(steering):
            steering.check("alpha_raises_refusal", steering.plan.steered_cells[0])
        """,
    )
    result = project.run("experiments")
    assert result.ret == pytest.ExitCode.TESTS_FAILED, f"{result.stdout}{result.stderr}"
    assert (
        "steering: smoke: required claim alpha_raises_refusal fails at layer2-add-alpha2 and no "
        "test that ran checks it there: add or unskip one that calls "
        'steering.check("alpha_raises_refusal", cell)'
    ) in result.outlines


WRONG = """
    import pytest
    from steering_reliability import Cell

    pytestmark = pytest.mark.smoke


    def test_series_of_cells(steering, series):
        steering.check("coherence", series=series)


    def test_cell_of_series(steering, steered_cell):
        steering.check("alpha_monotonicity", steered_cell)


    def test_positional_series(steering, series):
        steering.check("alpha_monotonicity", series)


    def test_cell_of_level(steering, steered_cell):
        steering.check("baseline_refusal", steered_cell)


    def test_nothing(steering):
        steering.check("coherence")


    def test_control(steering, control_cell):
        steering.check("coherence", control_cell)


    def test_prompted(steering, prompted_cell):
        steering.check("coherence", prompted_cell)


    def test_elsewhere(steering):
        steering.check("coherence", Cell(3, "add", 2))


    def test_other_series(steering):
        steering.check("alpha_monotonicity", series=(3, "add"))


    def test_not_claimed(steering, cell):
        steering.check("coherence", cell)
"""


def test_a_claim_asked_of_the_wrong_thing_says_what_it_is_claimed_of(project: Project) -> None:
    project.write_level(
        layers=[1],
        alphas=[0, 1, 2],
        controls={"random": 1, "alphas": [2]},
        prompt_baseline={"system_prompt": "Refuse.", "splits": ["harm_test"]},
        claims={
            "coherence": {"margin": 0.95, "alphas": [2]},
            "alpha_monotonicity": {},
            "baseline_refusal": {},
        },
    )
    write_tests(project, WRONG)
    result = project.run("experiments", "-rs")
    of_cell = 'expected a cell, which is what it is claimed of; call steering.check("coherence", '
    of_series = (
        "expected a series of alphas, which is what it is claimed of; call "
        'steering.check("alpha_monotonicity", series=series)'
    )
    learned = (
        "expected one of the learned direction under the level's own conditions, which claims are "
        "made of; steering.scores(cell) gives the scores of this one"
    )
    told = [
        f"coherence: found series (1, 'add'), {of_cell}cell)",
        f"alpha_monotonicity: found cell layer1-add-alpha1, {of_series}",
        f"alpha_monotonicity: found cell (1, 'add'), {of_series}",
        "baseline_refusal: found cell layer1-add-alpha2, expected the level, which is what it is "
        'claimed of; call steering.check("baseline_refusal")',
        f"coherence: found no cell and no series, {of_cell}cell)",
        f"coherence: found cell layer1-add-alpha2-random-1, {learned}",
        f"coherence: found cell layer1-add-alpha0-system-prompt-baseline, {learned}",
        "coherence: found cell layer3-add-alpha2, expected one of the level's: layer1-add-alpha0, "
        "layer1-add-alpha1, layer1-add-alpha2",
        "series: found (3, 'add'), expected one of the level's: (1, 'add')",
    ]
    missing = [line for line in told if line not in result.outlines]
    assert not missing, result.stdout.str()
    assert result.parseoutcomes() == {"failed": 11, "passed": 1, "skipped": 2}
    skips = [line for line in result.outlines if line.startswith("SKIPPED")]
    assert skips[1].endswith(": coherence is not claimed of layer1-add-alpha1")


ALL = """
    import pytest
    from steering_reliability import Cell

    pytestmark = pytest.mark.smoke


    def test_ablation(steering, steered_cell):
        steering.check("ablation_effect", steered_cell)


    def test_monotonicity(steering, series):
        steering.check("alpha_monotonicity", series=series)


    def test_raises(steering, steered_cell):
        steering.check("alpha_raises_refusal", steered_cell)


    def test_controls(steering, steered_cell):
        steering.check("beats_controls", steered_cell)


    def test_cell_of_the_file(steering):
        steering.check("coherence", Cell(1, "add", 2))
"""


def test_claims_that_alphas_from_the_command_line_leave_out_are_not_made(project: Project) -> None:
    project.write_level(
        layers=[1],
        alphas=[0, 1, 2, 4],
        interventions=["add", "ablate"],
        controls={"random": 1, "alphas": [2]},
        claims={
            "coherence": {"margin": 0.95},
            "ablation_effect": {"alpha": 1},
            "alpha_monotonicity": {"required": False},
            "alpha_raises_refusal": {"alphas": [1, 2]},
            "beats_controls": {},
        },
    )
    write_tests(project, ALL)
    result = project.run("experiments", "--steer-alphas", "4", "-rs", "-n0")
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    assert result.parseoutcomes() == {"skipped": 9}
    option = "--steer-alphas 4 leaves out"
    result.stdout.fnmatch_lines(
        [
            f"steering: {option} the required claims ablation_effect, alpha_raises_refusal, "
            "beats_controls",
            f"SKIPPED * {option} the alphas that ablation_effect is claimed of",
            f"SKIPPED * {option} the alphas that alpha_monotonicity is claimed of",
            f"SKIPPED * {option} layer1-add-alpha2",
        ],
        consecutive=False,
    )


def test_results_are_written_whatever_alphas_are_left_out(project: Project) -> None:
    project.write_level(
        alphas=[0, 1, 2],
        interventions=["add", "ablate"],
        claims={**SMOKE["claims"], "ablation_effect": {"alpha": 1}},
    )
    result = project.run("experiments", "--steer-alphas", "2", "-k", "coherence")
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    result.stdout.fnmatch_lines(
        ["steering: --steer-alphas 2 leaves out the required claim ablation_effect"]
    )
    data = read_run(project.folder())
    assert "ablation_effect" not in {verdict.claim for verdict in data.verdicts}
    assert any("ablation_effect" in line for line in data.manifest["warnings"])
