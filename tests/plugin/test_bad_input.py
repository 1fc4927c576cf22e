"""Bad input: one line that says where, what was found and what was expected; exit code 4.

It is told before workers start, and whatever was written before stays as it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
from projects import SMOKE, Project, contents

Spoil = Callable[[Project], list[str]]


def unknown_layer(project: Project) -> list[str]:
    project.write_level(layers=[1, 9])
    return []


def unknown_layer_option(_: Project) -> list[str]:
    return ["--steer-layers", "9"]


def alpha_option(_: Project) -> list[str]:
    return ["--steer-alphas", "1,x"]


def device_option(_: Project) -> list[str]:
    return ["--steer-device", "abacus"]


def level_that_is_misspelt(_: Project) -> list[str]:
    return ["-m", "smoek", "--strict-markers"]


def alpha_in_yaml(project: Project) -> list[str]:
    project.write_level(alphas=[0, "two"])
    return []


def level_of_two_words(project: Project) -> list[str]:
    project.write_level()
    text = project.config().read_text(encoding="utf-8")
    project.config().write_text(text.replace("level: smoke", "level: my smoke"), encoding="utf-8")
    return []


def unknown_key(project: Project) -> list[str]:
    project.write_level(layer=[1])
    return []


def unknown_claim_key(project: Project) -> list[str]:
    project.write_level(claims={"coherence": {"margins": 0.2}})
    return []


def broken_yaml(project: Project) -> list[str]:
    project.config().write_text("level: smoke\nlayers: [1\n", encoding="utf-8")
    return []


def missing_prompts(project: Project) -> list[str]:
    (project.prompts / "benign.jsonl").unlink()
    return []


def empty_prompts(project: Project) -> list[str]:
    project.write_prompts("benign", [])
    return []


def duplicate_prompts(project: Project) -> list[str]:
    project.write_prompts(
        "benign", ["Paint a boat.", *(f"paint {n}" for n in "abcdef"), "paint A boat"]
    )
    return []


def leaking_prompts(project: Project) -> list[str]:
    leak = json.loads((project.prompts / "harm_train.jsonl").read_text("utf-8").splitlines()[0])
    project.write_prompts("harm_test", [*(f"sell {n}" for n in "abcdef"), leak["prompt"]])
    return []


def prompt_without_text(project: Project) -> list[str]:
    project.write_prompts("benign", ["paint a boat", "  "])
    return []


def too_few_prompts(project: Project) -> list[str]:
    project.write_level(prompts={**SMOKE["prompts"], "per_split": 9})
    return []


def model_without_weights(project: Project) -> list[str]:
    folder = project.root / "hollow"
    folder.mkdir()
    shutil.copy(project.model / "config.json", folder)
    return ["--steer-model", str(folder)]


def model_that_is_not_there(_: Project) -> list[str]:
    return ["--steer-model", "./nowhere"]


def artifacts_that_are_a_file(project: Project) -> list[str]:
    (project.root / "taken").write_text("mine", encoding="utf-8")
    return ["--steer-artifacts", "taken"]


def damaged_store(project: Project) -> list[str]:
    (project.artifacts / "store.sqlite").write_bytes(b"no database " * 1000)
    return []


CASES: list[tuple[Spoil, list[str]]] = [
    (unknown_layer, ["smoke.yaml", "layers", "found 9", "from 0 to 3"]),
    (unknown_layer_option, ["--steer-layers", "found 9", "from 0 to 3"]),
    (alpha_option, ["--steer-alphas", "found 'x'", "expected numbers"]),
    (device_option, ["--steer-device", "found 'abacus'", "expected auto, cpu"]),
    (level_that_is_misspelt, ["-m: found 'smoek'", "expected a level (smoke)", "'smoke'?"]),
    (alpha_in_yaml, ["smoke.yaml", "alphas[1]", "found 'two'", "expected a number"]),
    (level_of_two_words, ["smoke.yaml", "level: found 'my smoke'", "a marker's name"]),
    (unknown_key, ["smoke.yaml", "'layer': unknown key", "did you mean 'layers'?"]),
    (unknown_claim_key, ["smoke.yaml", "claims.coherence", "did you mean 'margin'?"]),
    (broken_yaml, ["smoke.yaml:3", "mend the YAML"]),
    (missing_prompts, ["smoke.yaml: prompts.splits.benign: found", "expected a prompt file"]),
    (empty_prompts, ["benign.jsonl", "found no prompts", "expected at least one"]),
    (duplicate_prompts, ["benign.jsonl:8", "found 'paint A boat'", "benign.jsonl:1"]),
    (leaking_prompts, ["harm_test", "harm_test-7", "harm_train-1", "leak", "expected"]),
    (prompt_without_text, ["benign.jsonl:2", "found '  '", "expected the prompt's text"]),
    (too_few_prompts, ["smoke.yaml", "per_split", "found 9", "at most 8"]),
    (model_without_weights, ["hollow", "no weights", "expected *.safetensors"]),
    (model_that_is_not_there, ["'nowhere'", "expected an existing folder"]),
    (artifacts_that_are_a_file, ["taken", "found", "expected", "--steer-artifacts"]),
    (damaged_store, ["store.sqlite", "found a damaged", "expected", "--steer-fresh"]),
]
DISTRIBUTED = [
    case
    for case in CASES
    if case[0]
    in (
        level_that_is_misspelt,
        unknown_layer,
        alpha_option,
        duplicate_prompts,
        damaged_store,
        device_option,
    )
]


@pytest.mark.parametrize(("spoil", "told"), CASES, ids=[spoil.__name__ for spoil, _ in CASES])
def test_bad_input_is_told_in_a_line(project: Project, spoil: Spoil, told: list[str]) -> None:
    assert_told(project, spoil, told)


@pytest.mark.parametrize(
    ("spoil", "told"), DISTRIBUTED, ids=[spoil.__name__ for spoil, _ in DISTRIBUTED]
)
def test_bad_input_is_told_before_workers_start(
    project: Project, spoil: Spoil, told: list[str]
) -> None:
    assert_told(project, spoil, told, "-n2")


def test_two_levels_of_one_name_are_told_apart(project: Project) -> None:
    shutil.copytree(project.experiments, project.root / "copies")
    told = ["experiments/configs/smoke.yaml", "copies/configs/smoke.yaml", "found 'smoke'"]
    assert_told(project, lambda _: ["."], told, folder="copies")


def test_a_damaged_store_is_set_aside_where_all_is_to_be_fresh(project: Project) -> None:
    damaged_store(project_with_results(project))
    result = project.run("experiments", "--steer-fresh", "-k", "nothing")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    aside = project.artifacts / "store.sqlite.aside-1"
    assert aside.read_bytes() == b"no database " * 1000


def project_with_results(project: Project) -> Project:
    """The same project, as if something had been run there before."""
    folder = project.folder()
    folder.mkdir(parents=True)
    (folder / "summary.csv").write_text("split,layer\n", encoding="utf-8")
    (folder / "manifest.json").write_text("{}\n", encoding="utf-8")
    return project


def assert_told(
    project: Project, spoil: Spoil, told: list[str], *workers: str, folder: str = "experiments"
) -> None:
    arguments = spoil(project_with_results(project))
    before = contents(project.root)
    result = project.run(folder, *workers, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR, f"{result.stdout}{result.stderr}"
    lines = [line for line in (*result.outlines, *result.errlines) if line.strip()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("ERROR: ")
    missing = [part for part in told if part not in lines[0]]
    assert not missing, lines[0]
    added = {
        name for name in contents(project.root).keys() - before.keys() if "pycache" not in name
    }
    assert added <= {"artifacts/store.sqlite", "artifacts/store.sqlite.lock"}
    assert {name: data for name, data in contents(project.root).items() if name in before} == before


def test_a_cell_outside_the_grid_fails_its_test_in_a_line(project: Project) -> None:
    (project.experiments / "test_lost.py").write_text(
        "import pytest\n\n\ndef test_without_a_level(steering):\n    assert steering\n",
        encoding="utf-8",
    )
    result = project.run("experiments/test_lost.py")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*fixture steering needs the marker of a level (smoke); add *"])
    assert "Traceback" not in result.stdout.str()
    assert "fixtures.py" not in result.stdout.str()
