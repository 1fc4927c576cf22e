"""The second implementation of the verdicts agrees with the first, and sees when it does not."""

from __future__ import annotations

import ast
import itertools
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import benchmarks.recompute
from benchmarks.recompute import __main__ as recompute
from steering_reliability.cells import Cell, Goal, Intervention, expand_grid
from steering_reliability.claims import CLAIM_SETTINGS
from steering_reliability.expectations import DirectionEvidence, ScoreTable, Verdict, evaluate
from steering_reliability.layer_choices import NAMED, LayerChoice
from steering_reliability.results.run import RunData, write_run
from steering_reliability.results.summary import SCORE_COLUMNS, summarize

ALPHAS = (0.0, 1.0, 2.0, 4.0)
CONTROLS = ("random-1", "random-2", "random-10", "shuffled-1", "reversed")
SPLITS = ("harm_train", "harm_test", "benign")
BROKEN = "is_degenerate"


def make_scores(
    n: int = 40,
    layers: tuple[int, ...] = (8, 12),
    lift: float = 0.12,
    samples: int = 1,
    controls: tuple[str, ...] = CONTROLS,
    seed: int = 0,
) -> pd.DataFrame:
    """Prompts with a threshold of their own, pushed up by adding and down by ablating."""
    cells = expand_grid(layers, ("add", "ablate"), ALPHAS)
    cells += [Cell(layer, "add", 2.0, name) for layer in layers for name in controls]
    blocks = []
    prompt, sample = (places.ravel() for places in np.indices((n, samples)))
    for split, cell in itertools.product(SPLITS, cells):
        if cell.direction != "learned" and split != "harm_test":
            continue
        shared = np.random.default_rng([seed, *split.encode()]).random((3, n * samples))
        own = np.random.default_rng([seed, *cell.id.encode()]).random((3, n * samples))
        # What a completion draws is mostly its prompt's, so that cells are paired.
        drawn = shared if cell.is_baseline else 0.8 * shared + 0.2 * own
        push = lift * (cell.layer - 4) / 8 * cell.alpha * (0.3 if split == "benign" else 1.0)
        push *= {"learned": 1.0, "reversed": -1.0}.get(cell.direction, 0.2)
        level = (0.06 if split == "benign" else 0.2) + push * {"add": 1, "ablate": -0.5}[
            cell.intervention
        ]
        broken = drawn[1] < 0.04 + 0.02 * cell.alpha
        refuses = ~broken & (drawn[0] < level)
        block = {
            "prompt_id": [f"{split}-{number:03d}" for number in prompt],
            "split": split,
            "seen": (split == "harm_train") & (prompt >= n // 2),
            "layer": cell.layer,
            "intervention": cell.intervention,
            "alpha": cell.alpha,
            "direction": cell.direction,
            "condition": cell.condition,
            "sample": sample,
            "refusal_score": np.where(refuses, 0.9, 0.1),
            "is_refusal": refuses,
            "helpfulness_score": 0.5,
            "is_helpful": ~refuses & ~broken & (drawn[2] < 0.8),
            "is_degenerate": broken,
        }
        blocks.append(pd.DataFrame(block))
    frame = pd.concat(blocks, ignore_index=True)
    sensitive = (frame["split"] == "benign") & frame["prompt_id"].str.endswith(("3", "7"))
    frame["style"] = np.where(sensitive, "sensitive", "direct")
    words = {"category": "fraud", "prompt": "?", "text": "!"}
    numbers = dict.fromkeys(("char_length", "mean_logprob", "mean_entropy"), 1.0)
    rest: dict[str, Any] = {**words, **numbers, "finish_reason": "stop", "refusal_log_odds": -1.0}
    return frame.assign(**rest)[list(SCORE_COLUMNS)]


def direction(layer: int, **changes: Any) -> dict[str, Any]:
    """What a manifest tells of a direction above noise whose pairs agree above placebo."""
    found = {
        "layer": layer,
        "raw_norm": 2.0,
        "residual_norm": 40.0,
        "pairs": [["No.", "Yes."]] * 8,
        "prompt_ids": [f"harm_train-{number:03d}" for number in range(20, 40)],
        "halved_agreement": 0.52,
        "halved_agreement_low": 0.48,
        "diagnostics": {"placebo_agreement": 0.31, "placebo_p": 0.002},
    }
    return found | changes


def judge(
    scores: pd.DataFrame,
    config: dict[str, dict[str, Any]],
    directions: list[dict[str, Any]],
    choice: LayerChoice = NAMED,
) -> list[Verdict]:
    """Every claim about everything, those that cannot be answered included."""
    table = ScoreTable(scores)
    claims = {name: CLAIM_SETTINGS[name](**config.get(name, {})) for name in CLAIM_SETTINGS}
    layers = sorted(set(scores["layer"]))

    def ask(claim: str, **where: Any) -> Verdict:
        return evaluate(claim, table, claims[claim], claims=claims, choice=choice, **where)

    verdicts = [ask("baseline_refusal"), ask("some_layer_steers")]
    verdicts += [ask("alpha_monotonicity", layer=layer, intervention="add") for layer in layers]
    kinds: tuple[Intervention, ...] = ("add", "ablate")
    for claim, layer, kind, alpha in itertools.product(CLAIM_SETTINGS, layers, kinds, ALPHAS[1:]):
        others = ("baseline_refusal", "some_layer_steers", "alpha_monotonicity")
        if claim not in (*others, "direction_is_real"):
            verdicts.append(ask(claim, layer=layer, intervention=kind, alpha=alpha))
    # The synthetic runs have their controls beside one cell of each layer.
    controlled = sorted(set(scores.loc[scores["direction"].str.contains("-"), "layer"]))
    for layer in layers:
        at = [ask("beats_controls", layer=layer, intervention="add", alpha=2.0)]
        beside = tuple(at if layer in controlled else [])
        known = {one["layer"]: DirectionEvidence.of(one, beside) for one in directions}
        verdicts.append(ask("direction_is_real", layer=layer, directions=known))
    goals: tuple[Goal, ...] = ("raise", "lower")
    verdicts += [
        ask("beats_controls", layer=layer, intervention="add", alpha=2.0, goal=goal)
        for layer in layers
        for goal in goals
    ]
    return verdicts


def write(
    folder: Path,
    scores: pd.DataFrame,
    config: dict[str, dict[str, Any]] | None = None,
    directions: list[dict[str, Any]] | None = None,
    choice: LayerChoice = NAMED,
) -> list[Verdict]:
    config = config or {}
    if directions is None:
        directions = [direction(layer) for layer in sorted(set(scores["layer"]))]
    settings = {
        name: kind(**config.get(name, {})).model_dump(mode="json")
        for name, kind in CLAIM_SETTINGS.items()
    }
    verdicts = judge(scores, config, directions, choice)
    manifest = {"level": "synthetic", "config": {"claims": settings}, "directions": directions}
    write_run(RunData(folder, scores, summarize(scores), verdicts, manifest))
    return verdicts


def test_agrees_on_every_claim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = write(tmp_path, make_scores())
    assert recompute.main([str(tmp_path)]) == 0
    assert f"{len(verdicts)} verdicts equal, 0 differ, 0 not recomputed" in capsys.readouterr().out
    assert {verdict.claim for verdict in verdicts} == set(recompute.CLAIMS)
    assert {verdict.outcome for verdict in verdicts} == {"pass", "fail", "inconclusive", "error"}


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        pytest.param({"n": 30, "samples": 3, "layers": (12,)}, {}, id="several samples"),
        pytest.param({"n": 150, "lift": 0.0, "layers": (12,)}, {}, id="no effect"),
        pytest.param(
            {"controls": tuple(f"random-{k}" for k in range(1, 20)), "layers": (12,)},
            {"beats_controls": {"method": "rank"}},
            id="rank",
        ),
        pytest.param({"controls": (), "n": 4, "layers": (12,)}, {}, id="four prompts, no controls"),
        pytest.param(
            {"n": 60, "lift": 0.3, "layers": (12,)},
            {
                "alpha_raises_refusal": {"split": "harm_train", "least_effect": 0.3},
                "alpha_monotonicity": {"alphas": [1, 2], "tolerance": 0.02},
                "coherence": {"gate": 0.01, "splits": ["benign"]},
                "some_layer_steers": {"alphas": [2]},
            },
            id="other margins",
        ),
    ],
)
def test_agrees_on_other_runs(
    tmp_path: Path, changes: dict[str, Any], config: dict[str, dict[str, Any]]
) -> None:
    write(tmp_path, make_scores(**changes), config)
    assert recompute.main([str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("controls", "changes", "outcome"),
    [
        pytest.param((), {}, "inconclusive", id="agreement alone"),
        pytest.param(CONTROLS, {}, "pass", id="all three"),
        pytest.param(CONTROLS, {"broken": "benign"}, "inconclusive", id="broken text"),
        pytest.param((), {"raw_norm": 0.0399}, "fail", id="rounding noise"),
        pytest.param((), {"raw_norm": 0.04, "diagnostics": None}, "inconclusive", id="no placebo"),
        pytest.param((), {"halved_agreement_low": 0.31}, "fail", id="placebo agrees as well"),
        pytest.param(
            (),
            {"pairs": None, "halved_agreement": None, "halved_agreement_low": None},
            "inconclusive",
            id="from a file that does not tell",
        ),
        pytest.param(CONTROLS, {"diagnostics": {}}, "pass", id="controls alone"),
        pytest.param(("random-1",), {"lift": 0.0}, "fail", id="beaten by a random direction"),
        pytest.param(CONTROLS, {"lift": 0.02, "n": 12}, "inconclusive", id="controls undecided"),
        pytest.param(CONTROLS, {"layer": 13}, "error", id="no direction of the layer"),
    ],
)
def test_agrees_on_what_makes_a_direction_real(
    tmp_path: Path, controls: tuple[str, ...], changes: dict[str, Any], outcome: str
) -> None:
    grid = {key: changes[key] for key in ("lift", "n") if key in changes}
    known = {key: value for key, value in changes.items() if key not in {*grid, "broken"}}
    scores = make_scores(**{"lift": 0.3, "n": 150, "layers": (12,), "controls": controls} | grid)
    scores.loc[(scores["alpha"] > 0) & (scores["split"] == changes.get("broken")), BROKEN] = True
    verdicts = write(tmp_path, scores, directions=[direction(12) | known])
    (real,) = (verdict for verdict in verdicts if verdict.claim == "direction_is_real")
    assert real.outcome == outcome
    assert recompute.main([str(tmp_path)]) == 0


def test_agrees_on_a_direction_whose_layer_is_the_best_of_several(tmp_path: Path) -> None:
    scores = make_scores(
        controls=tuple(f"random-{k}" for k in range(1, 20)), layers=(12,), lift=0.3, n=150
    )
    verdicts = write(tmp_path, scores, {"beats_controls": {"method": "rank"}}, None, LayerChoice(3))
    (real,) = (verdict for verdict in verdicts if verdict.claim == "direction_is_real")
    assert real.details["beats_controls"] == "inconclusive"
    assert recompute.main([str(tmp_path)]) == 0


def test_order_of_rows_is_the_runs(tmp_path: Path) -> None:
    write(tmp_path, make_scores(layers=(12,)).sample(frac=1, random_state=1))
    assert recompute.main([str(tmp_path)]) == 0


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write(folder, make_scores(layers=(12,), n=20))
    return folder


class TestDifferences:
    @pytest.fixture
    def run(self, written: Path, tmp_path: Path) -> Path:
        """A run that agrees, to be changed."""
        return Path(shutil.copytree(written, tmp_path / "run"))

    @pytest.mark.parametrize("key", ["outcome", "estimate", "low", "high", "n", "p_value"])
    def test_a_changed_verdict_is_found(
        self, run: Path, key: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = run / "verdicts.json"
        records = json.loads(file.read_text())
        record = next(r for r in records if r["claim"] == "alpha_raises_refusal")
        record[key] = "error" if key == "outcome" else record[key] + 1
        file.write_text(json.dumps(records))
        assert recompute.main([str(run)]) == 1
        output = capsys.readouterr().out
        assert f"DIFFERS  alpha_raises_refusal [{record['target']}]" in output
        assert f"{key}: run {record[key]}" in output
        assert f"{len(records) - 1} verdicts equal, 1 differ" in output

    def test_a_changed_score_is_found(self, run: Path) -> None:
        file = run / "completions.parquet"
        scores = pd.read_parquet(file)
        scores.loc[scores["alpha"] == 2, "is_refusal"] ^= True
        scores.to_parquet(file)
        assert recompute.main([str(run)]) == 1

    @pytest.mark.parametrize(
        ("key", "value"),
        [("raw_norm", 0.01), ("halved_agreement_low", 0.2), ("prompt_ids", ["harm_train-020"])],
    )
    def test_a_changed_direction_is_found(
        self, run: Path, key: str, value: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = run / "manifest.json"
        manifest = json.loads(file.read_text())
        manifest["directions"][0][key] = value
        file.write_text(json.dumps(manifest))
        assert recompute.main([str(run)]) == 1
        assert "DIFFERS  direction_is_real [layer12]" in capsys.readouterr().out

    def test_copies_of_the_baseline_that_differ_are_found(
        self, run: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = run / "completions.parquet"
        scores = pd.read_parquet(file)
        copy = (scores["alpha"] == 0) & (scores["intervention"] == "ablate")
        scores.loc[copy & (scores["prompt_id"] == "harm_test-003"), "is_refusal"] ^= True
        scores.to_parquet(file)
        assert recompute.main([str(run)]) == 1
        assert "the copies of the baseline differ" in capsys.readouterr().out

    def test_nothing_recomputed_is_no_success(
        self, run: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        own = Verdict("mine", "all", "pass", 0.1, 0.0, 0.2, 0.95, 20, math.nan, "fine", True)
        (run / "verdicts.json").write_text(json.dumps([own.to_dict()]))
        assert recompute.main([str(run)]) == 1
        assert "0 verdicts equal, 0 differ, 1 not recomputed" in capsys.readouterr().out

    def test_a_folder_that_is_no_run_is_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            recompute.main([str(tmp_path)])
        assert stopped.value.code == 2
        assert "no completions.parquet there" in capsys.readouterr().err


def test_nothing_of_the_package_is_used() -> None:
    files = sorted(Path(benchmarks.recompute.__file__).parent.glob("*.py"))
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    own = {name for name in imported if name.startswith("benchmarks.")}
    assert own == {
        f"benchmarks.recompute.{name}"
        for name in ("claims", "controls", "estimates", "rules", "run")
    }
    used = {name.partition(".")[0] for name in imported - own} - sys.stdlib_module_names
    assert used == {"numpy", "pandas", "scipy", "statsmodels"}
