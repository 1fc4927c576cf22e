"""What a run says on pytest's terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from steering_reliability.errors import SteeringError
from steering_reliability.pytest_plugin import collection, transport
from steering_reliability.pytest_plugin.session import SteeringSession

if TYPE_CHECKING:
    from steering_reliability.ladder.plan import LevelPlan
    from steering_reliability.ladder.work import Progress

_MOST_NOTES = 5


def header(session: SteeringSession) -> list[str]:
    """Lines for the top of a session: a level's model, grid, prompts and planned completions."""
    if session.is_worker or not session.levels:
        return []
    lines = []
    for plan in session.selected_plans():
        lines += _plan_lines(plan, session)
    if collection.runs_smoke_only(session.config, session.levels) and len(session.levels) > 1:
        others = ", ".join(name for name in session.levels if name != collection.DEFAULT_LEVEL)
        lines.append(f"steering: no -m given, so the smoke level only; others: -m with {others}")
    return lines


def _plan_lines(plan: LevelPlan, session: SteeringSession) -> list[str]:
    from steering_reliability.ladder.targets import left_out_claims
    from steering_reliability.report.terminal import HeaderInfo, header_lines

    notes = [*left_out_claims(plan), *plan.notes[:_MOST_NOTES]]
    if len(plan.notes) > _MOST_NOTES:
        notes.append(f"{len(plan.notes) - _MOST_NOTES} more such notes, in the report")
    info = HeaderInfo(
        level=plan.level,
        question=plan.config.question,
        model=_model(plan),
        device=_device(session),
        dtype=plan.overrides.dtype or plan.profile.dtype,
        cells=len(plan.cells),
        prompts={split: len(prompts) for split, prompts in plan.prompts.items()},
        planned=plan.n_completions,
        shared=plan.n_unsteered_shared,
        beside_grid=plan.n_beside_grid,
        notes=notes,
    )
    return header_lines(info)


def _model(plan: LevelPlan) -> str:
    from steering_reliability.models.sources import weights_name

    name, weights = plan.profile.name, weights_name(plan.profile.source)
    return name if weights == plan.profile.source else f"{name} ({weights})"


def _device(session: SteeringSession) -> str:
    # To resolve it takes torch, which only the process that generates imports anyway.
    config = session.config
    if session.is_distributed or config.getoption("collectonly"):
        return f"device {session.overrides.device}"
    from steering_reliability.models.loaded import resolve_device

    return f"device {resolve_device(session.overrides.device, '--steer-device')}"


def connect(session: SteeringSession) -> None:
    """Let the session speak on the terminal while tests run and their output is captured."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:
        return

    def announce(line: str) -> None:
        with _uncaptured(session.config):
            reporter.ensure_newline()
            reporter.write_line(f"steering: {line}")

    session.announce = announce
    live = LiveProgress(session.config, reporter)
    session.on_progress = live.update
    session.on_report = live.clear
    session.on_pause = live.close


class LiveProgress:
    """A progress line per stretch of generation, written past pytest's capture."""

    def __init__(self, config: pytest.Config, reporter: Any) -> None:
        self._config = config
        self._reporter = reporter
        self._line: Any = None
        self._before = 0

    def update(self, progress: Progress) -> None:
        """Show how far generation is."""
        from steering_reliability.report.progress import ProgressLine

        with _uncaptured(self._config):
            if self._line is None:
                self._before = progress.done
                self._line = ProgressLine(
                    progress.total - progress.done,
                    self._write,
                    live=sys.stdout.isatty(),
                    width=self._reporter._tw.fullwidth,
                )
            self._line.update(progress.done - self._before)

    def clear(self) -> None:
        """Make room for a test's letter."""
        if self._line is not None:
            self._line.clear()

    def close(self) -> None:
        """End the line with what was done."""
        if self._line is not None:
            with _uncaptured(self._config):
                self._reporter.ensure_newline()
                self._line.close()
            self._line = None

    def _write(self, text: str) -> None:
        # After a test's letter, the line goes below it; else this does nothing.
        self._reporter.ensure_newline()
        self._reporter.write(text, flush=True)


def _uncaptured(config: pytest.Config) -> Any:
    from contextlib import nullcontext

    capture = config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled() if capture is not None else nullcontext()


def status_of(report: Any) -> tuple[str, str, Any] | None:
    """``?`` for a test whose claim stayed open."""
    found = transport.verdicts_of(report)
    if found is None or not report.passed or report.when != "call":
        return None
    if any(verdict.outcome == "inconclusive" for verdict in found[1]):
        return "inconclusive", "?", ("INCONCLUSIVE", {"yellow": True})
    return None


def summary(session: SteeringSession, reporter: pytest.TerminalReporter) -> None:
    """The table of cells, the verdicts, and where the report is."""
    if not session.finished and not session.problems:
        return
    from steering_reliability.report.terminal import summary_table, verdict_lines

    width = reporter._tw.fullwidth
    for level, data in session.finished.items():
        reporter.section(f"steering: {level}")
        for line in summary_table(data.summary, width):
            reporter.write_line(line)
        reporter.write_line("")
        told = verdict_lines(data.verdicts, width, data.manifest)
        for line in [*told, *_decided(data, width)]:
            reporter.write_line(line)
        counts = data.manifest
        reporter.write_line(
            f"{counts['generated']:,} completions generated, {counts['reused']:,} from the store"
        )
        reporter.write_line(f"report: {_shown(data.folder / 'report.html', session)}")
    for problem in session.problems:
        reporter.write_line(f"steering: {problem}", red=True)


def interrupted(session: SteeringSession, reporter: pytest.TerminalReporter) -> None:
    """What an interrupted run has kept, and how it goes on; nothing where no level was at work."""
    fresh = session.config.getoption("steer_fresh")
    command = "the same command without --steer-fresh" if fresh else "the same command"
    try:
        levels = session.under_way()
    except SteeringError as error:
        reporter.write_line(f"steering: {error}", red=True)
        return
    for level, stored, total in levels:
        reporter.write_line(
            f"steering: {level} interrupted: {stored:,} of {total:,} completions are stored; "
            f"{command} goes on from there"
        )


def _decided(data: Any, width: int) -> list[str]:
    import textwrap

    from steering_reliability.report.decided import decision_lines, order_lines, prompting_lines

    lines = [
        *order_lines(data.manifest),
        *decision_lines(data),
        *prompting_lines(data.manifest),
    ]
    return [part for line in lines for part in textwrap.wrap(line, min(width, 100))]


def _shown(path: Any, session: SteeringSession) -> str:
    try:
        return str(path.relative_to(session.config.invocation_params.dir))
    except ValueError:
        return str(path)
