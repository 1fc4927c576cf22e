"""Two at work on the same cells: neither waits for what the other has finished."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from projects import N_PROMPTS, Project, stored

from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import Overrides, plan_level
from steering_reliability.ladder.work import LevelWork
from steering_reliability.models.loaded import LoadedModel, load_model


def test_shared_rows_are_made_once_and_handed_over(project: Project) -> None:
    plan = plan_level(project.config(), Overrides(model=str(project.model), device="cpu"))
    paths = ArtifactPaths(project.artifacts)
    # Of one each: loading is not for threads, nor is a model that is being steered.
    models = [load_model(str(project.model), device="cpu") for _ in range(2)]
    both = Barrier(2)

    def work_on(layer: int, model: LoadedModel) -> set[str]:
        work = LevelWork(plan, model, paths, f"run-{layer}", alone=False)
        baseline = next(cell for cell in plan.cells if cell.layer == layer and cell.is_baseline)
        both.wait(timeout=60)
        work.ensure([baseline])
        keys = {completion.key for _, completion in work.completions([baseline])}
        # Generating a row of few tokens takes milliseconds, a lease lapses after two minutes.
        assert work.timings.seconds["generation"] < 60
        work.close()
        return keys

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work_on, (1, 2), models)
    assert first == second == stored(project.artifacts).keys()
    assert len(first) == N_PROMPTS
    # Each did a part: there are more rows than slots.
    assert {entry.run_id for entry in stored(project.artifacts).values()} == {"run-1", "run-2"}
