"""Compiled rotary embeddings: transformers' numbers bit for bit, and gone afterwards."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.glm import modeling_glm
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama

from steering_reliability.engine.block_kernels import rotated
from steering_reliability.engine.openmp import has_threads
from steering_reliability.engine.rotary import _is_rotation, _rotation, compiled_rotations
from tests.engine.reference import logits_within
from tests.tiny_models import FAMILIES, load_tiny

pytestmark = pytest.mark.skipif(
    not has_threads(torch.device("cpu")), reason="torch has no GNU OpenMP threads here"
)
_theirs = modeling_llama.apply_rotary_pos_emb


def states(
    rows: int, heads: tuple[int, int], tokens: int, width: int, dtype: torch.dtype, seed: int = 0
) -> list[torch.Tensor]:
    """Queries and keys as products give them, and turns of all kinds."""
    generator = torch.Generator().manual_seed(seed)
    every = [
        torch.randn(rows, tokens, count, width, generator=generator).to(dtype).transpose(1, 2)
        for count in heads
    ]
    turns = torch.randn(2, rows, tokens, width, generator=generator).to(dtype)
    return [*every, *turns]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 5),
    heads=st.tuples(st.integers(1, 5), st.integers(1, 3)),
    tokens=st.integers(1, 4),
    half=st.integers(1, 40),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    alike=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_is_transformers_own_bit_for_bit(
    rows: int,
    heads: tuple[int, int],
    tokens: int,
    half: int,
    dtype: torch.dtype,
    alike: bool,
    seed: int,
) -> None:
    query, key, cos, sin = states(rows, heads, tokens, 2 * half, dtype, seed)
    if alike:
        cos, sin = cos[:1], sin[:1]
    expected = _theirs(query, key, cos, sin)
    found = rotated(query, key, cos, sin)
    assert all(map(torch.equal, found, expected))
    # Laid out as a product of all heads.
    assert found[0].transpose(1, 2).is_contiguous()


def test_what_is_no_number_stays_none() -> None:
    given = states(2, (3, 1), 1, 8, torch.bfloat16)
    given[0][0, 0, 0, 0], given[1][1, 0, 0, 5] = torch.nan, torch.inf
    for found, expected in zip(rotated(*given), _theirs(*given), strict=True):
        assert torch.equal(found.isfinite(), expected.isfinite())


def narrow(given: list[torch.Tensor]) -> list[torch.Tensor]:
    return [*given[:2], given[2][..., :4], given[3][..., :4]]


def test_where_a_part_of_a_head_is_turned_the_models_own_is_called() -> None:
    given = narrow(states(2, (3, 1), 2, 8, torch.float32))
    own = modeling_gpt_neox.apply_rotary_pos_emb
    assert _is_rotation(own, torch.float32)
    assert all(map(torch.equal, _rotation(own, *given), own(*given)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_another_dtype_goes_to_the_models_own(dtype: torch.dtype) -> None:
    given = states(2, (3, 1), 2, 8, dtype)
    assert all(map(torch.equal, _rotation(_theirs, *given), _theirs(*given)))


def test_heads_in_another_place_go_to_the_models_own() -> None:
    query, key, cos, sin = states(2, (3, 1), 2, 8, torch.float32)
    given = (query.transpose(1, 2), key.transpose(1, 2), cos, sin)
    found = _rotation(_theirs, *given, unsqueeze_dim=2)
    assert all(map(torch.equal, found, _theirs(*given, unsqueeze_dim=2)))


@pytest.mark.parametrize("given", [(), (None, 1), (torch.ones(3, 4),) * 4])
def test_what_is_no_state_at_all_goes_to_the_models_own(given: tuple[Any, ...]) -> None:
    assert _rotation(lambda *states: states, *given) == given


def test_gradients_still_flow() -> None:
    given = states(2, (3, 1), 2, 8, torch.float32)
    given[0].requires_grad_(True)
    _rotation(_theirs, *given)[0].sum().backward()
    assert given[0].grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_functions_of_its_name_are_told(dtype: torch.dtype) -> None:
    def strict(*_: torch.Tensor) -> None:
        raise ValueError("expected 7 rows")

    # GLM turns neighbours in pairs.
    assert not _is_rotation(modeling_glm.apply_rotary_pos_emb, dtype)
    assert not _is_rotation(lambda states, turns: states * turns, dtype)
    assert not _is_rotation(strict, dtype)


def test_one_that_rounds_otherwise_in_either_dtype_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def wide(*given: torch.Tensor) -> Any:
        return [turned.to(given[0].dtype) for turned in _theirs(*(x.float() for x in given))]

    assert _is_rotation(wide, torch.float32)
    assert not _is_rotation(wide, torch.bfloat16)
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", wide)
    with compiled_rotations(deepcopy(load_tiny("llama").hf_model)):
        assert modeling_llama.apply_rotary_pos_emb is wide


def test_passes_that_overlap_leave_nothing_behind() -> None:
    one, other = (compiled_rotations(load_tiny("llama").hf_model) for _ in range(2))
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    other.__exit__(None, None, None)
    assert modeling_llama.apply_rotary_pos_emb is _theirs


def test_a_model_that_is_first_seen_within_a_pass_is_told_by_its_own() -> None:
    with compiled_rotations(load_tiny("llama").hf_model):
        compiled = modeling_llama.apply_rotary_pos_emb
        with compiled_rotations(deepcopy(load_tiny("llama").hf_model)):
            assert modeling_llama.apply_rotary_pos_emb is compiled
    assert modeling_llama.apply_rotary_pos_emb is _theirs


def test_it_is_replaced_for_a_while() -> None:
    model = load_tiny("llama").hf_model

    def in_use() -> Any:
        return modeling_llama.apply_rotary_pos_emb

    with compiled_rotations(model):
        compiled = in_use()
        assert compiled is not _theirs
        # One in another one's is left to it.
        with compiled_rotations(model):
            assert in_use() is compiled
        assert in_use() is compiled
    assert in_use() is _theirs
    with pytest.raises(ZeroDivisionError), compiled_rotations(model):
        raise ZeroDivisionError
    assert in_use() is _theirs


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    expected, found, _ = logits_within(load_tiny(family).hf_model, compiled_rotations)
    assert torch.equal(found, expected)
