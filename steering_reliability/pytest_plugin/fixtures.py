"""What a test of a level sees."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from steering_reliability.cells import LEARNED, Cell
from steering_reliability.errors import SteeringError
from steering_reliability.ladder import targets
from steering_reliability.pytest_plugin import collection
from steering_reliability.pytest_plugin.session import SESSION, VERDICTS, SteeringSession
from steering_reliability.pytest_plugin.transport import to_wire

if TYPE_CHECKING:
    import pandas as pd

    from steering_reliability.directions import Direction
    from steering_reliability.expectations import Verdict
    from steering_reliability.ladder.plan import LevelPlan
    from steering_reliability.models.loaded import LoadedModel
    from steering_reliability.results.run import RunData


# Arguments of tests, and the attribute of a plan that holds their cells.
_CELL_ARGUMENTS = {
    "cell": "cells",
    "steered_cell": "steered_cells",
    "control_cell": "control_cells",
    "confirmed_cell": "confirmed_cells",
    "prompted_cell": "prompted_cells",
    "sanity_cell": "sanity_cells",
}


class ClaimFailed(AssertionError):  # noqa: N818 - reads as a finding in pytest's summary
    """A required claim that the data contradict, or that couldn't be evaluated."""


class Steering:
    """A level, as its tests see it: cells that are generated on demand, claims to check.

    Attributes:
        plan: the level's grid, prompts and settings.
    """

    def __init__(self, session: SteeringSession, level: str, item: pytest.Item) -> None:
        self._session = session
        self._level = level
        self._item = item
        self.plan: LevelPlan = session.plan(level)

    @property
    def model(self) -> LoadedModel:
        """The model in memory."""
        return self._session.model()

    @property
    def directions(self) -> dict[int, Direction]:
        """The learned direction of every layer of the grid."""
        return self._session.work(self._level).directions

    def scores(self, *cells: Cell) -> pd.DataFrame:
        """The scores frame of these cells, generated now if the store lacks them.

        Returns:
            One row per cell, prompt and sample.
        """
        work = self._session.work(self._level)
        work.ensure(cells)
        return self._session.scorer(self._level).frame_of_cells(cells, work.completions)

    def check(
        self, claim: str, cell: Cell | None = None, *, series: tuple[int, Any] | None = None
    ) -> Verdict:
        """Evaluate a claim of the level's file; the verdict decides the test's outcome.

        A required claim that fails fails the test; an exploratory one is reported as xfail; an
        inconclusive one shows as ``?``, or fails with ``--steer-inconclusive=fail``.

        Args:
            claim: a name from the file's ``claims``.
            cell: the cell it is about, where it is about one.
            series: the (layer, intervention) it is about, where it is about all alphas.

        Raises:
            SteeringError: the level makes no such claim, the claim is about something else than
                what is given, or the cell is a control's or another condition's.
        """
        from steering_reliability.ladder.judge import judge_claim

        asked = targets.asked_target(self.plan, claim, cell, series)
        claimed = targets.claimed_targets(self.plan, claim, asked)
        if not claimed:
            pytest.skip(targets.why_not_claimed(self.plan, claim, asked))
        needed = targets.required_cells(self.plan, self.plan.claim(claim), asked)
        scores = self.scores(*needed)
        described = self._session.work(self._level).described_directions
        verdicts = [judge_claim(self.plan, scores, claim, target, described) for target in claimed]
        self._item.stash.setdefault(VERDICTS, []).extend(verdicts)
        # In --junitxml, where a CI would else show an inconclusive claim as a plain pass.
        told = [(verdict.claim, to_wire(verdict.message)) for verdict in verdicts]
        self._item.user_properties.extend(told)
        for verdict in verdicts:
            self._conclude(verdict)
        return verdicts[0]

    def write_artifacts(self, artifacts: Path) -> RunData:
        """Write the level's whole run folder below another folder, and read it back."""
        from steering_reliability.ladder.finish import RunFacts, finish_level
        from steering_reliability.ladder.paths import ArtifactPaths

        work = self._session.work(self._level)
        work.ensure(list(self.plan.splits_of))
        paths = ArtifactPaths(self._session.artifacts)
        return finish_level(
            self.plan,
            paths,
            RunFacts(self._session.run_id),
            ArtifactPaths(artifacts),
            self._session.scorer(self._level),
        )

    def _conclude(self, verdict: Verdict) -> None:
        if verdict.outcome == "fail" and not verdict.required:
            pytest.xfail(verdict.message)
        if self._session.fails_its_test(self._level, verdict):
            raise ClaimFailed(verdict.message)


@pytest.fixture
def steering(request: pytest.FixtureRequest) -> Steering:
    """The level whose marker the test carries: ``steering.check("baseline_refusal")``."""
    session = request.config.stash[SESSION]
    level = collection.level_of(request.node, session.levels)
    if level is None:
        known = ", ".join(session.levels) or "none beside this file"
        raise SteeringError(
            f"{request.node.nodeid}: fixture steering needs the marker of a level ({known}); "
            "add pytestmark = pytest.mark.<level>"
        )
    return Steering(session, level, request.node)


def expected_cells(item: pytest.Item, plan: LevelPlan) -> list[Cell]:
    """The cells that a test will ask for, as far as its parameters tell."""
    parameters: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    for name in _CELL_ARGUMENTS:
        cell = parameters.get(name)
        # Where a level has none of a kind, pytest puts a placeholder.
        if isinstance(cell, Cell):
            return [cell.baseline, cell] if cell.direction == LEARNED else [cell]
    series = parameters.get("series")
    return [known for known in plan.cells if (known.layer, known.intervention) == series]


def parametrize(metafunc: pytest.Metafunc, session: SteeringSession) -> None:
    """Make one test per cell of the level's grid, with ids such as ``layer12-add-alpha2``.

    ``cell`` is every cell of the grid, ``steered_cell`` those with another alpha than 0,
    ``control_cell`` the controls, ``confirmed_cell`` the operating points that are confirmed,
    ``prompted_cell`` the prompt baseline, ``sanity_cell`` the checks of an operating point,
    ``series`` every (layer, intervention).
    """
    wanted = {*_CELL_ARGUMENTS, "series"}.intersection(metafunc.fixturenames)
    level = collection.level_of(metafunc.definition, session.levels) if wanted else None
    if level is None:
        return
    # A mistake in the file of a level that isn't run is no reason to stop.
    chosen = collection.is_selected(session.config, level, session.levels)
    plan = session.plan(level) if chosen else None
    for name in sorted(wanted):
        values: list[Any] = []
        if plan is not None:
            values = list(getattr(plan, _CELL_ARGUMENTS.get(name, "series")))
        metafunc.parametrize(name, values, ids=[_id_of(value) for value in values])


def _id_of(value: Any) -> str:
    return value.id if isinstance(value, Cell) else f"layer{value[0]}-{value[1]}"
