"""The ``steering-reliability`` command: the ladder in one go, and what is done with results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from steering_reliability.errors import SteeringError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 for bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    after = given.index("--") if "--" in given else len(given)
    chosen = _parser().parse_args(given[:after])
    chosen.pytest_arguments = tuple(given[after + 1 :])
    try:
        return int(chosen.run(chosen))
    except SteeringError as error:
        print(f"steering-reliability: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="steering-reliability", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

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

    store = commands.add_parser("store", help="look after the stored completions")
    store.add_argument("action", choices=("stats", "verify", "prune"))
    store.add_argument("--artifacts", type=Path, default=Path("artifacts"), metavar="FOLDER")
    store.add_argument("--level", help="prune: forget this level's completions too")
    store.set_defaults(run=_store)
    return parser


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


def _store(chosen: argparse.Namespace) -> int:
    from steering_reliability.results.store import CompletionStore

    path = chosen.artifacts / "store.sqlite"
    if not path.exists():
        raise SteeringError(f"{path}: not there, expected the store of an artifacts folder")
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
            return 1 if problems else 0
        dropped = store.prune(lambda stored: stored.run.get("level") != chosen.level)
        print(f"{dropped} completions forgotten")
        return 0


if __name__ == "__main__":
    sys.exit(main())
