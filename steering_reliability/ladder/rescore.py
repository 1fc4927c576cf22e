"""A run judged again from its own folder: no model, no store, no level file needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from steering_reliability.cells import Cell
from steering_reliability.config import LevelConfig, ModelProfile
from steering_reliability.config.reading import validate
from steering_reliability.errors import SteeringError
from steering_reliability.expectations import LayerChoice, Verdict
from steering_reliability.ladder.choices import Confirmation
from steering_reliability.ladder.decide import decide, resample
from steering_reliability.ladder.finish import describe_conditions, write_derived
from steering_reliability.ladder.judge import judge_level
from steering_reliability.ladder.judged import TextScores, scoring_record
from steering_reliability.ladder.plan import LevelPlan, Overrides
from steering_reliability.models.sources import ModelFacts
from steering_reliability.results.atomic import write_bytes
from steering_reliability.results.run import RunData, read_run, write_run
from steering_reliability.results.summary import summarize
from steering_reliability.scoring.judges import load_judge


@dataclass(frozen=True)
class Change:
    """A verdict that another judge turned."""

    before: Verdict
    after: Verdict


@dataclass(frozen=True)
class Rescored:
    """A run judged again.

    Attributes:
        data: as it was written.
        changes: verdicts with another outcome than before, in the level's order.
        n_judged: verdicts that were made anew; a test's own ones are taken over.
    """

    data: RunData
    changes: list[Change]
    n_judged: int


def rescore_run(
    folder: Path, refusal: str | None = None, output: Path | None = None, modules: Path = Path()
) -> Rescored:
    """Judge a run's completions again and write verdicts, tables, plots and report.

    Decisions that later levels read are left alone; running the level with another
    ``scoring: {refusal: …}`` changes them.

    Args:
        folder: the run's folder, of which only the results' files are read.
        refusal: the judge; the one that the run's level names where there is none.
        output: where to write, which may be ``folder``; by default a folder beside it, with the
            judge's name behind the run's.
        modules: on the import path of the judge; folders of models may be relative to it.

    Raises:
        SteeringError: the run or the judge cannot be used, or the output cannot be written.
    """
    former = read_run(folder)
    plan = stored_plan(former.manifest, folder)
    spec = refusal or plan.config.scoring.refusal
    judge = load_judge(spec, modules, "--refusal" if refusal else f"{folder}: scoring.refusal")
    scores = TextScores(judge).rejudge(former.scores)
    verdicts = judge_level(plan, scores, former.manifest.get("directions", []))
    judged = {(v.claim, v.target): v for v in verdicts}
    taken_over = [v for v in former.verdicts if (v.claim, v.target) not in judged]
    manifest = _manifest(former, spec, judge_record := scoring_record(judge), taken_over)
    data = RunData(
        output or folder.parent / f"{folder.resolve().name}-{_file_name(judge.name)}",
        scores,
        summarize(scores),
        [*verdicts, *taken_over],
        manifest,
    )
    # Effects under other conditions are another judge's too; how alike directions are is not.
    told = manifest.get("sanity") or []
    cosines = {row["check"]: row["cosine"] for row in told if row.get("cosine") is not None}
    describe_conditions(data, plan, cosines)
    if former.decisions is not None:
        origin = {key: manifest[key] for key in ("run", "run_id", "date")}
        data.decisions = decide(plan, scores, verdicts, manifest["model"], origin)
        resample(plan, scores, data.verdicts, data.decisions)
        if data.decisions is not None:
            data.decisions["scoring"] = judge_record["refusal"]
            if judge_record["refusal"] != (former.manifest.get("scoring") or {}).get("refusal"):
                _leave_out_optimism(data.decisions)
            # What was screened before any text was generated is the same whoever judges.
            if "screen" in former.decisions:
                data.decisions["screen"] = former.decisions["screen"]
    write_run(data)
    for source in sorted((folder / "directions").glob("*.safetensors")):
        write_bytes(data.folder / "directions" / source.name, source.read_bytes())
    write_derived(data, plan)
    pairs = [(v, judged.get((v.claim, v.target))) for v in former.verdicts]
    changes = [Change(old, new) for old, new in pairs if new and new.outcome != old.outcome]
    return Rescored(data, changes, len(verdicts))


def stored_plan(manifest: dict[str, Any], where: Path) -> LevelPlan:
    """The plan of a run as far as judging needs it: grid, claims, confirmations; no prompts.

    Raises:
        SteeringError: the run was written before runs held all of it.
    """
    try:
        config = validate(LevelConfig, manifest["config"], f"{where}: manifest.json: config")
        profile = validate(ModelProfile, manifest["profile"], f"{where}: manifest.json: profile")
        if config.confirm is not None and "confirmations" not in manifest:
            raise KeyError("confirmations")
        points = tuple(
            Confirmation(
                Cell(point["layer"], point["intervention"], point["alpha"]),
                point["goal"],
                point["choice"],
            )
            for point in manifest.get("confirmations", ())
        )
        model = manifest["model"]
        return LevelPlan(
            config=config,
            profile=profile,
            facts=ModelFacts(model["n_layers"], model["d_model"], None),
            overrides=Overrides(),
            layers=tuple(manifest["layers"]),
            alphas=tuple(manifest["alphas"]),
            confirmations=points,
            provisional=bool(manifest["provisional"]),
            decided_on=frozenset(),
            prompts={},
            learning=[],
            direction_files={},
            seen=frozenset(),
            layer_choice=LayerChoice.of(manifest["layer_choice"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SteeringError(
            f"{where}: manifest.json does not tell the level ({type(error).__name__}: {error}), "
            "expected a run of this version; run the level again, stored completions are reused"
        ) from error


def _manifest(
    former: RunData, spec: str, scoring: dict[str, Any], taken_over: list[Verdict]
) -> dict[str, Any]:
    before = (former.manifest.get("scoring") or {}).get("refusal")
    told = f"{before['name']}, version {before['version']}" if before else "rules"
    by = scoring["refusal"]
    warnings = [f"judged again by {by['name']}, version {by['version']}; the run itself by {told}"]
    if taken_over:
        names = ", ".join(sorted({verdict.claim for verdict in taken_over}))
        warnings.append(f"verdicts of tests are taken over as they were: {names}")
    return {
        **former.manifest,
        "config": {**former.manifest["config"], "scoring": {"refusal": spec}},
        "scoring": scoring,
        "rescored": {"date": datetime.now(UTC).isoformat(timespec="seconds"), "from": before},
        "warnings": [*former.manifest.get("warnings", []), *warnings],
    }


def _leave_out_optimism(decisions: dict[str, Any]) -> None:
    """An estimate of an earlier level by another judge cannot have been optimistic by this one."""
    for found in (decisions.get("confirmed") or {}).values():
        for name in ("optimism", "optimism_low", "optimism_high"):
            if name in found:
                found[name] = None


def _file_name(judge: str) -> str:
    return re.sub(r"[^\w.-]+", "-", judge, flags=re.ASCII)
