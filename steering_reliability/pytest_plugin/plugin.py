"""The hooks, and nothing but hooks: each hands over to a module beside this one."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from steering_reliability.errors import SteeringError
from steering_reliability.pytest_plugin import collection, display, fixtures, options, transport
from steering_reliability.pytest_plugin.fixtures import steering as steering
from steering_reliability.pytest_plugin.session import SESSION, VERDICTS, SteeringSession


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    session = SteeringSession(config)
    config.stash[SESSION] = session
    if not session.is_worker:
        config.pluginmanager.register(Controller(session), "steering-controller")
    try:
        for folder in collection.folders_of_arguments(config):
            session.learn_levels(folder)
    except SteeringError as error:
        raise collection.as_usage_error(error) from None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    state = session.config.stash[SESSION]
    if state.is_worker:
        return
    display.connect(state)
    try:
        state.prepare()
    except SteeringError as error:
        raise collection.as_usage_error(error) from None


def pytest_report_header(config: pytest.Config) -> list[str]:
    return display.header(config.stash[SESSION])


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> None:
    # Before the module is imported, since its marks are checked then.
    if file_path.suffix == ".py":
        parent.config.stash[SESSION].learn_levels(file_path.parent)


def pytest_collectstart(collector: pytest.Collector) -> None:
    # Not when pytest finds it: it looks at the files beside one that is asked for too.
    if isinstance(collector, pytest.File):
        collector.config.stash[SESSION].selection.saw(collector.path)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    try:
        fixtures.parametrize(metafunc, metafunc.config.stash[SESSION])
    except SteeringError as error:
        raise collection.as_usage_error(error) from None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    state = config.stash[SESSION]
    state.selection.found(items)
    collection.deselect_other_levels(config, items, state.levels)


def pytest_collection_finish(session: pytest.Session) -> None:
    state = session.config.stash[SESSION]
    state.note_cut_short(session.items)
    try:
        state.expect(session.items)
    except SteeringError as error:
        raise collection.as_usage_error(error) from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    excinfo = call.excinfo
    if excinfo is not None and isinstance(excinfo.value, SteeringError | fixtures.ClaimFailed):
        report.longrepr = str(excinfo.value)
        setattr(report, transport.ERROR_ATTRIBUTE, isinstance(excinfo.value, SteeringError))
    verdicts = item.stash.get(VERDICTS, [])
    state = item.config.stash[SESSION]
    level = collection.level_of(item, state.levels)
    # Where nothing could be generated there is nothing to write, and an older index isn't meant.
    if call.when == "call" and level is not None and state.is_working(level):
        transport.attach(report, level, verdicts)
    return report


def pytest_report_teststatus(report: Any) -> tuple[str, str, Any] | None:
    return display.status_of(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    state = session.config.stash[SESSION]
    state.stop_working()
    if state.is_worker:
        output = session.config.workeroutput  # type: ignore[attr-defined]
        output[transport.TIMINGS] = transport.to_wire(state.timings)
        output[transport.CUT_SHORT] = transport.to_wire(sorted(state.cut_short))


class Controller:
    """The hooks of the one process that collects reports and writes results."""

    def __init__(self, session: SteeringSession) -> None:
        self._session = session

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._session.on_report()
        self._session.tell_once(report)
        self._session.take_report(report)

    # The innermost wrapper: the terminal's own, around it, prints the summary.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        # After this process, and after every worker, has stored what it made.
        yield
        self._session.finish()
        # Where tests failed or were interrupted, others may not have come to their claims.
        if session.exitstatus == pytest.ExitCode.OK:
            self._session.tell_unchecked()
        if self._session.problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, exitstatus: int
    ) -> None:
        display.summary(self._session, terminalreporter)
        if exitstatus == pytest.ExitCode.INTERRUPTED:
            display.interrupted(self._session, terminalreporter)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[transport.RUN_ID] = self._session.run_id

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", None) or {}
        self._session.merge_timings(output.get(transport.TIMINGS, {}))
        self._session.cut_short.update(output.get(transport.CUT_SHORT, ()))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        if config.getoption("dist") != "load" or not self._session.levels:
            return None
        return collection.make_scheduler(config, log, self._session.levels)
