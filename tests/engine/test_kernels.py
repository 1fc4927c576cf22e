"""Compiled code for decoding: right, and the same for a row whatever stands beside it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numba import cfunc

from steering_reliability.engine import compiled, logit_kernels
from steering_reliability.engine.attention import KEY_STEP, Seen, slot_attention, slot_attention_in
from steering_reliability.engine.block_kernels import gated, rotated
from steering_reliability.engine.cache import SlotCache
from steering_reliability.engine.kernels import attention_over_own_keys, write_tokens
from steering_reliability.engine.logit_kernels import log_masses, places_of_greatest
from steering_reliability.engine.measures import RowMeasures
from steering_reliability.engine.openmp import has_threads
from steering_reliability.engine.requests import GenerationSettings
from steering_reliability.prompts import Prompt
from tests.engine.reference import BASELINE, STEERED, plan, run
from tests.tiny_models import FAMILIES, load_tiny

pytestmark = pytest.mark.skipif(
    not has_threads(torch.device("cpu")), reason="torch has no GNU OpenMP threads here"
)


class Rows(NamedTuple):
    query: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    lengths: torch.Tensor

    def attend(self, n_common: int = 0, softcap: float | None = None) -> torch.Tensor:
        scale = self.query.shape[-1] ** -0.5
        seen = torch.arange(len(self.query)), self.lengths, n_common
        return attention_over_own_keys(*self[:3], *seen, scale, softcap)

    def at(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All rows' key and value there, ``[rows, kv_heads, d]``."""
        block, inside = divmod(place, KEY_STEP)
        return self.keys[block, :, :, inside], self.values[block, :, :, inside]

    def first(self, n: int) -> Rows:
        """Views of the first rows, as a cache gives them at the tail of a run."""
        return Rows(self.query[:n], self.keys[:, :n], self.values[:, :n], self.lengths[:n])


def make_rows(
    n_rows: int, key_heads: int, groups: int, widths: tuple[int, int], n_blocks: int, seed: int
) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    held = (n_blocks, n_rows, key_heads, KEY_STEP)
    return Rows(
        torch.randn(n_rows, key_heads * groups, widths[0], generator=generator),
        torch.randn(*held, widths[0], generator=generator),
        torch.randn(*held, widths[1], generator=generator),
        torch.randint(1, n_blocks * KEY_STEP + 1, (n_rows,), generator=generator),
    )


def expected(rows: Rows, softcap: float | None) -> torch.Tensor:
    """The definition, in float64, row by row."""
    groups = rows.query.shape[1] // rows.keys.shape[2]
    outputs = []
    for row, length in enumerate(rows.lengths.tolist()):
        keys, values = (
            held[:, row].transpose(0, 1).flatten(1, 2)[:, :length].double()
            for held in (rows.keys, rows.values)
        )
        scores = rows.query[row].double().unflatten(0, (-1, groups)) @ keys.mT
        scores *= rows.query.shape[-1] ** -0.5
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        outputs.append((scores.softmax(dim=-1) @ values).flatten(0, 1))
    return torch.stack(outputs)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


shapes = st.builds(
    make_rows,
    n_rows=st.integers(1, 5),
    key_heads=st.integers(1, 3),
    groups=st.integers(1, 4),
    widths=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    n_blocks=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
thorough = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


@thorough
@given(rows=shapes, softcap=st.sampled_from([None, 0.5, 50.0]))
def test_it_is_attention(rows: Rows, softcap: float | None) -> None:
    torch.testing.assert_close(
        rows.attend(softcap=softcap).double(), expected(rows, softcap), rtol=1e-5, atol=1e-5
    )


@thorough
@given(rows=shapes, data=st.data())
def test_a_row_has_the_same_bits_in_any_company(rows: Rows, data: st.DataObject) -> None:
    whole = rows.attend()
    n = data.draw(st.integers(1, len(rows.query)))
    assert torch.equal(rows.first(n).attend(), whole[:n])
    # What lies behind what a row sees is another completion's, and may be no number.
    for row, length in enumerate(rows.lengths.tolist()):
        for place in range(length, rows.keys.shape[0] * KEY_STEP):
            for held in rows.at(place):
                held[row] = torch.nan
    assert torch.equal(rows.attend(), whole)


@thorough
@given(rows=shapes, data=st.data())
def test_what_rows_have_in_common_can_be_read_once(rows: Rows, data: st.DataObject) -> None:
    n_common = data.draw(st.integers(0, int(rows.lengths.min())))
    common = [held for place in range(n_common) for held in rows.at(place)]
    for held in common:
        held[1:] = held[:1].clone()
    whole = rows.attend()
    for held in common:
        held[1:] = torch.nan
    assert torch.equal(rows.attend(n_common), whole)


@thorough
@given(rows=shapes, data=st.data())
def test_a_token_sees_its_own_row_alone(rows: Rows, data: st.DataObject) -> None:
    """Several tokens of a row, as in a prompt, each as if it stood there by itself."""
    row_of = torch.tensor(
        data.draw(st.lists(st.integers(0, len(rows.query) - 1), min_size=1, max_size=6))
    )
    lengths = torch.tensor([data.draw(st.integers(1, int(rows.lengths[row]))) for row in row_of])
    scale = rows.query.shape[-1] ** -0.5
    held = rows.keys, rows.values
    found = attention_over_own_keys(rows.query[row_of], *held, row_of, lengths, 0, scale, None)
    for token, row in enumerate(row_of.tolist()):
        seen = rows.lengths.clone()
        seen[row] = lengths[token]
        assert torch.equal(found[token], rows._replace(lengths=seen).attend()[row])


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_threads_do_not_change_a_bit(n_threads: int, threads: None) -> None:
    rows = make_rows(2, 1, 3, (64, 64), 3, seed=0)
    numbers = torch.randn(7, 6, 1, 64)

    def everything() -> list[torch.Tensor]:
        found = [rows.attend(), rows._replace(query=rows.query.bfloat16()).attend().float()]
        for dtype in (torch.float32, torch.bfloat16):
            states = numbers.to(dtype)
            turned = rotated(states, states[:, :2], states[:, 0], states[:, 1])
            found += [gated(states, states.flip(0)), *turned]
        return found

    torch.set_num_threads(1)
    alone = everything()
    torch.set_num_threads(n_threads)
    assert all(map(torch.equal, everything(), alone))


_EVERYTHING = """
import sys, torch
from steering_reliability.engine.block_kernels import gated, root_mean_square_norm, rotated
from steering_reliability.engine.kernels import attention_over_own_keys
from steering_reliability.engine.logit_kernels import log_masses, places_of_greatest

torch.manual_seed(0)
query, logits = torch.randn(9, 6, 64), 5 * torch.randn(9, 5000)
held = [torch.randn(3, 9, 2, 32, 64) for _ in range(2)]
lengths = torch.arange(60, 69)
hidden, weight = torch.randn(9, 576), torch.randn(576)
halves = [tensor.bfloat16() for tensor in held]
turns = torch.randn(2, 9, 1, 64)
found = []
for dtype in (torch.float32, torch.bfloat16):
    asked = query.to(dtype)
    found += [
        attention_over_own_keys(asked, *each, torch.arange(9), lengths, 40, 0.125, softcap)
        for each in (held, halves) for softcap in (None, 30.0)
    ]
    found += [root_mean_square_norm(hidden.to(dtype), weight.to(dtype), 1e-5)]
    found += [gated(hidden.to(dtype), hidden.flip(0).to(dtype))]
    found += rotated(*(x.to(dtype) for x in (asked[:, :, None], asked[:, :2, None], *turns)))
    found += [*log_masses(logits.to(dtype)), places_of_greatest(logits.to(dtype))]
torch.save(found, sys.argv[1])
"""


def test_what_was_kept_computes_the_same_as_what_was_just_compiled(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    for name in ("compiled", "kept_code"):
        subprocess.run(
            [sys.executable, "-c", _EVERYTHING, str(tmp_path / name)], check=True, env=environment
        )
    # Both dtypes of one function: two processes that write one file at once may take either's.
    assert len([*(tmp_path / "kept").rglob("*_gate.locals.gate*.nbi")]) == 2
    just_compiled, kept = (torch.load(tmp_path / name) for name in ("compiled", "kept_code"))
    assert list((tmp_path / "kept").rglob("*.nbc"))
    assert all(map(torch.equal, just_compiled, kept))


def test_huge_scores_do_not_overflow() -> None:
    rows = make_rows(2, 2, 2, (8, 8), 1, seed=0)
    huge = rows._replace(query=1e18 * rows.query, keys=1e18 * rows.keys)
    found = huge.attend()
    torch.testing.assert_close(found.double(), expected(huge, None), rtol=1e-5, atol=1e-5)


def test_a_mask_that_a_model_made_itself_is_obeyed() -> None:
    rows = make_rows(3, 2, 2, (16, 16), 2, seed=0)
    mask = torch.zeros(3, 1, 1, 2 * KEY_STEP)
    mask = mask.masked_fill(torch.arange(2 * KEY_STEP) >= rows.lengths[:, None, None, None], -1e9)
    seen = Seen(mask, torch.arange(3), rows.lengths, 0)
    config = load_tiny("llama").text_config
    query, module = rows.query[:, :, None], torch.nn.Identity()
    own = mask.clone()
    own[:, :, :, 0] = -torch.inf
    with slot_attention_in(config, seen):
        given_back = slot_attention(module, query, rows.keys, rows.values, mask)[0]
        changed = slot_attention(module, query, rows.keys, rows.values, own)[0]
    assert torch.equal(given_back[:, 0], rows.attend())
    without_first = slot_attention(module, query, rows.keys, rows.values, own)[0]
    assert torch.equal(changed, without_first)
    assert not torch.allclose(changed, given_back, atol=1e-3)


def test_a_mask_of_the_models_own_sees_what_rows_have_in_common() -> None:
    """Though the first row alone holds it."""
    rows = make_rows(3, 2, 2, (16, 16), 2, seed=0)
    n_common = KEY_STEP + 3
    whole = rows._replace(
        keys=rows.keys.clone(), values=rows.values.clone(), lengths=torch.full((3,), 2 * KEY_STEP)
    )
    for place in range(n_common):
        for held in whole.at(place):
            held[1:] = held[:1]
    mask = torch.zeros(3, 1, 1, 2 * KEY_STEP)
    seen = Seen(mask.clone(), torch.arange(3), whole.lengths, n_common)
    query, module = rows.query[:, :, None], torch.nn.Identity()
    with slot_attention_in(load_tiny("llama").text_config, seen):
        found = slot_attention(module, query, rows.keys, rows.values, mask)[0]
    torch.testing.assert_close(found[:, 0], whole.attend())


@thorough
@given(rows=shapes)
def test_bfloat16_keys_are_read_as_what_they_are(rows: Rows) -> None:
    halves = rows._replace(keys=rows.keys.bfloat16(), values=rows.values.bfloat16())
    wide = rows._replace(keys=halves.keys.float(), values=halves.values.float())
    assert torch.equal(halves.attend(), wide.attend())


@pytest.mark.parametrize("widths", [(8, 8), (3, 8)])
def test_a_cache_holds_bfloat16_as_it_is_where_pairs_can_be_written(
    widths: tuple[int, int],
) -> None:
    states = [torch.randn(3, 2, 1, width).bfloat16() for width in widths]
    cache = SlotCache(1, 4, 2 * KEY_STEP, torch.device("cpu"))
    cache.begin(torch.tensor([[1], [KEY_STEP], [KEY_STEP + 5]]))
    keys, values = cache.update(states[0], states[1], 0)
    assert keys.dtype == values.dtype == (torch.bfloat16 if widths[0] % 2 == 0 else torch.float32)
    for held, new in ((keys, states[0]), (values, states[1])):
        assert torch.equal(held[0, 0, :, 1].bfloat16(), new[0, :, 0])
        assert torch.equal(held[1, 1, :, 0].bfloat16(), new[1, :, 0])
        assert torch.equal(held[1, 2, :, 5].bfloat16(), new[2, :, 0])
        assert int((held != 0).any(-1).sum()) == 6


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_decodes_so_and_as_without(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny(family)
    generation = GenerationSettings(max_new_tokens=8, slots=4)
    requests = plan(model, [BASELINE, *STEERED], generation)
    calls = []

    def counted(*arguments: Any) -> torch.Tensor:
        calls.append(arguments)
        return attention_over_own_keys(*arguments)

    monkeypatch.setattr("steering_reliability.engine.kernels.attention_over_own_keys", counted)
    done = run(model, requests, generation)
    assert calls
    calls.clear()
    monkeypatch.setattr("steering_reliability.engine.cache.has_threads", lambda _: False)
    without = run(model, requests, generation)
    assert not calls
    for key, completion in done.items():
        assert without[key].measurements == pytest.approx(completion.measurements, abs=1e-4)
        assert without[key].token_ids == completion.token_ids


def test_a_common_beginning_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_tiny("llama")
    generation = GenerationSettings(max_new_tokens=3, slots=4)
    requests = plan(
        model, [BASELINE], generation, [Prompt(id=f"p{n}", text="x" * n) for n in (1, 2, 3, 4)]
    )
    read = []

    def noted(*arguments: Any) -> torch.Tensor:
        read.append(arguments[5])
        return attention_over_own_keys(*arguments)

    monkeypatch.setattr("steering_reliability.engine.kernels.attention_over_own_keys", noted)
    run(model, requests, generation)
    assert set(read[-model.n_layers :]) == {len(model.format.shared_prefix)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@thorough
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 300)),
    spread=st.sampled_from([0.0, 1.0, 100.0]),
    seed=st.integers(0, 1000),
)
def test_masses_are_those_of_the_logits(
    dtype: torch.dtype, shape: tuple[int, int], spread: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (spread * torch.randn(shape, generator=generator)).to(dtype)
    normaliser, entropy = log_masses(logits)
    log_probabilities = logits.double().log_softmax(dim=-1)
    expected_entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=-1)
    close = {"rtol": 1e-5, "atol": 1e-4}
    torch.testing.assert_close(normaliser.double(), logits.double().logsumexp(-1), **close)
    torch.testing.assert_close(entropy.double(), expected_entropy, **close)
    first = log_masses(logits[:1])
    assert torch.equal(normaliser[:1], first[0])
    assert torch.equal(entropy[:1], first[1])


def test_a_mass_of_no_number_is_none() -> None:
    logits = torch.zeros(3, 100)
    logits[0, 70], logits[1, 99] = torch.nan, torch.inf
    normaliser, entropy = log_masses(logits)
    assert normaliser[:2].isfinite().tolist() == [False, False]
    assert entropy[:2].isfinite().tolist() == [False, False]
    assert float(normaliser[2]) == pytest.approx(math.log(100))


@pytest.mark.parametrize("masked", [-torch.inf, torch.finfo(torch.float32).min])
def test_a_logit_that_is_masked_out_adds_nothing(
    masked: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny("llama")
    logits = torch.zeros(4, 400)
    logits[:, 300:] = masked
    for is_compiled in (True, False):
        monkeypatch.setattr(
            "steering_reliability.engine.measures.has_code_for", lambda _, told=is_compiled: told
        )
        measures = RowMeasures(model, 4)
        measures.update(logits, torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long))
        assert measures.read(0)["mean_entropy"] == pytest.approx(math.log(300))
        assert measures.read(0)["mean_logprob"] == pytest.approx(-math.log(300))


def test_where_nothing_can_be_kept_it_is_compiled_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unwritable(*arguments: Any, cache: bool = False) -> Any:
        if cache:
            raise RuntimeError("no locator available")
        return cfunc(*arguments)

    monkeypatch.setattr(compiled, "cfunc", unwritable)
    anew = compiled.OnThreads(logit_kernels._measure[torch.float32]._function)
    monkeypatch.setitem(logit_kernels._measure, torch.float32, anew)
    normaliser, _ = log_masses(torch.zeros(2, 50))
    assert float(normaliser[0]) == pytest.approx(math.log(50))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_no_number_is_the_greatest_as_torch_has_it(dtype: torch.dtype, sign: int) -> None:
    logits = torch.arange(40).reshape(2, 20).to(dtype)
    logits[0, 7] = math.copysign(math.nan, sign)
    assert places_of_greatest(logits).tolist() == logits.argmax(-1).tolist() == [7, 19]


def test_no_token_is_written_beyond_the_slots() -> None:
    cache = SlotCache(1, 2, KEY_STEP, torch.device("cpu"))
    cache.begin(torch.tensor([[KEY_STEP - 1], [0]]))
    with pytest.raises(IndexError, match="position 32 in slots of 32"):
        cache.begin(torch.tensor([[KEY_STEP], [0]]))


@thorough
@given(rows=shapes, dtype=st.sampled_from([torch.float32, torch.bfloat16]), data=st.data())
def test_tokens_are_written_where_they_belong_and_nowhere_else(
    rows: Rows, dtype: torch.dtype, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, len(rows.query)))
    n_blocks, _, key_heads = rows.keys.shape[:3]
    positions = torch.tensor(
        data.draw(st.lists(st.integers(0, n_blocks * KEY_STEP - 1), min_size=n, max_size=n))
    )
    block, place = positions // KEY_STEP, positions % KEY_STEP
    states = tuple(
        torch.randn(n, key_heads, held.shape[-1]).to(dtype) for held in (rows.keys, rows.values)
    )
    held = rows.keys.clone(), rows.values.clone()
    for old, new in zip(held, states, strict=True):
        old[block, torch.arange(n), :, place] = new.float()
    write_tokens((rows.keys, rows.values), (states[0], states[1]), block, place)
    assert torch.equal(rows.keys, held[0])
    assert torch.equal(rows.values, held[1])
