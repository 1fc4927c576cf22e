"""A level's run folder, written from what the store holds. Needs no model; can be redone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from steering_reliability.cells import DEFAULT_CONDITION, Cell
from steering_reliability.claims import Coherence
from steering_reliability.completions import Completion
from steering_reliability.errors import SteeringError
from steering_reliability.expectations import Verdict
from steering_reliability.ladder.conditions import PROMPT_BASELINE, PROMPT_ORDER
from steering_reliability.ladder.decide import decide, note_confirmations, publish, resample
from steering_reliability.ladder.derived import derived_tables
from steering_reliability.ladder.index import LevelIndex, read_index
from steering_reliability.ladder.judge import Scorer, judge_level
from steering_reliability.ladder.judged import scoring_record
from steering_reliability.ladder.paths import ArtifactPaths
from steering_reliability.ladder.plan import LevelPlan
from steering_reliability.ladder.targets import left_out_claims
from steering_reliability.report.decided import order_lines
from steering_reliability.results.atomic import write_bytes, write_csv
from steering_reliability.results.conditions import compare_prompting
from steering_reliability.results.endpoint import endpoint_table, read_endpoint
from steering_reliability.results.probes import probes_table, read_readings
from steering_reliability.results.records import StoredCompletion
from steering_reliability.results.run import RunData, environment_manifest, read_run, write_run
from steering_reliability.results.sanity import sanity_table
from steering_reliability.results.score_cache import ScoreCache
from steering_reliability.results.store import CompletionStore
from steering_reliability.results.summary import summarize

Kept = TypeVar("Kept")


@dataclass
class RunFacts:
    """What the processes of a run know and the store does not.

    Attributes:
        run_id: marks what this run generated.
        timings: seconds per phase, the longest of the processes.
        verdicts: verdicts that tests came to by themselves, beside the level's own claims.
        warnings: lines to be shown in the report.
        inconclusive: ``pass`` or ``fail``, in place of what the level's file says.
    """

    run_id: str
    timings: dict[str, float] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    inconclusive: str | None = None


def finish_level(
    plan: LevelPlan,
    paths: ArtifactPaths,
    facts: RunFacts,
    target: ArtifactPaths | None = None,
    scorer: Scorer | None = None,
) -> RunData:
    """Write the run folder with report and plots, and ``tables/summary.csv``.

    Everything is taken from the store: all of the level's complete cells, whichever run made
    them, so that running a part of a level loses no row.

    Args:
        plan: the level.
        paths: where store, index and directions are.
        facts: what the store doesn't know.
        target: where the results go, if not there too.
        scorer: one that has scored some of the level's texts already.

    Raises:
        SteeringError: no cell is complete, or something can't be read or written.
    """
    index = read_index(paths.index(plan))
    with CompletionStore(paths.store) as store:
        cells, stored = _complete_cells(index, store)
    if not cells:
        raise SteeringError(
            f"level {plan.level}: no cell is complete yet, so there is nothing to report; "
            "run the level again, it goes on from the completions in the store"
        )
    scorer = scorer or Scorer(plan, ScoreCache(paths.scores))
    scores = scorer.frame_of_cells(cells, lambda some: _completions(index, some, stored))
    scorer.save()
    verdicts = judge_level(plan, scores, index.directions)
    judged = {(verdict.claim, verdict.target) for verdict in verdicts}
    verdicts += [v for v in facts.verdicts if (v.claim, v.target) not in judged]
    manifest = _manifest(plan, index, stored, facts, scores, cells)
    manifest["scoring"] = scoring_record(scorer.texts.judge)
    manifest["prefix_scoring"] = scorer.texts.prefix_cost
    target = target or paths
    data = RunData(target.run(plan), scores, summarize(scores), verdicts, manifest)
    describe_conditions(
        data, plan, {one["name"]: one["cosine_with_learned"] for one in index.controls}
    )
    _describe_probes(data, index, cells, paths)
    needed = {cell for cell in plan.splits_of if cell.condition == DEFAULT_CONDITION}
    if needed <= set(cells):
        origin = {key: manifest[key] for key in ("run", "run_id", "date")}
        data.decisions = decide(plan, scores, verdicts, index.model, origin)
        resample(plan, scores, verdicts, data.decisions)
        if data.decisions is not None and index.screen:
            data.decisions["screen"] = index.screen
    elif plan.config.decision or plan.confirmations:
        manifest["warnings"].append("the level is not complete, so it decides nothing")
    if data.decisions is not None and target is paths:
        manifest["vectors_tried"] = note_confirmations(paths, plan, index)
        publish(paths, data.decisions)
    _write(data, plan, paths, target)
    return data


def describe_conditions(data: RunData, plan: LevelPlan, cosines: Mapping[str, float]) -> None:
    """Enter the prompt baseline and the sanity checks into the manifest.

    Args:
        data: the run.
        plan: its level.
        cosines: with the learned direction, by the name of a condition that has another one.
    """
    gate = plan.config.claims.get("coherence")
    for prompted in plan.prompted_cells:
        coherence = gate if isinstance(gate, Coherence) else Coherence()
        if found := compare_prompting(data.scores, prompted, coherence):
            data.manifest["prompt_baseline"] = found
    if plan.checked_cell is not None and plan.config.sanity is not None:
        meanings = {name: condition.meaning for name, condition in plan.conditions.items()}
        table = sanity_table(
            data.scores,
            plan.checked_cell,
            plan.config.sanity.split,
            {name: text for name, text in meanings.items() if name != PROMPT_BASELINE},
            cosines=cosines,
            reordered=PROMPT_ORDER,
        )
        data.manifest["sanity"] = _plain(table)
        warnings = data.manifest["warnings"]
        warnings += [line for line in order_lines(data.manifest) if line not in warnings]


def _describe_probes(
    data: RunData, index: LevelIndex, cells: Iterable[Cell], paths: ArtifactPaths
) -> None:
    """Enter what was read off the complete cells without generating into the manifest."""
    readings = _kept(cells, index.probes, paths.probes, read_readings)
    if readings:
        data.manifest["probes"] = probes_table(readings, data.scores).to_dict("records")
    endpoints = _kept(cells, index.endpoints, paths.probes, read_endpoint)
    if endpoints:
        data.manifest["log_odds"] = _plain(endpoint_table(endpoints))


def _kept(
    cells: Iterable[Cell],
    digests: Mapping[Cell, str],
    folder: Path,
    read: Callable[[Path, str], Kept | None],
) -> dict[Cell, Kept]:
    """What is kept of those of the cells that something was to be read at."""
    return {
        cell: found
        for cell in cells
        if cell in digests and (found := read(folder, digests[cell])) is not None
    }


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as the manifest keeps them: None for what there is none of."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _write(data: RunData, plan: LevelPlan, paths: ArtifactPaths, target: ArtifactPaths) -> None:
    """Write all of a run's files, and read the run back as its readers will."""
    write_run(data)
    for direction in data.manifest["directions"]:
        source = paths.direction(direction["hash"])
        write_bytes(
            data.folder / "directions" / f"layer{direction['layer']}.safetensors",
            source.read_bytes(),
        )
    write_derived(data, plan)
    write_csv(target.tables / "summary.csv", data.summary)
    read_run(data.folder)


def write_derived(data: RunData, plan: LevelPlan) -> None:
    """Write tables, plots, examples and report of a run.

    Raises:
        SteeringError: the folder cannot be written.
    """
    from steering_reliability.report.examples import write_examples
    from steering_reliability.report.html import write_report
    from steering_reliability.report.plots import write_plots

    folder = data.folder / "tables"
    tables = derived_tables(data, plan)
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table)
    # What a former run of this name told must not be read as this one's.
    for path in folder.glob("*.csv"):
        if path.stem not in tables:
            path.unlink()
    plots = write_plots(data, data.folder / "plots")
    write_examples(data)
    write_report(data, plots)


def _complete_cells(
    index: LevelIndex, store: CompletionStore
) -> tuple[list[Cell], dict[str, StoredCompletion]]:
    keys = {key for keys in index.keys.values() for key in keys}
    stored = store.get_many(keys)
    return [cell for cell, keys in index.keys.items() if all(k in stored for k in keys)], stored


def _completions(
    index: LevelIndex, cells: Iterable[Cell], stored: dict[str, StoredCompletion]
) -> list[tuple[str, Completion]]:
    return [
        (split, stored[key].labelled(prompt_id, cell, sample))
        for cell in cells
        for split, prompt_id, sample, key in index.rows(cell)
    ]


def _manifest(
    plan: LevelPlan,
    index: LevelIndex,
    stored: dict[str, StoredCompletion],
    facts: RunFacts,
    scores: pd.DataFrame,
    cells: list[Cell],
) -> dict[str, Any]:
    generated = sum(record.run.get("run_id") == facts.run_id for record in stored.values())
    warnings = [*left_out_claims(plan), *plan.notes, *facts.warnings]
    by_slots = Counter(
        int(record.run.get("slots", index.model["slots"])) for record in stored.values()
    )
    warnings += [
        f"{n} completions were made with {slots} slots instead of {index.model['slots']}, after "
        "the device ran out of memory; set generation.slots to what fits"
        for slots, n in by_slots.items()
        if slots != index.model["slots"]
    ]
    missing = [cell.id for cell in plan.splits_of if cell not in set(cells)]
    if missing:
        warnings.append(f"cells that are not complete and are left out: {', '.join(missing)}")
    return {
        "level": plan.level,
        "question": plan.config.question,
        "run": plan.run_name,
        "run_id": facts.run_id,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": index.model,
        "config": plan.config.as_dict(),
        "inconclusive": facts.inconclusive or plan.config.inconclusive,
        "profile": plan.profile.model_dump(mode="json"),
        "layers": list(plan.layers),
        "provisional": plan.provisional,
        "layer_choice": plan.layer_choice.to_dict(),
        "confirmations": [
            {
                "layer": point.cell.layer,
                "intervention": point.cell.intervention,
                "alpha": point.cell.alpha,
                "goal": point.goal,
                "choice": dict(point.choice),
            }
            for point in plan.confirmations
        ],
        "alphas": list(plan.alphas),
        "alpha_unit": plan.alpha_unit,
        "seeds": {"generation": plan.config.generation.seed},
        "prompts": {split: len(prompts) for split, prompts in plan.prompts.items()},
        "planned": plan.n_completions,
        "planned_beside_grid": plan.n_beside_grid,
        "completions_by_slots": {str(slots): n for slots, n in sorted(by_slots.items())},
        "generated": generated,
        "reused": len(stored) - generated,
        "completions": len(scores),
        "directions": index.directions,
        "controls": index.controls,
        "timings": {phase: round(s, 3) for phase, s in facts.timings.items()},
        "warnings": warnings,
        **environment_manifest(),
    }
