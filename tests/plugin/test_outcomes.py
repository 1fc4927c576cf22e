"""What a verdict does to its test, on real completions; margins alone make the difference."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from projects import N_PROMPTS, Project, counts


@pytest.fixture(scope="module")
def contradicted(
    shared: Project, undisturbed: pytest.RunResult, tmp_path_factory: pytest.TempPathFactory
) -> pytest.RunResult:
    """A level of the user's own, with a claim that fails and one that must not stay open."""
    assert undisturbed.ret == 0
    project = Project(tmp_path_factory.mktemp("contradicted") / "project", shared.model)
    project.write_level(
        "my_level",
        layers=[1],
        inconclusive="fail",
        claims={
            "coherence": {"margin": 0.95},
            "baseline_refusal": {
                "interval_low": 0.5,
                "low": 0.6,
                "high": 0.8,
                "interval_high": 0.9,
            },
            "alpha_raises_refusal": {},
        },
    )
    tests = project.experiments / "test_my_level.py"
    tests.write_text(
        tests.read_text(encoding="utf-8") + "\n\ndef test_artifacts(steering, tmp_path):\n"
        "    data = steering.write_artifacts(tmp_path)\n"
        "    assert (tmp_path / 'tables' / 'summary.csv').exists()\n"
        "    assert len(data.summary) == 6\n",
        encoding="utf-8",
    )
    artifacts = project.with_store_of(shared.artifacts, "stored")
    result = project.run("experiments", "-m", "my_level", "-rA", artifacts=artifacts)
    assert counts(result) == (0, 2 * N_PROMPTS)
    return result


def test_inconclusive_is_an_outcome_of_its_own(undisturbed: pytest.RunResult) -> None:
    assert undisturbed.ret == 0
    assert undisturbed.parseoutcomes() == {"passed": 6, "xfailed": 2, "inconclusive": 1}
    letters = "".join(re.findall(r"test_smoke\.py ([.?x]+)", undisturbed.stdout.str()))
    assert letters.endswith("..?xx")


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize("workers", [(), ("-n0",), ("-n2",)], ids=["alone", "n0", "n2"])
def test_junit_tells_every_verdict(
    shared: Project, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    artifacts = shared.with_store_of(shared.artifacts, f"junit{'-'.join(workers)}")
    report = tmp_path / "junit.xml"
    shared.run("experiments", f"--junitxml={report}", *workers, artifacts=artifacts)
    told = [
        (case.get("name", "").partition("[")[0], kept.get("name"), kept.get("value", ""))
        for case in ElementTree.parse(report).iter("testcase")
        for kept in case.iter("property")
    ]
    assert len(told) == 5
    assert all(test == f"test_{claim}" for test, claim, _ in told)
    outcomes = sorted(message.rpartition(": ")[2].partition(";")[0] for _, _, message in told)
    assert outcomes == ["fail", "fail", "inconclusive", "pass", "pass"]


def test_header_and_summary_name_what_matters(undisturbed: pytest.RunResult) -> None:
    undisturbed.stdout.fnmatch_lines(
        [
            "steering: smoke: Does it run?",
            "steering: model *, device cpu, float32",
            "steering: 4 cells; prompts: 6 harm_train, 6 harm_test, 6 benign",
            f"steering: {3 * N_PROMPTS} distinct completions planned, {N_PROMPTS} more rows reuse "
            "the unsteered ones",
            f"*steering: {3 * N_PROMPTS} completions in *",
            "*= steering: smoke =*",
            "unsteered *",
            "layer2-add-alpha2 *",
            "required: 1 inconclusive, 2 pass",
            "exploratory: 2 fail",
            "report: artifacts/runs/smoke_test_model0/report.html",
        ]
    )


def test_a_required_claim_that_fails_fails_its_test(contradicted: pytest.RunResult) -> None:
    assert contradicted.ret == pytest.ExitCode.TESTS_FAILED
    contradicted.stdout.fnmatch_lines(
        [
            "*_ test_baseline_refusal _*",
            "baseline_refusal [[]harm_test]: unsteered refusal on harm_test is .00 [[].00, .39] "
            "(n = 6 prompts, expected .60 to .80): fail",
        ]
    )


def test_a_claim_left_open_fails_where_the_level_says_so(contradicted: pytest.RunResult) -> None:
    assert contradicted.parseoutcomes() == {"failed": 2, "passed": 4, "deselected": 4}
    contradicted.stdout.fnmatch_lines(
        [
            "*_ test_alpha_raises_refusal[[]layer1-add-alpha2] _*",
            "alpha_raises_refusal [[]layer1-add-alpha2]: *: inconclusive; about * prompts *",
            "2 required claims fail the run: 1 contradicted, 1 inconclusive, which counts as*",
        ]
    )


def test_a_failure_is_one_line_without_a_traceback(contradicted: pytest.RunResult) -> None:
    shown = contradicted.stdout.str()
    failures = shown[shown.index("= FAILURES =") : shown.index("= steering: my_level =")]
    titles_and_messages = [line for line in failures.splitlines()[1:] if line.strip()]
    messages = [line for line in titles_and_messages if not line.startswith(("_", "-", "steering"))]
    assert len([line for line in messages if "refusal" in line]) == 2
    assert "Traceback" not in shown
    assert "fixtures.py" not in shown


def test_an_exploratory_claim_that_fails_is_expected(undisturbed: pytest.RunResult) -> None:
    assert undisturbed.parseoutcomes()["xfailed"] == 2
    undisturbed.stdout.fnmatch_lines(["FAIL * alpha_raises_refusal *layer1-add-alpha2*"])
