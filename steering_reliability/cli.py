"""The ``steering-reliability`` command: the ladder in one go, and what is done with results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steering_reliability.errors import SteeringError

if TYPE_CHECKING:
    from steering_reliability.models.loaded import LoadedModel


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 for bad input, 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    after = given.index("--") if "--" in given else len(given)
    chosen = _parser().parse_args(given[:after])
    chosen.pytest_arguments = tuple(given[after + 1 :])
    try:
        return int(chosen.run(chosen))
    except SteeringError as error:
        print(f"steering-reliability: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("steering-reliability: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="steering-reliability", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    start = commands.add_parser(
        "init",
        help="write experiments to start from: the ladder's levels, tests and prompts",
        epilog="prompt files that are there already stay as they are",
    )
    start.add_argument("folder", type=Path, help="such as experiments")
    start.add_argument("--level", metavar="NAME", help="one level of this name, a copy of smoke")
    start.set_defaults(run=_init)

    ladder = commands.add_parser(
        "ladder",
        help="run the levels in order, each as a pytest session",
        epilog="what stands after -- is handed to pytest: ladder -- -n 2",
    )
    ladder.add_argument("folder", type=Path, nargs="?", default=Path("experiments"))
    ladder.add_argument("--from", dest="first", metavar="LEVEL", help="begin with this level")
    ladder.add_argument("--to", dest="last", metavar="LEVEL", help="end with this level")
    ladder.add_argument("--keep-going", action="store_true", help="climb on where a level fails")
    ladder.add_argument("--plan", action="store_true", help="say what it would cost, run nothing")
    ladder.add_argument("--model", default="embedded", help="as pytest's --steer-model")
    ladder.add_argument("--artifacts", type=Path, default=Path("artifacts"), metavar="FOLDER")
    ladder.set_defaults(run=_ladder)

    report = commands.add_parser("report", help="write a run's plots and report again")
    report.add_argument("folder", type=Path, help="such as artifacts/runs/smoke_test")
    report.set_defaults(run=_report)

    rescore = commands.add_parser(
        "rescore",
        help="judge a run's completions again, without the model, into a folder beside it",
        epilog="decisions that later levels read are left alone",
    )
    rescore.add_argument("folder", type=Path, help="such as artifacts/runs/smoke_test")
    rescore.add_argument(
        "--refusal", metavar="JUDGE", help="rules, module:function or hf:MODEL; the level's own"
    )
    rescore.add_argument(
        "--output", type=Path, metavar="FOLDER", help="RUN-JUDGE by default; RUN itself replaces it"
    )
    rescore.set_defaults(run=_rescore)

    compare = commands.add_parser("compare", help="how far two judges agree on a run's completions")
    compare.add_argument("folder", type=Path, help="such as artifacts/runs/smoke_test")
    compare.add_argument("first", metavar="JUDGE_A", help="rules, module:function or hf:MODEL")
    compare.add_argument("second", metavar="JUDGE_B")
    compare.add_argument("--errors", action="store_true", help="list what they disagree on")
    compare.add_argument("--csv", type=Path, metavar="FILE", help="write the table too")
    compare.set_defaults(run=_compare)

    screen = commands.add_parser(
        "screen",
        help="rank a model's layers by first response tokens, without generating",
        epilog="every other harmful prompt is learned from, those between are screened",
    )
    screen.add_argument("model", help="embedded, a folder, a hub id or a profile's name")
    screen.add_argument("--harmful", default=None, metavar="SOURCE", help="harm_train by default")
    screen.add_argument("--benign", default=None, metavar="SOURCE", help="benign_train by default")
    screen.add_argument("--prompts", type=int, default=24, metavar="N", help="of each kind")
    screen.add_argument("--alphas", type=float, nargs="+", default=[2.0], metavar="ALPHA")
    screen.add_argument("--csv", type=Path, metavar="FILE", help="write the table too")
    screen.set_defaults(run=_screen)

    imported = commands.add_parser(
        "import-direction",
        help="make a direction for direction.file of a vector that was made elsewhere",
        epilog="one unit of alpha is measured on the last 64 prompts, as where a level learns",
    )
    imported.add_argument("vector", type=Path, help=".pt, .pth, .npy or .safetensors")
    imported.add_argument("--layer", type=int, required=True, metavar="N", help="from 0")
    imported.add_argument("--model", default="embedded", help="as pytest's --steer-model")
    imported.add_argument(
        "--configs", type=Path, metavar="FOLDER", help="the level's, whose models/ are profiles"
    )
    imported.add_argument("--prompts", default=None, metavar="SOURCE", help="harm_train by default")
    imported.add_argument("--tensor", metavar="NAME", help="where the file holds several")
    imported.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.safetensors")
    imported.set_defaults(run=_import_direction)

    store = commands.add_parser("store", help="look after the stored completions")
    store.add_argument("action", choices=("stats", "verify", "prune"))
    store.add_argument("--artifacts", type=Path, default=Path("artifacts"), metavar="FOLDER")
    store.add_argument("--level", help="prune: forget this level's completions too")
    store.set_defaults(run=_store)
    return parser


def _init(chosen: argparse.Namespace) -> int:
    from steering_reliability.scaffold import scaffold

    print("\n".join(str(path) for path in scaffold(chosen.folder, chosen.level)))
    print(f"run it: pytest {chosen.folder} -m {chosen.level or 'smoke'}")
    return 0


def _ladder(chosen: argparse.Namespace) -> int:
    from steering_reliability.ladder.climb import Ladder, climb, timeline
    from steering_reliability.ladder.paths import ArtifactPaths

    ladder = Ladder(
        chosen.folder,
        ArtifactPaths(chosen.artifacts.absolute()),
        chosen.model,
        chosen.first,
        chosen.last,
        chosen.keep_going,
        chosen.pytest_arguments,
    )
    if chosen.plan:
        print("\n".join(timeline(ladder)))
        return 0
    return climb(ladder, lambda line: print(f"ladder: {line}", flush=True))


def _report(chosen: argparse.Namespace) -> int:
    from steering_reliability.report.examples import write_examples
    from steering_reliability.report.html import write_report
    from steering_reliability.report.plots import write_plots
    from steering_reliability.results.run import read_run

    data = read_run(chosen.folder)
    plots = write_plots(data, data.folder / "plots")
    write_examples(data)
    print(write_report(data, plots))
    return 0


def _rescore(chosen: argparse.Namespace) -> int:
    from steering_reliability.ladder.rescore import rescore_run

    found = rescore_run(chosen.folder, chosen.refusal, chosen.output, Path.cwd())
    for change in found.changes:
        before, after = change.before, change.after
        print(
            f"{after.claim} [{after.target}]: {before.outcome} -> {after.outcome} "
            f"({before.estimate:+.2f} -> {after.estimate:+.2f})"
        )
    judge = found.data.manifest["scoring"]["refusal"]
    print(
        f"{len(found.changes)} of {found.n_judged} verdicts changed, "
        f"judged by {judge['name']}, version {judge['version']}"
    )
    print(found.data.folder / "report.html")
    return 0


def _compare(chosen: argparse.Namespace) -> int:
    from steering_reliability.ladder import compare
    from steering_reliability.results.atomic import write_csv
    from steering_reliability.scoring.judges import load_judge

    judges = [load_judge(spec, Path.cwd(), "compare") for spec in (chosen.first, chosen.second)]
    compare.check_distinct(*judges)
    judged = compare.judged_by_both(chosen.folder, *judges)
    table = compare.agreement_table(judged)
    for letter, judge in zip("AB", judges, strict=True):
        print(f"{letter}: {judge.name}, version {judge.version}")
    print("\n".join(compare.agreement_lines(table)))
    found = compare.disagreements(judged)
    print(f"{len(found)} texts on which they disagree")
    if chosen.errors:
        names = [judge.name for judge in judges]
        print("\n".join(compare.disagreement_lines(found, names)))
    if chosen.csv is not None:
        write_csv(chosen.csv, table)
    return 0


def _screen(chosen: argparse.Namespace) -> int:
    from steering_reliability.config.profile import shipped_configs
    from steering_reliability.directions import learn_directions
    from steering_reliability.prompts import load_prompts
    from steering_reliability.results.atomic import write_csv
    from steering_reliability.screening import screen

    shipped = shipped_configs().parent / "prompts"
    harmful = load_prompts(chosen.harmful or shipped / "harm_train.jsonl", limit=2 * chosen.prompts)
    benign = load_prompts(chosen.benign or shipped / "benign_train.jsonl", limit=chosen.prompts)
    model = _load(chosen.model)
    directions = learn_directions(model, harmful[::2], range(model.n_layers))
    table = screen(model, [*directions.values()], harmful[1::2], benign, alphas=chosen.alphas)
    print(table.drop(columns=["direction"]).to_string(index=False, float_format="{:.2f}".format))
    if chosen.csv is not None:
        write_csv(chosen.csv, table)
    return 0


def _import_direction(chosen: argparse.Namespace) -> int:
    from steering_reliability.config.profile import shipped_configs
    from steering_reliability.config.sections import LearnFrom
    from steering_reliability.directions import import_direction, save_direction
    from steering_reliability.directions.imported import check_vector_file
    from steering_reliability.prompts import load_prompts

    # A large model takes minutes to load.
    check_vector_file(chosen.vector)
    if chosen.configs is not None and not chosen.configs.is_dir():
        raise SteeringError(
            f"--configs: found {chosen.configs}, expected a folder whose models/ are profiles; "
            "check the path"
        )
    shipped = shipped_configs().parent / "prompts"
    prompts = load_prompts(chosen.prompts or shipped / "harm_train.jsonl")[-LearnFrom().last :]
    model = _load(chosen.model, chosen.configs)
    direction = import_direction(
        model, chosen.vector, layer=chosen.layer, prompts=prompts, tensor=chosen.tensor
    )
    save_direction(direction, chosen.output)
    print(
        f"layer {direction.layer}: norm {direction.raw_norm:.3g} of a median residual norm "
        f"{direction.residual_norm:.3g} on {len(prompts)} prompts"
    )
    print(chosen.output)
    return 0


def _load(name: str, configs: Path | None = None) -> LoadedModel:
    from steering_reliability.config import load_profile
    from steering_reliability.models.loaded import load_model

    profile = load_profile(name, configs)
    return load_model(profile.source, profile=profile, announce=print)


def _store(chosen: argparse.Namespace) -> int:
    from steering_reliability.results.mending import mend_store
    from steering_reliability.results.store import CompletionStore

    path = chosen.artifacts / "store.sqlite"
    if not path.exists():
        raise SteeringError(f"{path}: not there, expected the store of an artifacts folder")
    mended = mend_store(path) if chosen.action == "prune" else None
    if mended is not None:
        print(mended)
    with CompletionStore(path) as store:
        if chosen.action == "stats":
            stats = store.stats()
            size = f"{stats.size_bytes / 1e6:.1f} MB"
            print(f"{stats.completions:,} completions, {stats.leases:,} being made, {size}")
            for run, count in stats.runs:
                print(f"{count:>8,}  {run.get('level', '?')}, run {run.get('run_id', '?')}")
            return 0
        if chosen.action == "verify":
            problems = store.verify()
            print("\n".join(problems) or "sound")
            if problems:
                print(
                    "the next run sets the store aside and keeps the completions that can still "
                    "be read, as `steering-reliability store prune` does now"
                )
            return 1 if problems else 0
        dropped = store.prune(lambda stored: stored.run.get("level") != chosen.level)
        print(f"{dropped} completions forgotten")
        return 0


if __name__ == "__main__":
    sys.exit(main())
