"""Levels and model profiles: what is read, what is refused, and in which words."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from steering_reliability.claims import CLAIM_SETTINGS
from steering_reliability.config import (
    LevelConfig,
    ModelProfile,
    find_levels,
    load_level,
    load_profile,
    resolve_layers,
)
from steering_reliability.config.reading import validate
from steering_reliability.errors import SteeringError

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"
CONFIGS = EXPERIMENTS / "configs"

LEVEL: dict[str, Any] = {
    "level": "my_level",
    "question": "Does it steer?",
    "layers": [12],
    "interventions": ["add"],
    "alphas": [0, 2],
    "prompts": {
        "folder": "../prompts",
        "per_split": 2,
        "splits": {"harm_train": "harm_train.jsonl", "harm_test": "harm_test.jsonl"},
    },
}
# Every key of the schema, so that a misspelling of any of them can be tried.
EVERY_KEY: dict[str, Any] = LEVEL | {
    "run": "my_run",
    "interventions": ["add", "ablate"],
    "layers": {"from": "layer_test", "default": [12]},
    "prompts": LEVEL["prompts"]
    | {
        "splits": {
            "harm_train": {"source": "a.csv", "columns": {"prompt": "goal"}, "limit": 9},
            "harm_test": "harm_test.jsonl",
            "harm_confirm": "harm_confirm.jsonl",
        }
    },
    "direction": {
        "method": "contrastive_prefix",
        "pairs": [{"refusal": "No.", "compliance": "Yes."}],
        "learn_from": {"split": "harm_train", "last": 8},
        "at": "response",
        "alpha_unit": 0.125,
    },
    "generation": {
        "max_new_tokens": 4,
        "temperature": 0.7,
        "top_p": 0.9,
        "samples": 2,
        "seed": 1,
        "positions": "all",
        "slots": 8,
    },
    "controls": {
        "random": 1,
        "shuffled": 1,
        "reversed": True,
        "alphas": [2],
        "ablate_alphas": [2],
        "split": "harm_test",
    },
    "decision": {"chooses": "layer", "cost_weight": 0.5},
    "confirm": {
        "from": "alpha_sweep",
        "split": "harm_confirm",
        "random": 19,
        "default": {"layer": 12, "intervention": "add", "alpha": 2},
    },
    "claims": {"baseline_refusal": {"split": "harm_test", "required": False}},
    "inconclusive": "fail",
}
# Keys under these are names that the user chooses.
FREE = {("prompts", "splits"), ("prompts", "splits", "harm_train", "columns")}

WriteLevel = Callable[..., Path]


@pytest.fixture
def write_level(tmp_path: Path) -> WriteLevel:
    def write(data: Any, name: str = "my_level.yaml") -> Path:
        path = tmp_path / "configs" / name
        path.parent.mkdir(exist_ok=True)
        text = data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def changed(data: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """``data`` with the value at a dotted key replaced."""
    result = copy.deepcopy(data)
    *parents, last = key.split(".")
    place = result
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return result


def keys_of(data: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(data, dict):
        for key, value in data.items():
            if at not in FREE:
                yield (*at, key)
            yield from keys_of(value, (*at, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from keys_of(value, (*at, index))  # type: ignore[arg-type]


def error_of(path: Path) -> str:
    """The message of the error that reading the level raises, without the file's folder."""
    with pytest.raises(SteeringError) as caught:
        load_level(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return path.name + message.removeprefix(str(path))


# --- what is read ----------------------------------------------------------------------------


def test_a_small_level_has_the_documented_defaults(write_level: WriteLevel) -> None:
    level = load_level(write_level(LEVEL))
    assert level.path is not None
    assert level.path.name == "my_level.yaml"
    assert level.run == "my_level"
    assert level.alphas == [0.0, 2.0]
    assert level.claims == {}
    assert level.inconclusive == "pass"
    assert level.prompts.splits["harm_test"].source == "harm_test.jsonl"
    assert level.as_dict()["direction"] == {
        "method": "contrastive_prefix",
        "file": None,
        "pairs": None,
        "placebo": None,
        "benign_contrast": None,
        "learn_from": {"split": "harm_train", "last": 64},
        "at": "response",
        "alpha_unit": None,
    }
    assert level.as_dict()["generation"] == {
        "max_new_tokens": 48,
        "temperature": 0.0,
        "top_p": 1.0,
        "samples": 1,
        "seed": 0,
        "positions": "response",
        "slots": None,
    }
    assert level.as_dict()["controls"] == {
        "random": 0,
        "shuffled": 0,
        "reversed": False,
        "alphas": None,
        "ablate_alphas": [],
        "split": "harm_test",
    }
    assert (level.decision, level.confirm) == (None, None)


def test_every_key_is_read_and_written_back(write_level: WriteLevel) -> None:
    level = load_level(write_level(EVERY_KEY))
    written = level.as_dict()
    assert json.loads(json.dumps(written)) == written
    assert load_level(write_level(written, "again.yaml")).as_dict() == written
    for key in keys_of(EVERY_KEY):
        value: Any = written
        wanted: Any = EVERY_KEY
        for part in key:
            value, wanted = value[part], wanted[part]
        if not isinstance(wanted, dict | list) and key != ("prompts", "splits", "harm_test"):
            assert value == wanted, key


def test_claims_keep_their_order_and_have_their_own_settings(write_level: WriteLevel) -> None:
    claims = {"coherence": {"margin": 0.2}, "baseline_refusal": None}
    level = load_level(write_level(LEVEL | {"claims": claims}))
    assert list(level.claims) == ["coherence", "baseline_refusal"]
    assert level.claims["coherence"] == CLAIM_SETTINGS["coherence"](margin=0.2)  # type: ignore[call-arg]
    assert level.claims["baseline_refusal"] == CLAIM_SETTINGS["baseline_refusal"]()
    assert level.as_dict()["claims"]["coherence"]["margin"] == 0.2


def test_a_level_does_not_change_once_read(write_level: WriteLevel) -> None:
    level = load_level(write_level(LEVEL))
    with pytest.raises(ValueError, match="frozen"):
        level.run = "other"


@pytest.mark.parametrize(
    ("layers", "n_layers", "expected"),
    [
        ([8, 12, 16], 30, [8, 12, 16]),
        ([0.4], 30, [12]),
        ([0.4], 24, [10]),
        ([0.99], 30, [29]),
        ([0.01], 30, [0]),
        ([12.0], 30, [12]),
        ([0.27, 0.4, 0.53], 2, [1]),
        ({"from": "layer_test", "default": [8, 0.4]}, 30, [8, 12]),
    ],
)
def test_layers_and_depths_become_indices(
    write_level: WriteLevel, layers: Any, n_layers: int, expected: list[int]
) -> None:
    level = load_level(write_level(LEVEL | {"layers": layers}))
    assert level.resolve_layers(n_layers) == expected


@given(depth=st.floats(0, 1, exclude_min=True, exclude_max=True), n_layers=st.integers(1, 200))
def test_a_depth_is_a_layer_of_any_model(depth: float, n_layers: int) -> None:
    (layer,) = resolve_layers([depth], n_layers, "layers")
    assert 0 <= layer < n_layers
    assert abs(layer - depth * n_layers) <= 1


@pytest.mark.parametrize("layer", [30, 31, 10**400])
def test_a_layer_that_the_model_lacks_is_refused(write_level: WriteLevel, layer: int) -> None:
    path = write_level(LEVEL | {"layers": [12, layer]})
    with pytest.raises(SteeringError) as caught:
        load_level(path).resolve_layers(30)
    assert str(caught.value) == (
        f"{path}: layers: found {layer}, expected a layer from 0 to 29 (the model has 30); "
        "name one of those or a depth such as 0.4"
    )


def test_the_run_folder_takes_the_models_name(write_level: WriteLevel) -> None:
    level = load_level(write_level(LEVEL | {"run": "full_{model}"}))
    assert level.run_name("gpt2-medium") == "full_gpt2-medium"
    assert level.run_name("a/b c") == "full_a-b-c"
    assert level.run_name("embedded") == "full_embedded"


def test_another_models_run_has_a_folder_of_its_own(write_level: WriteLevel) -> None:
    level = load_level(write_level(LEVEL | {"run": "smoke_test"}))
    assert level.run_name("embedded") == "smoke_test"
    assert level.run_name("gpt2-medium") == "smoke_test_gpt2-medium"
    assert level.run_name("a/b c") == "smoke_test_a-b-c"


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "generation.max_new_tokens",
            "many",
            "generation.max_new_tokens: found 'many', expected a whole number of at least 1",
        ),
        (
            "generation.max_new_tokens",
            0,
            "generation.max_new_tokens: found 0, expected a whole number of at least 1",
        ),
        (
            "generation.max_new_tokens",
            True,
            "generation.max_new_tokens: found true, expected a whole number of at least 1",
        ),
        (
            "generation.max_new_tokens",
            None,
            "generation.max_new_tokens: found nothing, expected a whole number of at least 1",
        ),
        (
            "generation.top_p",
            1.5,
            "generation.top_p: found 1.5, expected a number above 0 and at most 1",
        ),
        (
            "generation.temperature",
            -1,
            "generation.temperature: found -1, expected a number of at least 0",
        ),
        (
            "generation.samples",
            4,
            "generation.samples: found 4, expected 1 with temperature 0, where every sample is "
            "the same; raise the temperature",
        ),
        (
            "generation.positions",
            "prompt",
            "generation.positions: found 'prompt', expected one of response, all",
        ),
        (
            "generation",
            3,
            "generation: found 3, expected a mapping with the keys max_new_tokens, "
            "temperature, top_p, samples, seed, positions, slots",
        ),
        ("level", 3, "level: found 3, expected text"),
        (
            "level",
            "my level",
            "level: found 'my level', expected a marker's name: letters, digits and underscores",
        ),
        ("question", "", "question: found '', expected text that is not empty"),
        (
            "run",
            "../elsewhere",
            "run: found '../elsewhere', expected a folder's name; only {model} may stand in braces",
        ),
        (
            "layers",
            [],
            "layers: found [], expected a list of layers or depths, or a mapping with from and "
            "default",
        ),
        (
            "layers",
            [12, -1],
            "layers[1]: found -1, expected a layer (0 or more) or a depth between 0 and 1",
        ),
        (
            "layers",
            [True],
            "layers[0]: found true, expected a layer (0 or more) or a depth between 0 and 1",
        ),
        (
            "layers",
            [12.5],
            "layers[0]: found 12.5, expected a layer (0 or more) or a depth between 0 and 1",
        ),
        ("layers", [8, 12, 8], "layers[2]: found 8, expected each value once"),
        (
            "layers",
            {"from": "layer_test", "default": ["x"]},
            "layers.default[0]: found 'x', expected a layer (0 or more) or a depth between 0 and 1",
        ),
        (
            "layers",
            {"from": "layer_test", "default": {"from": "smoke", "default": [12]}},
            "layers.default: found {'from': 'smoke', 'default': [12]}, expected a list of layers "
            "or depths",
        ),
        (
            "layers",
            {"from": "layer_test"},
            "layers.default: found nothing, expected a list; add it",
        ),
        ("interventions", [], "interventions: found [], expected a list that is not empty"),
        (
            "interventions",
            ["add", "subtract"],
            "interventions[1]: found 'subtract', expected one of add, ablate",
        ),
        (
            "interventions",
            ["add", "add"],
            "interventions[1]: found 'add', expected each value once",
        ),
        ("alphas", [0, "2"], "alphas[1]: found '2', expected a number"),
        ("alphas", [0, True], "alphas[1]: found true, expected a number"),
        ("alphas", [0, float("nan")], "alphas[1]: found nan, expected a number"),
        ("alphas", [0, float("inf")], "alphas[1]: found inf, expected a number"),
        ("alphas", 2, "alphas: found 2, expected a list that is not empty"),
        ("alphas", [0, 2, 2.0], "alphas[2]: found 2, expected each value once"),
        (
            "alphas",
            [1, 2],
            "alphas: found [1, 2], expected 0 among the alphas, which every effect is "
            "measured against",
        ),
        (
            "prompts.per_split",
            0,
            "prompts.per_split: found 0, expected a whole number of at least 1, or all",
        ),
        (
            "prompts.per_split",
            "every",
            "prompts.per_split: found 'every', expected a whole number of at least 1, or all",
        ),
        ("prompts.splits", {}, "prompts.splits: found {}, expected a mapping"),
        (
            "prompts.splits.harm_test",
            3,
            "prompts.splits.harm_test: found 3, expected a file name, or a mapping with the keys "
            "source, columns, limit",
        ),
        (
            "prompts.splits.harm test",
            "x.jsonl",
            "prompts.splits: found 'harm test', expected a name of letters, digits and underscores",
        ),
        (
            "direction.method",
            "mean",
            "direction.method: found 'mean', expected contrastive_prefix",
        ),
        ("direction.pairs", [], "direction.pairs: found [], expected a list that is not empty"),
        (
            "direction.pairs",
            [{"refusal": "No."}],
            "direction.pairs[0].compliance: found nothing, expected text that is not empty; add it",
        ),
        (
            "direction.alpha_unit",
            2,
            "direction.alpha_unit: found 2, expected a number above 0 and at most 1",
        ),
        (
            "direction.learn_from.split",
            "harm_tain",
            "direction.learn_from.split: found 'harm_tain', expected a split of this level: "
            "harm_train, harm_test",
        ),
        (
            "controls",
            {"random": 2, "split": "benign"},
            "controls.split: found 'benign', expected a split of this level: harm_train, harm_test",
        ),
        (
            "controls.alphas",
            [4],
            "controls.alphas: found 4, expected an alpha of this level: 0, 2",
        ),
        (
            "controls.alphas",
            [0],
            "controls.alphas[0]: found 0, expected a number above 0",
        ),
        (
            "controls",
            {"random": 1, "ablate_alphas": [2]},
            "controls.ablate_alphas: found [2], expected none, since the level does not ablate; "
            "add ablate to the interventions",
        ),
        (
            "controls.ablate_alphas",
            [4],
            "controls.ablate_alphas: found 4, expected an alpha of this level: 0, 2",
        ),
        (
            "decision",
            {"chooses": "alpha"},
            "decision.chooses: found 'alpha', expected one of layer, operating_point",
        ),
        (
            "confirm",
            {"from": "alpha_sweep", "default": {"layer": 12, "alpha": 2}},
            "confirm.split: found 'harm_confirm', expected a split of this level: harm_train, "
            "harm_test",
        ),
        (
            "confirm",
            {"from": "alpha_sweep", "default": {"layer": -1, "alpha": 2}},
            "confirm.default.layer: found -1, expected a layer (0 or more) or a depth between 0 "
            "and 1",
        ),
        (
            "controls.reversed",
            "yes",
            "controls.reversed: found 'yes', expected true or false",
        ),
        (
            "claims.benign_side_effect",
            {},
            "claims.benign_side_effect.split: found 'benign', expected a split of this level: "
            "harm_train, harm_test",
        ),
        (
            "claims.coherence.alphas",
            [4],
            "claims.coherence.alphas: found 4, expected an alpha of this level: 0, 2",
        ),
        (
            "claims.coherence.margin",
            2,
            "claims.coherence.margin: found 2, expected a number above 0 and below 1",
        ),
        (
            "claims.coherence.alphas",
            ["high"],
            "claims.coherence.alphas[0]: found 'high', expected a number",
        ),
        (
            "claims.baseline_refusal",
            {"low": 0.5},
            "claims.baseline_refusal: found interval_low 0.05, low 0.5, high 0.3, interval_high "
            "0.4, expected them in ascending order",
        ),
        ("claims", ["coherence"], "claims: found ['coherence'], expected a mapping"),
        ("inconclusive", "warn", "inconclusive: found 'warn', expected one of pass, fail"),
    ],
)
def test_a_wrong_value_is_told_in_one_line(
    write_level: WriteLevel, key: str, value: Any, message: str
) -> None:
    path = write_level(changed(LEVEL, key, value))
    assert error_of(path) == f"my_level.yaml: {message}"


@pytest.mark.parametrize(
    ("key", "expected"), [("alphas", "a list that is not empty"), ("level", "text")]
)
def test_a_missing_key_is_named(write_level: WriteLevel, key: str, expected: str) -> None:
    data = copy.deepcopy(LEVEL)
    del data[key]
    assert error_of(write_level(data)) == (
        f"my_level.yaml: {key}: found nothing, expected {expected}; add it"
    )


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("layer", "'layer': unknown key; did you mean 'layers'?"),
        ("Alphas", "'Alphas': unknown key; did you mean 'alphas'?"),
        ("prompts.per_splt", "prompts: 'per_splt': unknown key; did you mean 'per_split'?"),
        (
            "claims.baseline_refusl",
            "claims: 'baseline_refusl': unknown key; did you mean 'baseline_refusal'?",
        ),
        (
            "claims.baseline_refusal.lo",
            "claims.baseline_refusal: 'lo': unknown key; did you mean 'low'?",
        ),
        (
            "controls.zzz",
            "controls: 'zzz': unknown key; known: random, shuffled, reversed, alphas, "
            "ablate_alphas, split",
        ),
    ],
)
def test_an_unknown_key_gets_the_nearest_known_one(
    write_level: WriteLevel, key: str, message: str
) -> None:
    assert error_of(write_level(changed(LEVEL, key, {}))) == f"my_level.yaml: {message}"


def test_a_key_that_is_no_text_is_unknown(write_level: WriteLevel) -> None:
    # YAML 1.1 reads a bare "on" as true.
    text = yaml.safe_dump(LEVEL) + "on: 3\n"
    assert error_of(write_level(text)).startswith("my_level.yaml: true: unknown key; ")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_misspelling_of_any_key_gets_that_key(data: st.DataObject, tmp_path_factory: Any) -> None:
    key = data.draw(st.sampled_from(sorted(keys_of(EVERY_KEY), key=str)))
    name = str(key[-1])
    index = data.draw(st.integers(0, len(name) - 1))
    typo = data.draw(
        st.sampled_from(
            [
                name[:index] + name[index] + name[index:],
                name[:index] + name[index + 1 :],
                name[:index] + "q" + name[index:],
                name.replace("_", "-"),
                name.upper(),
            ]
        )
    )
    level = copy.deepcopy(EVERY_KEY)
    place: Any = level
    for part in key[:-1]:
        place = place[part]
    assume(typo not in place)
    assume(len(typo) > 1)
    place[typo] = place.pop(name)
    path = tmp_path_factory.mktemp("typo") / "level.yaml"
    path.write_text(yaml.safe_dump(level), encoding="utf-8")
    assert f"{typo!r}: unknown key; did you mean {name!r}?" in error_of(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("level: a\nlayers: [1]\nlevel: b\n", ":3: level: found twice (first in line 1), "
         "expected once; mend the YAML"),
        ("claims:\n  coherence: {}\n  coherence: {}\n", ":3: coherence: found twice (first in "
         "line 2), expected once; mend the YAML"),
        ("level: [a\n", ":2: expected ',' or ']', but got '<stream end>'; mend the YAML"),
        ("level:\n\t- a\n", ":2: found character '\\t' that cannot start any token; mend the YAML"),
        ("a: !!python/object:os.system {}\n", ":1: could not determine a constructor for the tag "
         "'tag:yaml.org,2002:python/object:os.system'; mend the YAML"),
        ("", ": found nothing, expected a level: a mapping of keys"),
        ("- a\n", ": found ['a'], expected a level: a mapping of keys"),
    ],
)  # fmt: skip
def test_yaml_that_cannot_be_read_is_told_with_its_line(
    write_level: WriteLevel, text: str, message: str
) -> None:
    assert error_of(write_level(text)) == f"my_level.yaml{message}"


def test_a_merged_mapping_may_override_keys(write_level: WriteLevel) -> None:
    text = yaml.safe_dump(LEVEL) + (
        "claims:\n"
        "  baseline_refusal: &finding {required: false, why: a finding}\n"
        "  coherence: {<<: *finding, why: another}\n"
    )
    coherence = load_level(write_level(text)).claims["coherence"].model_dump()
    assert (coherence["required"], coherence["why"]) == (False, "another")


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(st.characters(codec="ascii"), max_size=8)
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@example(key=("prompts", "splits"), value={"A": "0"})
@given(key=st.sampled_from(sorted(keys_of(EVERY_KEY), key=str)), value=anything)
def test_whatever_stands_under_a_key_is_read_or_refused_in_one_line(
    key: tuple[str | int, ...], value: Any
) -> None:
    level = copy.deepcopy(EVERY_KEY)
    place: Any = level
    for part in key[:-1]:
        place = place[part]
    place[key[-1]] = value
    try:
        read = validate(LevelConfig, level, "level.yaml")
    except SteeringError as error:
        message = str(error)
        # A value may be refused where another key relies on it: a split that is no longer there.
        assert message.startswith(tuple(f"level.yaml: {name}" for name in (*EVERY_KEY, key[0])))
        assert "\n" not in message
        assert "found" in message or "unknown key" in message
        assert not message.endswith(("expected ", "expected"))
    else:
        json.dumps(read.as_dict())


def test_a_missing_file_suggests_its_neighbour(write_level: WriteLevel) -> None:
    path = write_level(LEVEL, "smoke.yaml").with_name("smok.yaml")
    assert error_of(path) == (
        "smok.yaml: found no readable file (No such file or directory), expected a level in YAML; "
        "check the path; did you mean 'smoke.yaml'?"
    )


def test_a_file_that_is_not_utf8_is_refused(write_level: WriteLevel) -> None:
    path = write_level(LEVEL)
    path.write_bytes(b"level: \xff\n")
    assert error_of(path) == (
        "my_level.yaml: found bytes that are not UTF-8, expected a level in YAML; save it as UTF-8"
    )


# --- prompts of a level ----------------------------------------------------------------------


def write_prompts(folder: Path, split: str, count: int) -> None:
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"id": f"{split}-{i}", "prompt": f"{split} {i}?"}) for i in range(count)]
    (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def test_prompts_are_found_beside_the_level(write_level: WriteLevel, tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts", "harm_train", 3)
    write_prompts(tmp_path / "prompts", "harm_test", 2)
    prompts = load_level(write_level(LEVEL)).load_prompts()
    assert {split: [p.id for p in found] for split, found in prompts.items()} == {
        "harm_train": ["harm_train-0", "harm_train-1", "harm_train-2"],
        "harm_test": ["harm_test-0", "harm_test-1"],
    }
    assert {p.split for p in prompts["harm_test"]} == {"harm_test"}


def test_a_split_may_come_from_another_source(write_level: WriteLevel, tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts", "harm_test", 2)
    folder = tmp_path / "prompts"
    (folder / "advbench.jsonl").write_text('{"goal": "A?"}\n{"goal": "B?"}\n{"goal": "C?"}\n')
    source = {"source": "advbench.jsonl", "columns": {"prompt": "goal"}, "limit": 2}
    data = changed(LEVEL, "prompts.splits.harm_train", source)
    found = load_level(write_level(data)).load_prompts()["harm_train"]
    assert [(p.id, p.text) for p in found] == [("harm_train-1", "A?"), ("harm_train-2", "B?")]


@pytest.mark.parametrize("source", ["harm_tset.tsv", "old/harm.txt", "./harm", "C:\\\\harm"])
def test_a_source_written_as_a_path_is_looked_for_on_no_hub(
    write_level: WriteLevel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", None)
    write_prompts(tmp_path / "prompts", "harm_train", 2)
    path = write_level(changed(LEVEL, "prompts.splits.harm_test", source))
    with pytest.raises(SteeringError) as caught:
        load_level(path).load_prompts()
    file = tmp_path / "prompts" / source
    assert str(caught.value).startswith(
        f"{path}: prompts.splits.harm_test: found {source!r}, expected a prompt file, but there "
        f"is no {file}; check the path"
    )


def test_a_missing_benign_contrast_is_told_with_its_key(
    write_level: WriteLevel, tmp_path: Path
) -> None:
    write_prompts(tmp_path / "prompts", "benign_train", 2)
    path = write_level(changed(LEVEL, "direction.benign_contrast", "benign_trian.jsonl"))
    with pytest.raises(SteeringError) as caught:
        load_level(path).load_benign_contrast(2)
    assert str(caught.value) == (
        f"{path}: direction.benign_contrast: found 'benign_trian.jsonl', expected a prompt file, "
        f"but there is no {tmp_path / 'prompts' / 'benign_trian.jsonl'}; check the path; did you "
        "mean 'benign_train.jsonl'?"
    )


def test_too_few_prompts_are_refused(write_level: WriteLevel, tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts", "harm_train", 2)
    write_prompts(tmp_path / "prompts", "harm_test", 1)
    path = write_level(LEVEL)
    with pytest.raises(SteeringError) as caught:
        load_level(path).load_prompts()
    assert str(caught.value) == (
        f"{path}: prompts.per_split: found 2, expected at most 1, which is what harm_test has; "
        "lower it or add prompts"
    )


# --- finding levels --------------------------------------------------------------------------


def test_levels_are_found_by_name_even_where_they_are_broken(
    write_level: WriteLevel, tmp_path: Path
) -> None:
    one = write_level("level: 'one'\nlayers: [[[\n", "a.yaml")
    two = write_level("level:\nquestion: [[[\n", "two.yaml")
    write_level("level:three\n", "four.yaml")
    (tmp_path / "configs" / "models").mkdir()
    (tmp_path / "configs" / "models" / "m.yaml").write_text("name: m\n", encoding="utf-8")
    assert find_levels(tmp_path) == {"one": one, "two": two, "four": two.with_name("four.yaml")}


def test_a_file_may_end_in_yml(write_level: WriteLevel, tmp_path: Path) -> None:
    path = write_level("level: mine  # and nobody else's\n", "mine.yml")
    assert find_levels(tmp_path) == {"mine": path}


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("my level", "'my level'"),
        ("my-level", "'my-level'"),
        ("2nd", "'2nd'"),
        ("'my level'  # mine", "'my level'"),
        ("[mine", "'[mine'"),
        ("3", "3"),
    ],
)
def test_a_name_that_is_no_markers_is_not_cut(
    write_level: WriteLevel, tmp_path: Path, written: str, found: str
) -> None:
    path = write_level(f"level: {written}\nalphas: [0, 2]\n", "mine.yaml")
    with pytest.raises(SteeringError) as caught:
        find_levels(tmp_path)
    assert str(caught.value) == (
        f"{path}: level: found {found}, expected a marker's name: letters, digits and "
        "underscores; rename it"
    )


def test_a_file_that_is_no_level_may_say_level_of_something_else(
    write_level: WriteLevel, tmp_path: Path
) -> None:
    path = write_level("version: 1\nlevel: 10\nroot: {handlers: [console]}\n", "logging.yaml")
    assert find_levels(tmp_path) == {"logging": path}


def test_a_folder_without_levels_has_none(tmp_path: Path) -> None:
    assert find_levels(tmp_path) == {}


def test_two_files_of_one_level_are_refused(write_level: WriteLevel, tmp_path: Path) -> None:
    first = write_level(LEVEL, "a.yaml")
    second = write_level(LEVEL, "b.yaml")
    with pytest.raises(SteeringError) as caught:
        find_levels(tmp_path)
    assert str(caught.value) == (
        f"{second}: level: found 'my_level' as in {first}, expected each level once; rename one"
    )


# --- the shipped levels ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "run", "layers", "interventions", "alphas", "completions"),
    [
        ("smoke", "smoke_test", [12], ["add"], [0, 2], 120),
        ("layer_test", "layer_comparison", [8, 12, 16], ["add"], [0, 2, 4], 1050),
        ("alpha_sweep", "alpha_sweep", [12], ["add", "ablate"], [0, 1, 2, 4, 8], 2700),
        ("full", "full_embedded", [8, 12, 16], ["add", "ablate"], [0, 1, 2, 4, 8], 12500),
    ],
)
def test_the_shipped_levels_are_the_designs(
    name: str,
    run: str,
    layers: list[int],
    interventions: list[str],
    alphas: list[float],
    completions: int,
) -> None:
    level = load_level(find_levels(EXPERIMENTS)[name])
    assert level.level == name
    assert level.run_name("embedded") == run
    assert level.resolve_layers(30) == layers
    assert level.interventions == interventions
    assert level.alphas == alphas
    prompts = level.load_prompts()
    assert level.grid_splits == ["harm_train", "harm_test", "benign"]
    taken = level.prompts.per_split
    sizes = [len(prompts[split]) if taken == "all" else taken for split in level.grid_splits]
    evaluated = sum(sizes)
    steered = len(layers) * len(interventions) * (len(alphas) - 1)
    assert evaluated * (1 + steered) == completions


def test_every_shipped_claim_says_why_and_writes_its_margins_out() -> None:
    for path in find_levels(EXPERIMENTS).values():
        written = yaml.safe_load(path.read_text(encoding="utf-8"))["claims"]
        for claim, settings_ in load_level(path).claims.items():
            margins = set(type(settings_).model_fields) - {"alphas", "splits", "rank_p"}
            assert margins <= set(written[claim]), (path.name, claim)
            assert settings_.model_dump()["why"]


def test_layer_test_requires_what_the_ladder_needs_and_nothing_else() -> None:
    claims = load_level(CONFIGS / "layer_test.yaml").claims
    required = [name for name, settings_ in claims.items() if settings_.model_dump()["required"]]
    assert required == ["baseline_refusal", "some_layer_steers"]


def test_smaller_levels_see_none_of_the_learning_prompts() -> None:
    for name in ("smoke", "layer_test"):
        level = load_level(CONFIGS / f"{name}.yaml")
        prompts = level.load_prompts()[level.direction.learn_from.split]
        assert isinstance(level.prompts.per_split, int)
        assert level.prompts.per_split <= len(prompts) - level.direction.learn_from.last


# --- model profiles --------------------------------------------------------------------------


@pytest.fixture
def write_profile(tmp_path: Path) -> WriteLevel:
    def write(data: Any, name: str = "mine.yaml") -> Path:
        path = tmp_path / "models" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return path

    return write


def test_a_profile_is_found_by_name_then_by_source(
    write_profile: WriteLevel, tmp_path: Path
) -> None:
    write_profile({"name": "mine", "source": "me/model"}, "a.yaml")
    write_profile({"name": "me/model", "source": "elsewhere", "alpha_unit": 0.5}, "b.yaml")
    assert load_profile("mine", tmp_path).source == "me/model"
    assert load_profile("me/model", tmp_path).source == "elsewhere"
    assert load_profile("elsewhere", tmp_path).alpha_unit == 0.5


@pytest.mark.parametrize(
    ("source", "name"),
    [("org/Model-7B", "Model-7B"), ("/tmp/models/tiny/", "tiny"), ("gpt2", "gpt2")],
)
def test_a_model_without_a_profile_gets_a_default_one(source: str, name: str) -> None:
    assert load_profile(source, None) == ModelProfile(name=name, source=source)


def test_a_folder_named_by_dots_is_called_what_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "tiny" / "below")
    assert load_profile(".").name == "below"
    assert load_profile("../").name == "tiny"


def test_a_default_profile_has_the_documented_defaults() -> None:
    profile = load_profile("org/model", None)
    assert profile.system_prompt is None
    assert profile.chat == "auto"
    assert profile.dtype == "float32"
    assert profile.alpha_unit == 0.125
    assert (profile.slots.cpu, profile.slots.cuda, profile.slots.mps) == (128, 256, 64)
    assert not set(profile.refusal_openings) & set(profile.compliance_openings)


def test_slots_go_by_the_kind_of_device() -> None:
    slots = ModelProfile.model_validate(
        {"name": "a", "source": "b", "slots": {"cpu": 1, "cuda": 2, "mps": 3}}
    ).slots
    assert [slots.on(d) for d in ("cpu", "cuda:1", "cuda", "mps", "xpu")] == [1, 2, 2, 3, 1]


@pytest.mark.parametrize("name", ["embedded", "gpt2-medium", "llama-3.1-8b-instruct"])
def test_the_shipped_profiles_load_by_name_and_by_source(name: str) -> None:
    profile = load_profile(name, CONFIGS)
    assert profile.name == name
    assert load_profile(profile.source, CONFIGS) == profile


def test_the_embedded_model_is_the_same_without_the_experiments_folder(tmp_path: Path) -> None:
    assert load_profile("embedded", tmp_path) == load_profile("embedded", CONFIGS)
    assert load_profile("embedded", CONFIGS).system_prompt is not None


def test_a_mistake_in_another_profile_stops_nobody(
    write_profile: WriteLevel, tmp_path: Path
) -> None:
    write_profile({"nam": "broken"}, "broken.yaml")
    write_profile({"name": "mine", "source": "me/model"})
    assert load_profile("mine", tmp_path).source == "me/model"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("chat", "on", "chat: found 'on', expected one of auto, template, plain"),
        ("dtype", "fp16", "dtype: found 'fp16', expected one of float32, bfloat16, float16"),
        ("alpha_unit", 0, "alpha_unit: found 0, expected a number above 0 and at most 1"),
        ("slots", {"gpu": 1}, "slots: 'gpu': unknown key; did you mean 'cpu'?"),
        ("slots", {"cpu": 0}, "slots.cpu: found 0, expected a whole number of at least 1"),
        (
            "plain_template",
            "Q: {question}",
            "plain_template: found 'Q: {question}', expected text with {prompt} in it once and no "
            "other braces",
        ),
        (
            "plain_template",
            "{prompt} {",
            "plain_template: found '{prompt} {', expected text with {prompt} in it once and no "
            "other braces",
        ),
        (
            "refusal_openings",
            [],
            "refusal_openings: found [], expected a list that is not empty",
        ),
        (
            "refusal_openings",
            ["No", ""],
            "refusal_openings[1]: found '', expected text that is not empty",
        ),
        ("system_promt", "x", "'system_promt': unknown key; did you mean 'system_prompt'?"),
    ],
)
def test_a_wrong_profile_is_told_in_one_line(
    write_profile: WriteLevel, tmp_path: Path, key: str, value: Any, message: str
) -> None:
    path = write_profile({"name": "mine", "source": "me/model", key: value})
    with pytest.raises(SteeringError) as caught:
        load_profile("mine", tmp_path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_plain_profile_has_no_system_prompt(write_profile: WriteLevel, tmp_path: Path) -> None:
    data = {"name": "mine", "source": "me/model", "chat": "plain", "system_prompt": "Be good."}
    path = write_profile(data)
    with pytest.raises(SteeringError) as caught:
        load_profile("mine", tmp_path)
    assert str(caught.value) == (
        f"{path}: system_prompt: found 'Be good.', expected none with chat: plain; write it into "
        "plain_template"
    )


# --- import ----------------------------------------------------------------------------------


def test_importing_the_configuration_brings_no_heavy_library() -> None:
    heavy = "{'torch', 'numpy', 'pandas', 'datasets', 'matplotlib', 'transformers', 'pytest'}"
    code = f"import sys, steering_reliability.config; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.strip() == "[]"


def test_a_level_can_be_made_in_python() -> None:
    level = LevelConfig.model_validate(LEVEL)
    assert level.path is None
    with pytest.raises(SteeringError, match=r"^my_level: layers: found 12, expected a layer"):
        level.resolve_layers(2)


def test_only_random_directions_control_an_ablation(write_level: WriteLevel) -> None:
    ablates = LEVEL | {"interventions": ["ablate"]}
    controls = {"shuffled": 1, "ablate_alphas": [2]}
    assert error_of(write_level(ablates | {"controls": controls})) == (
        "my_level.yaml: controls.random: found 0, expected 1 or more with ablate_alphas, which "
        "only random directions control"
    )
    level = load_level(write_level(ablates | {"controls": controls | {"random": 2}}))
    assert level.controls.names_at("ablate", 2) == ["random-1", "random-2"]
    assert level.controls.names_at("ablate", 1) == []


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        ({"pairs": [{"refusal": "No.", "compliance": "Yes."}]}, "pairs"),
        ({"learn_from": {"split": "harm_train", "last": 64}}, "learn_from"),
        ({"at": "response", "method": "contrastive_prefix"}, "at, method"),
        ({"benign_contrast": "benign_train.jsonl"}, "benign_contrast"),
    ],
)
def test_a_saved_direction_is_not_learned(
    write_level: WriteLevel, beside: dict[str, Any], named: str
) -> None:
    path = write_level(LEVEL | {"direction": {"file": "layer{layer}.safetensors", **beside}})
    assert error_of(path) == (
        f"my_level.yaml: direction.file: found beside {named}, expected without, since a saved "
        "direction is not learned; leave out the one or the other"
    )


def test_what_a_manifest_says_of_a_saved_direction_is_read_again(write_level: WriteLevel) -> None:
    level = load_level(write_level(LEVEL | {"direction": {"file": "layer{layer}.safetensors"}}))
    assert LevelConfig.model_validate(level.as_dict()).direction == level.direction


def test_a_saved_direction_asks_for_learning_prompts_only_where_they_are_read(
    write_level: WriteLevel,
) -> None:
    prompts = {"per_split": 1, "splits": {"harm_test": "harm_test.jsonl"}}
    level = LEVEL | {"direction": {"file": "d.safetensors"}, "prompts": prompts}
    assert load_level(write_level(level)).direction.file == "d.safetensors"
    level |= {"claims": {"direction_is_real": {}}}
    assert "direction.learn_from.split: found 'harm_train', expected a split" in error_of(
        write_level(level)
    )
    level["direction"] = level["direction"] | {"learn_from": {"split": "harm_test"}}
    assert load_level(write_level(level)).direction.learn_from.split == "harm_test"


@pytest.mark.parametrize("file", ["nope{lyr}.safetensors", "{layer}-{}.safetensors", "a}"])
def test_only_the_layer_is_filled_in(write_level: WriteLevel, file: str) -> None:
    assert error_of(write_level(LEVEL | {"direction": {"file": file}})) == (
        f"my_level.yaml: direction.file: found {file!r}, expected a file's name; only {{layer}} "
        "may stand in braces"
    )


def test_the_alpha_that_ablation_is_claimed_of_is_one_of_the_levels(
    write_level: WriteLevel,
) -> None:
    claims = {"interventions": ["ablate"], "alphas": [0, 2], "claims": {"ablation_effect": {}}}
    assert error_of(write_level(LEVEL | claims)) == (
        "my_level.yaml: claims.ablation_effect.alpha: found 1, expected an alpha of this level: "
        "0, 2"
    )
