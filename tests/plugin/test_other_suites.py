"""Suites that have nothing to do with steering, with the plugin installed beside them."""

from __future__ import annotations

import pytest
from projects import OTHER_PLUGINS

TESTS = """
    import sys

    import pytest

    pytestmark = pytest.mark.smoke


    @pytest.mark.parametrize("number", range(4))
    def test_number(number):
        heavy = {"torch", "transformers", "matplotlib", "pandas", "scipy"}
        assert not heavy & set(sys.modules)


    @pytest.mark.full
    def test_full():
        pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A suite whose ``configs/`` and markers happen to be called like ours."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini("[pytest]\naddopts = --strict-markers\nmarkers =\n    smoke\n    full\n")
    tests = pytester.mkdir("suite")
    (tests / "configs").mkdir()
    (tests / "configs" / "smoke.yaml").write_text("level: DEBUG\nhost: here\n", encoding="utf-8")
    (tests / "configs" / "full.yaml").write_text("- not even\n- a mapping\n", encoding="utf-8")
    path = pytester.makepyfile(test_suite=TESTS)
    path.rename(tests / "test_suite.py")
    return pytester


@pytest.mark.parametrize("workers", [(), ("-n0",), ("-n2",)], ids=["alone", "n0", "n2"])
def test_another_suite_is_left_alone(suite: pytest.Pytester, workers: tuple[str, ...]) -> None:
    others = [part for name in OTHER_PLUGINS for part in ("-p", f"no:{name}")]
    result = suite.runpytest_subprocess("suite", "-v", *workers, *others)
    result.assert_outcomes(passed=5)
    assert "steering:" not in result.stdout.str()
    assert not (suite.path / "artifacts").exists()
    if "-n2" in workers:
        result.stdout.fnmatch_lines(["scheduling tests via LoadScheduling"])
