"""Learning directions, their controls, their files and their cache, on tiny random models."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from steering_reliability.directions.cache import cached_contrasts, cached_directions
from steering_reliability.directions.contrastive import (
    DEFAULT_PAIRS,
    Contrasts,
    collect_contrasts,
    learn_direction,
    learn_directions,
)
from steering_reliability.directions.controls import build_controls, half_signs
from steering_reliability.directions.diagnostics import cosine, diagnose, pair_agreement
from steering_reliability.directions.direction import NULL_GUARD, Direction
from steering_reliability.directions.formats import (
    FORMAT,
    check_direction,
    load_direction,
    save_direction,
)
from steering_reliability.errors import SteeringError
from steering_reliability.models.loaded import LoadedModel, load_model
from steering_reliability.models.sources import read_facts
from steering_reliability.prompts import Prompt
from tests.tiny_models import D_MODEL, FAMILIES, N_LAYERS, load_tiny, tiny_model_folder

PROMPTS = [
    Prompt(id=f"p{number}", text=text, split="harm_train")
    for number, text in enumerate(["Pick a lock.", "How do I forge a stamp?", "x", "Übel tun?"])
]
PAIRS = [("No, I won't.", "Yes: here"), ("I must decline that", "Sure, gladly")]
EVERY_LAYER = list(range(N_LAYERS))


def slow_reference(
    model: LoadedModel, prompts: list[Prompt], pairs: list[tuple[str, str]], layer: int
) -> tuple[torch.Tensor, float]:
    """Raw direction and median norm from whole forward passes: no cache, no batch, no hooks."""
    differences, norms = [], []
    for prompt in prompts:
        for pair in pairs:
            means = []
            for text in pair:
                ids = model.encode(prompt.text)
                response = model.format.encode_response(text)
                with torch.no_grad():
                    output = model.hf_model(
                        torch.tensor([ids + response]), output_hidden_states=True, use_cache=False
                    )
                residual = output.hidden_states[layer + 1][0, len(ids) :].double()
                assert len(residual) == len(response)
                norms.append(residual.norm(dim=-1))
                means.append(residual.mean(dim=0))
            differences.append(means[0] - means[1])
    return torch.stack(differences).mean(dim=0), float(torch.cat(norms).median())


def some_contrasts(differences: torch.Tensor, residual_norm: float = 1.0) -> Contrasts:
    return Contrasts(
        layer=2,
        differences=differences,
        residual_norm=residual_norm,
        at="response",
        prompt_ids=tuple(f"p{i}" for i in range(len(differences))),
        prompts_hash="0" * 64,
        pairs=tuple(PAIRS[:1] * differences.shape[1]),
        model_fingerprint="f" * 16,
        template_hash="t" * 16,
        versions={"method": "1"},
    )


def some_direction(seed: int = 0, **changes: Any) -> Direction:
    vector = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed))
    values: dict[str, Any] = {
        "layer": 1,
        "raw_norm": 0.5,
        "residual_norm": 3.0,
        "prompt_ids": ("a", "b"),
    }
    values |= {"pairs": (("no", "yes"),), "versions": {"method": "1"}, **changes}
    return Direction(vector=vector / vector.norm(), **values)


@contextmanager
def calls(modules: dict[str, Any]) -> Iterator[dict[str, int]]:
    """Counts tokens (rows × positions) that each module computes meanwhile."""
    counts = dict.fromkeys(modules, 0)

    def hook(name: str) -> Any:
        def count(_module: Any, _inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            counts[name] += tensor.shape[0] * tensor.shape[1]

        return count

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


# Learning


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_direction_equals_that_of_whole_forward_passes(family: str, chat: bool) -> None:
    model = load_tiny(family, chat)
    # hidden_states ends with the final norm's output: the last block is not among them.
    layers = EVERY_LAYER[:-1]
    learned = learn_directions(model, PROMPTS, layers, pairs=PAIRS)
    for layer in layers:
        raw, residual_norm = slow_reference(model, PROMPTS, PAIRS, layer)
        direction = learned[layer]
        assert direction.raw_norm == pytest.approx(float(raw.norm()), rel=1e-4)
        assert direction.residual_norm == pytest.approx(residual_norm, rel=1e-4)
        assert (direction.vector - raw / raw.norm()).norm() < 1e-4
        assert direction.site == f"blocks.{layer}.hook_out"


def test_the_last_layer_is_read_before_the_final_norm() -> None:
    model = load_tiny("llama")
    direction = learn_direction(model, PROMPTS[:1], N_LAYERS - 1, pairs=PAIRS[:1])
    kept = []
    handle = model.blocks[-1].register_forward_hook(lambda _m, _i, output: kept.append(output))
    means = []
    for text in PAIRS[0]:
        ids, response = model.encode(PROMPTS[0].text), model.format.encode_response(text)
        with torch.no_grad():
            model.hf_model(torch.tensor([ids + response]), use_cache=False)
        means.append(kept[-1][0, len(ids) :].mean(dim=0))
    handle.remove()
    expected = means[0] - means[1]
    assert (direction.vector - expected / expected.norm()).norm() < 1e-4


def test_at_least_four_default_pairs_in_different_words() -> None:
    assert len(DEFAULT_PAIRS) >= 4
    assert ("I can't help with that.", "Sure, here's how:") in DEFAULT_PAIRS
    texts = [text for pair in DEFAULT_PAIRS for text in pair]
    assert len(set(texts)) == len(texts)
    direction = learn_direction(load_tiny(), PROMPTS[:2], 1)
    assert direction.pairs == DEFAULT_PAIRS
    assert direction.prompt_ids == ("p0", "p1")
    assert set(direction.versions) == {"method", "torch", "transformers"}


@pytest.mark.parametrize("family", FAMILIES)
def test_at_the_last_prompt_token_there_is_nothing_to_learn(family: str) -> None:
    model = load_tiny(family)
    contrasts = collect_contrasts(model, PROMPTS, EVERY_LAYER, pairs=PAIRS, at="last_prompt")
    for contrast in contrasts.values():
        assert contrast.differences.abs().max() < 1e-6 * contrast.residual_norm
    with pytest.raises(
        SteeringError, match="cannot depend on a prefix that comes after it"
    ) as info:
        learn_direction(model, PROMPTS, 2, pairs=PAIRS, at="last_prompt")
    assert "\n" not in str(info.value)
    assert f"{NULL_GUARD:g} of the median residual norm" in str(info.value)


def test_the_last_prompt_token_is_measured_not_assumed() -> None:
    model = load_tiny("gpt2")

    def look_ahead(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output + output.mean(dim=1, keepdim=True)

    handle = model.blocks[0].register_forward_hook(look_ahead)
    try:
        contrasts = collect_contrasts(model, PROMPTS, [1], pairs=PAIRS, at="last_prompt")[1]
    finally:
        handle.remove()
    assert contrasts.differences.abs().max() > 1e-2 * contrasts.residual_norm


def test_prefixes_that_say_the_same_are_refused() -> None:
    with pytest.raises(SteeringError, match="pairs that differ in meaning"):
        learn_direction(load_tiny(), PROMPTS, 1, pairs=[("the same", "the same")])


@given(
    share=st.floats(1e-9, 1e3).filter(lambda x: abs(x / NULL_GUARD - 1) > 1e-3),
    residual_norm=st.floats(1e-2, 1e4),
)
def test_the_null_guard_is_relative_to_the_residual_norm(
    share: float, residual_norm: float
) -> None:
    differences = torch.zeros(2, 1, 8)
    differences[:, :, 3] = share * residual_norm
    contrasts = some_contrasts(differences, residual_norm)
    if share < NULL_GUARD:
        with pytest.raises(SteeringError, match="rounding noise"):
            contrasts.direction()
    else:
        direction = contrasts.direction()
        assert direction.vector.tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
        assert direction.raw_norm == pytest.approx(share * residual_norm)


def test_activations_that_are_not_finite_are_refused() -> None:
    differences = torch.full((2, 1, 8), math.nan)
    with pytest.raises(SteeringError, match="raw norm nan"):
        some_contrasts(differences).direction()


def test_nothing_after_the_deepest_layer_runs_and_prompts_run_once() -> None:
    model = load_tiny("llama")
    modules = {f"block{i}": block for i, block in enumerate(model.blocks)}
    modules["lm_head"] = model.hf_model.lm_head
    with calls(modules) as counts:
        learn_directions(model, PROMPTS, [0, 1], pairs=PAIRS)
    encoded = [model.encode(prompt.text) for prompt in PROMPTS]
    # They part where the request begins.
    shared = next(i for i, tokens in enumerate(zip(*encoded, strict=False)) if len(set(tokens)) > 1)
    assert shared > 0
    own = len(PROMPTS) * (max(map(len, encoded)) - shared)
    prefixes = [len(model.format.encode_response(text)) for pair in PAIRS for text in pair]
    continued = counts["block0"] - shared - own
    # Padded to the longest of like length.
    assert sum(prefixes) <= continued / len(PROMPTS) <= len(prefixes) * max(prefixes)
    # The reader's hook, which ends the pass, comes before this test's at the deepest layer.
    assert {name for name, count in counts.items() if count} <= {"block0", "block1"}


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(PROMPTS))
def test_the_order_of_prompts_changes_nothing(order: list[Prompt]) -> None:
    model = load_tiny("qwen")
    assert (
        learn_direction(model, order, 2, pairs=PAIRS).hash
        == learn_direction(model, PROMPTS, 2, pairs=PAIRS).hash
    )


def test_layers_learned_together_equal_layers_learned_alone() -> None:
    model = load_tiny("mistral")
    together = learn_directions(model, PROMPTS, [3, 0, 2], pairs=PAIRS)
    assert list(together) == [0, 2, 3]
    for layer, direction in together.items():
        assert direction.hash == learn_direction(model, PROMPTS, layer, pairs=PAIRS).hash


def test_a_bfloat16_model_is_read_in_float32_and_left_as_it_was(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model", "gemma")
    narrow = load_model(str(folder), device="cpu", dtype="bfloat16")
    before = {name: tensor.clone() for name, tensor in narrow.hf_model.state_dict().items()}
    found = learn_direction(narrow, PROMPTS, 2, pairs=PAIRS)
    after = narrow.hf_model.state_dict()
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())

    wide = load_model(str(folder), device="cpu", dtype="bfloat16")
    wide.hf_model.float()
    expected = learn_direction(wide, PROMPTS, 2, pairs=PAIRS)
    assert (found.vector - expected.vector).norm() < 1e-5
    assert found.vector.dtype == torch.float32
    with pytest.raises(SteeringError, match="cannot depend on a prefix"):
        learn_direction(narrow, PROMPTS, 2, pairs=PAIRS, at="last_prompt")


def test_the_model_keeps_no_hook_even_after_an_error() -> None:
    model = load_tiny("gpt_neox")
    too_long = Prompt(id="long", text="word " * 300)
    with pytest.raises(SteeringError, match=r"prompt 'long': found 15\d\d tokens"):
        learn_direction(model, [*PROMPTS, too_long], 1, pairs=PAIRS)
    assert all(not block._forward_hooks for block in model.blocks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": []}, "prompts: found none"),
        ({"layers": []}, "layers: found none"),
        ({"layers": [N_LAYERS]}, f"layer: found {N_LAYERS}, expected 0 to {N_LAYERS - 1}"),
        ({"layers": [-1]}, "layer: found -1"),
        ({"at": "first"}, "at: found 'first', expected one of response, last_prompt"),
        ({"pairs": []}, "pairs: found none"),
        ({"pairs": [("No.", " ")]}, "pair 1: found"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_line(
    changes: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"prompts": PROMPTS, "layers": [1], "pairs": PAIRS, **changes}
    with pytest.raises(SteeringError, match=message) as info:
        collect_contrasts(load_tiny(), **arguments)
    assert "\n" not in str(info.value)


# Diagnostics


def test_pair_agreement_is_the_mean_cosine_between_pairs() -> None:
    x, y = torch.eye(4)[:2]
    differences = torch.stack([torch.stack([x, y, x + y]), torch.stack([x, y, x + y])])
    assert pair_agreement(differences) == pytest.approx((0 + 2 * math.sqrt(0.5)) / 3)
    assert math.isnan(pair_agreement(differences[:, :1]))


def test_diagnostics_of_differences_worked_out_by_hand() -> None:
    # Two pairs at a right angle, the same for every prompt: a pair's own direction says nothing
    # of the other, the prompts agree wholly.
    apart = torch.zeros(6, 2, 3)
    apart[:, 0, 0] = 1
    apart[:, 1, 1] = 2
    found = diagnose(apart)
    assert found["pair_cosine_min"] == found["pair_cosine_max"] == 0
    assert found["prompt_agreement"] == pytest.approx(1)
    assert found["split_half_low"] == pytest.approx(1)
    assert (found["left_out_prompts"], found["left_out_pairs"]) == (1, 0)


def test_diagnostics_tell_noise_from_a_shared_direction() -> None:
    random = torch.Generator().manual_seed(7)
    noise = torch.randn(40, 6, 200, generator=random)
    found = diagnose(noise)
    for name in ("prompt_agreement", "split_half_median"):
        assert abs(found[name]) < 0.2, name
    for name in ("left_out_prompts", "left_out_pairs"):
        assert abs(found[name] - 0.5) < 0.15, name
    shared = diagnose(noise + 3 * torch.ones(200))
    assert shared["pair_cosine_min"] > 0.9
    assert shared["split_half_low"] > 0.9
    assert shared["left_out_prompts"] == shared["left_out_pairs"] == 1
    assert diagnose(noise) == found


def test_diagnostics_of_one_prompt_and_one_pair_compare_nothing() -> None:
    assert all(math.isnan(value) for value in diagnose(torch.ones(1, 1, 4)).values())


def test_pair_agreement_of_a_learned_direction() -> None:
    model = load_tiny()
    contrasts = collect_contrasts(model, PROMPTS, [2], pairs=PAIRS)[2]
    single = [learn_direction(model, PROMPTS, 2, pairs=[pair]) for pair in PAIRS]
    expected = cosine(single[0].vector, single[1].vector)
    assert contrasts.direction().pair_agreement == pytest.approx(expected, abs=1e-5)
    assert math.isnan(single[0].pair_agreement)


# Controls

NAMES = ("random-1", "random-2", "shuffled-1", "shuffled-2", "reversed")


@given(n_prompts=st.integers(1, 40), n_pairs=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_exactly_half_of_the_signs_are_flipped(n_prompts: int, n_pairs: int, seed: int) -> None:
    import numpy as np

    signs = half_signs(n_prompts, n_pairs, np.random.default_rng(seed))
    assert set(signs.flatten().tolist()) <= {1.0, -1.0}
    assert int(signs.sum()) == (n_prompts * n_pairs) % 2
    assert signs.sum(dim=0).abs().max() <= n_prompts % 2


@pytest.fixture(scope="module")
def contrasts() -> Contrasts:
    return collect_contrasts(load_tiny(), PROMPTS, [2], pairs=PAIRS)[2]


def test_controls_share_the_norms_of_the_learned_direction(contrasts: Contrasts) -> None:
    direction = contrasts.direction()
    controls = build_controls(direction, NAMES, contrasts)
    assert tuple(controls) == NAMES
    for name, control in controls.items():
        assert float(control.vector.norm()) == pytest.approx(1, abs=1e-6)
        assert control.vector.dtype == torch.float32
        assert control.residual_norm == direction.residual_norm
        assert control.layer == direction.layer
        assert control.method == name.split("-")[0]
        expected = cosine(control.vector, direction.vector)
        assert control.cosine_with_learned == pytest.approx(expected, abs=1e-6)
    assert len({control.hash for control in controls.values()} | {direction.hash}) == 6
    assert torch.equal(controls["reversed"].vector, -direction.vector)
    assert direction.cosine_with_learned == 1


def test_a_control_depends_on_its_name_seed_and_layer_only(contrasts: Contrasts) -> None:
    direction = contrasts.direction()
    everything = build_controls(direction, NAMES, contrasts, seed=5)
    for name in NAMES:
        assert build_controls(direction, [name], contrasts, seed=5)[name].hash == (
            everything[name].hash
        )
    for name in NAMES[:3]:
        other_seed = build_controls(direction, [name], contrasts, seed=6)[name]
        assert other_seed.hash != everything[name].hash
    other_layer = build_controls(replace(direction, layer=3), ["random-1"], seed=5)["random-1"]
    assert not torch.equal(other_layer.vector, everything["random-1"].vector)


def test_random_controls_are_spread_over_all_directions() -> None:
    direction = some_direction()
    controls = build_controls(direction, [f"random-{i}" for i in range(1, 401)])
    vectors = torch.stack([control.vector for control in controls.values()])
    # Mean and covariance of a uniform direction are 0 and 1/d.
    assert vectors.mean(dim=0).norm() < 2 / math.sqrt(len(vectors))
    assert (vectors.T @ vectors / len(vectors) - torch.eye(D_MODEL) / D_MODEL).abs().max() < 0.02


def test_shuffling_removes_what_all_prompts_share() -> None:
    generator = torch.Generator().manual_seed(1)
    shared = torch.randn(1, 3, 64, generator=generator)
    own = 0.1 * torch.randn(32, 3, 64, generator=generator)
    contrasts = some_contrasts(shared + own)
    direction = contrasts.direction()
    controls = build_controls(direction, [f"shuffled-{i}" for i in range(1, 21)], contrasts)
    assert all(abs(control.cosine_with_learned) < 0.5 for control in controls.values())
    assert all(control.raw_norm < 0.1 * direction.raw_norm for control in controls.values())


@pytest.mark.parametrize("name", ["random", "random-0", "random-01", "shuffled", "learned", ""])
def test_an_unknown_control_is_named(name: str, contrasts: Contrasts) -> None:
    with pytest.raises(SteeringError, match=f"control: found '{name}', expected"):
        build_controls(contrasts.direction(), [name], contrasts)


def test_a_shuffled_control_needs_the_contrasts(contrasts: Contrasts) -> None:
    direction = contrasts.direction()
    with pytest.raises(SteeringError, match="contrasts: found none"):
        build_controls(direction, ["shuffled-1"])
    with pytest.raises(SteeringError, match="contrasts: found those of layer 1"):
        build_controls(direction, ["shuffled-1"], replace(contrasts, layer=1))
    alone = some_contrasts(torch.ones(1, 4, 8))
    with pytest.raises(SteeringError, match="found one prompt"):
        build_controls(alone.direction(), ["shuffled-1"], alone)
    same = some_contrasts(torch.ones(4, 1, 8))
    with pytest.raises(SteeringError, match="found all the same"):
        build_controls(same.direction(), ["shuffled-1"], same)


# The data class and its files


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"vector": torch.ones(8)}, "vector"),
        ({"vector": torch.zeros(8)}, "vector"),
        ({"vector": torch.full((8,), math.nan)}, "vector"),
        ({"vector": torch.eye(8)[0].double()}, "vector"),
        ({"vector": torch.eye(8)[:1]}, "vector"),
        ({"raw_norm": 0.0}, "raw_norm"),
        ({"residual_norm": math.inf}, "residual_norm"),
        ({"residual_norm": math.nan}, "residual_norm"),
    ],
)
def test_a_direction_is_a_finite_unit_vector(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(SteeringError, match=f"direction: key '{key}': found"):
        replace(some_direction(), **changes)


def test_the_hash_is_that_of_what_steering_depends_on() -> None:
    direction = some_direction()
    assert direction.hash == some_direction().hash
    assert len(direction.hash) == 16
    assert int(direction.hash, 16) >= 0
    # Fixed: stored completions are found again by it.
    assert replace(direction, vector=torch.eye(4)[0]).hash == "2c408f05179036a1"
    assert replace(direction, method="random", prompt_ids=()).hash == direction.hash
    for changes in ({"layer": 2}, {"residual_norm": 3.5}, {"vector": -direction.vector}):
        assert replace(direction, **changes).hash != direction.hash


finite = st.floats(1e-3, 1e6)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    layer=st.integers(0, 99),
    residual_norm=finite,
    share=st.floats(2 * NULL_GUARD, 10),
    agreement=st.one_of(st.just(math.nan), st.floats(-1, 1)),
    pairs=st.lists(st.tuples(texts, texts), max_size=4).map(tuple),
    ids=st.lists(texts, max_size=4).map(tuple),
)
def test_a_saved_direction_comes_back_whole(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    layer: int,
    residual_norm: float,
    share: float,
    agreement: float,
    pairs: tuple[tuple[str, str], ...],
    ids: tuple[str, ...],
) -> None:
    direction = some_direction(
        seed,
        layer=layer,
        residual_norm=residual_norm,
        raw_norm=share * residual_norm,
        pair_agreement=agreement,
        pairs=pairs,
        prompt_ids=ids,
        model_fingerprint="f" * 16,
        template_hash="t" * 16,
        prompts_hash="p" * 64,
    )
    path = tmp_path_factory.mktemp("saved") / "direction.safetensors"
    save_direction(direction, path)
    loaded = load_direction(path)
    assert torch.equal(loaded.vector, direction.vector)
    assert loaded.describe() == direction.describe()
    assert loaded.hash == direction.hash
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_learned_direction_is_accepted_by_its_own_model(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model", "llama")
    model = load_model(str(folder), device="cpu")
    direction = learn_direction(model, PROMPTS, 2, pairs=PAIRS)
    path = tmp_path / "new" / "direction.safetensors"
    save_direction(direction, path)
    assert load_direction(path, model, layer=2).hash == direction.hash
    assert load_direction(path, read_facts(str(folder))).hash == direction.hash
    first = path.read_bytes()
    save_direction(learn_direction(model, PROMPTS, 2, pairs=PAIRS), path)
    assert path.read_bytes() == first
    assert str(tmp_path).encode() not in first


def test_controls_are_saved_and_loaded_too(tmp_path: Path, contrasts: Contrasts) -> None:
    for name, control in build_controls(contrasts.direction(), NAMES, contrasts).items():
        save_direction(control, tmp_path / name)
        loaded = load_direction(tmp_path / name, load_tiny())
        assert loaded.describe() == control.describe()
    faint = replace(contrasts.direction(), method="shuffled", raw_norm=1e-9)
    save_direction(faint, tmp_path / "faint")
    assert load_direction(tmp_path / "faint").hash == faint.hash


def test_a_direction_of_another_model_or_width_or_layer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "direction.safetensors"
    llama, gpt2 = load_tiny("llama"), load_tiny("gpt2")
    save_direction(some_direction(model_fingerprint=llama.fingerprint), path)
    facts = read_facts("embedded")
    refused: dict[str, Any] = {
        f"key 'model_fingerprint': found {llama.fingerprint}, expected {gpt2.fingerprint}": gpt2,
        f"key 'vector': found width {D_MODEL}, expected 576": facts,
        "key 'layer': found 1, expected 0 to 0": replace(facts, n_layers=1, d_model=D_MODEL),
    }
    for message, model in refused.items():
        with pytest.raises(SteeringError) as info:
            load_direction(path, model)
        assert str(info.value).startswith(f"{path}: {message}")
        assert "\n" not in str(info.value)
    with pytest.raises(SteeringError, match="key 'layer': found 1, expected 2"):
        load_direction(path, layer=2)


def write_raw(path: Path, vector: torch.Tensor, **changes: Any) -> None:
    described = {"version": 1, **some_direction().describe(), **changes}
    save_file({"vector": vector}, path, {FORMAT: json.dumps(described)})


UNIT = torch.eye(D_MODEL)[0]


@pytest.mark.parametrize(
    ("vector", "changes", "message"),
    [
        (torch.zeros(D_MODEL), {}, "key 'vector': found a vector of norm 0"),
        (torch.full((D_MODEL,), math.nan), {}, "key 'vector': found a vector of norm nan"),
        (2 * UNIT, {}, "key 'vector': found a vector of norm 2"),
        (UNIT.double(), {}, "key 'vector': found F64"),
        (UNIT[None], {}, "key 'vector': found F32 "),
        (UNIT, {"raw_norm": 1e-4}, "key 'raw_norm': found 0.0001, expected at least 0.001 of"),
        (UNIT, {"raw_norm": math.nan}, "key 'raw_norm': found nan"),
        (UNIT, {"raw_norm": "big"}, "key 'raw_norm': found big, expected a number"),
        (UNIT, {"residual_norm": -1.0}, "key 'residual_norm': found -1.0"),
        (UNIT, {"layer": True}, "key 'layer': found True"),
        (UNIT, {"site": "blocks.7.hook_in"}, "key 'site': found blocks.7.hook_in"),
        (UNIT, {"version": 2}, "key 'version': found 2, expected 1"),
        (UNIT, {"pairs": ["a"]}, "not enough values"),
    ],
)
def test_a_file_that_says_nonsense_is_refused(
    tmp_path: Path, vector: torch.Tensor, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "direction.safetensors"
    write_raw(path, vector, **changes)
    with pytest.raises(SteeringError) as info:
        load_direction(path)
    assert str(info.value).startswith(str(path))
    assert message in str(info.value)
    assert "\n" not in str(info.value)


def test_a_file_that_is_no_direction_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "direction.safetensors"
    with pytest.raises(SteeringError, match="no such file"):
        load_direction(path)
    for content in (b"", b"not a tensor", struct.pack("<Q", 2**60) + b"{}"):
        path.write_bytes(content)
        with pytest.raises(SteeringError, match="not readable"):
            load_direction(path)
    save_file({"vector": UNIT}, path)
    with pytest.raises(SteeringError, match="found no metadata, expected a safetensors file"):
        load_direction(path)
    save_file({"vector": UNIT}, path, {FORMAT: "{"})
    with pytest.raises(SteeringError, match="found no JSON"):
        load_direction(path)
    save_file({"other": UNIT}, path, {FORMAT: json.dumps({"version": 1})})
    with pytest.raises(SteeringError, match="key 'layer': found nothing"):
        load_direction(path)


def test_a_failed_save_leaves_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "direction.safetensors"
    save_direction(some_direction(0), path)
    before = path.read_bytes()

    def full_disk(_handle: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(SteeringError, match="no space"):
        save_direction(some_direction(1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_header_is_checked_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "direction.safetensors"
    save_direction(some_direction(), path)
    assert check_direction(path)["layer"] == 1
    code = (
        "import sys; from steering_reliability.directions import check_direction; "
        f"check_direction({str(path)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The cache


def test_cached_directions_equal_learned_ones_and_are_learned_once(tmp_path: Path) -> None:
    model = load_tiny("gemma")
    learned = learn_directions(model, PROMPTS, [1, 2], pairs=PAIRS)
    with calls({"block0": model.blocks[0]}) as counts:
        first = cached_directions(tmp_path, model, PROMPTS, [2], pairs=PAIRS)
        once = counts["block0"]
        assert once > 0
        again = cached_directions(tmp_path, model, PROMPTS[::-1], [2], pairs=PAIRS)
        assert counts["block0"] == once
        more = cached_directions(tmp_path, model, PROMPTS, [2, 1], pairs=PAIRS)
        assert counts["block0"] == 2 * once
    assert first[2].describe() == again[2].describe() == learned[2].describe()
    assert {layer: direction.hash for layer, direction in more.items()} == {
        layer: direction.hash for layer, direction in learned.items()
    }


def test_cached_contrasts_give_the_same_controls(tmp_path: Path) -> None:
    model = load_tiny()
    made = cached_contrasts(tmp_path, model, PROMPTS, [2], pairs=PAIRS)[2]
    read = cached_contrasts(tmp_path, model, PROMPTS, [2], pairs=PAIRS)[2]
    assert read is not made
    left = build_controls(made.direction(), NAMES, made)
    right = build_controls(read.direction(), NAMES, read)
    assert {n: c.hash for n, c in left.items()} == {n: c.hash for n, c in right.items()}


def test_whatever_changes_the_result_is_cached_apart(tmp_path: Path) -> None:
    def cache(model: LoadedModel, **changes: Any) -> int:
        arguments: dict[str, Any] = {"prompts": PROMPTS, "layers": [1], "pairs": PAIRS, **changes}
        cached_contrasts(tmp_path, model, **arguments)
        return len(list(tmp_path.glob("*.safetensors")))

    model = load_tiny()
    assert cache(model) == 1
    assert cache(model) == 1
    assert cache(model, pairs=PAIRS[:1]) == 2
    assert cache(model, prompts=PROMPTS[:3]) == 3
    assert cache(model, prompts=[replace(PROMPTS[0], text="Else."), *PROMPTS[1:]]) == 4
    assert cache(model, at="last_prompt") == 5
    assert cache(load_tiny("gpt2")) == 6
    system = model.profile.model_copy(update={"system_prompt": "Be brief."})
    assert cache(LoadedModel(model.hf_model, model.tokenizer, system)) == 7


def test_a_broken_cache_file_is_made_anew(tmp_path: Path) -> None:
    model = load_tiny()
    first = cached_directions(tmp_path, model, PROMPTS, [1], pairs=PAIRS)[1]
    (path,) = tmp_path.glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert cached_directions(tmp_path, model, PROMPTS, [1], pairs=PAIRS)[1].hash == first.hash
    assert path.read_bytes() == whole


def test_the_cache_refuses_the_last_prompt_token_every_time(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(SteeringError, match="cannot depend on a prefix"):
            cached_directions(tmp_path, load_tiny(), PROMPTS, [1], pairs=PAIRS, at="last_prompt")


# The helper itself


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_models_are_the_same_every_time(family: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    folder = tiny_model_folder(tmp_path, family)
    assert torch.equal(torch.rand(1), expected)
    model = load_model(str(folder), device="cpu")
    assert model.fingerprint == load_tiny(family).fingerprint
    assert (model.n_layers, model.d_model) == (N_LAYERS, D_MODEL)
    text = "Grüße, 世界!"
    assert model.tokenizer.decode(model.format.encode_response(text)) == text
