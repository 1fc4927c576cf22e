"""Compiled norms: the same numbers as the model's own, a row at a time, and gone afterwards."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.models.cohere.modeling_cohere import CohereLayerNorm
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from steering_reliability.engine.block_kernels import root_mean_square_norm
from steering_reliability.engine.norms import compiled_norms
from steering_reliability.engine.openmp import has_threads
from tests.engine.reference import logits_within
from tests.tiny_models import FAMILIES, load_tiny

pytestmark = pytest.mark.skipif(
    not has_threads(torch.device("cpu")), reason="torch has no GNU OpenMP threads here"
)
_EPSILON = 1e-5
_HAVE_SUCH_NORMS = {"llama", "qwen", "mistral"}


class Centred(nn.Module):
    """A norm with a weight and an epsilon that isn't one of root mean squares."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), _EPSILON

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(hidden, self.weight.shape, self.weight, eps=self.eps)


def llama_norm(width: int, dtype: torch.dtype, seed: int = 0) -> LlamaRMSNorm:
    norm = LlamaRMSNorm(width, eps=_EPSILON)
    weight = torch.randn(width, generator=torch.Generator().manual_seed(seed))
    norm.weight = nn.Parameter(weight, requires_grad=False)
    return norm.to(dtype)


def small_centred_norm() -> CohereLayerNorm:
    norm = CohereLayerNorm(64).to(torch.bfloat16)
    norm.weight = nn.Parameter(torch.full_like(norm.weight, 0.02), requires_grad=False)
    return norm


def some_rows(rows: int, width: int, dtype: torch.dtype, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (10 * torch.randn(rows, 1, width, generator=generator) + 1).to(dtype)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=st.integers(1, 9), width=st.integers(1, 300), seed=st.integers(0, 99))
def test_it_is_the_definition(rows: int, width: int, seed: int) -> None:
    hidden = some_rows(rows, width, torch.float32, seed)
    weight = llama_norm(width, torch.float32, seed).weight
    found = root_mean_square_norm(hidden, weight, _EPSILON)
    wide = hidden.double()
    exact = wide / (wide.square().mean(-1, keepdim=True) + _EPSILON).sqrt() * weight.double()
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=1e-6)
    alone = torch.cat([root_mean_square_norm(row, weight, _EPSILON) for row in hidden])
    assert torch.equal(found[:, 0], alone)


def test_bfloat16_is_rounded_where_the_model_rounds() -> None:
    norm, hidden = llama_norm(576, torch.bfloat16), some_rows(200, 576, torch.bfloat16)
    found, expected = root_mean_square_norm(hidden, norm.weight, _EPSILON), norm(hidden)
    different = found != expected
    # Where float32 lies between two of its numbers, the last bit of a sum decides.
    assert different.float().mean() < 1e-3
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=0)


def test_bfloat16_keeps_what_is_no_number() -> None:
    hidden = some_rows(3, 16, torch.bfloat16)
    hidden[1, 0, 3] = torch.nan
    hidden[2, 0, 3] = torch.inf
    norm = llama_norm(16, torch.bfloat16)
    found, expected = root_mean_square_norm(hidden, norm.weight, _EPSILON), norm(hidden)
    assert torch.equal(found.isnan(), expected.isnan())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_is_replaced_for_a_while(dtype: torch.dtype) -> None:
    norm, hidden = llama_norm(64, dtype), some_rows(4, 64, dtype)
    model = nn.Sequential(norm)
    before = model(hidden)
    with compiled_norms(model):
        assert "forward" in vars(norm)
        torch.testing.assert_close(model(hidden), before)
        # One in another one's is left to it.
        with compiled_norms(model):
            pass
        assert "forward" in vars(norm)
    assert torch.equal(model(hidden), before)
    with pytest.raises(ZeroDivisionError), compiled_norms(model):
        raise ZeroDivisionError
    assert "forward" not in vars(norm)


def test_its_weight_may_change_meanwhile() -> None:
    norm, hidden = llama_norm(64, torch.float32), some_rows(4, 64, torch.float32)
    with compiled_norms(norm):
        before = norm(hidden)
        norm.weight.mul_(2)
        assert torch.equal(norm(hidden), 2 * before)


def test_hidden_states_of_another_dtype_go_to_the_module_itself() -> None:
    norm, hidden = llama_norm(64, torch.bfloat16), some_rows(4, 64, torch.float32)
    expected = norm(hidden)
    with compiled_norms(norm):
        assert torch.equal(norm(hidden), expected)


@pytest.mark.parametrize(
    "norm",
    [
        small_centred_norm(),
        GemmaRMSNorm(64),
        Centred(64),
        nn.LayerNorm(64, bias=False),
        nn.LayerNorm(64),
        LlamaRMSNorm(64).half(),
    ],
    ids=["small and centred", "one plus weight", "centred", "layer norm", "with bias", "float16"],
)
def test_other_norms_stay(norm: nn.Module) -> None:
    with compiled_norms(norm):
        assert "forward" not in vars(norm)


def test_gradients_still_flow() -> None:
    norm, hidden = llama_norm(64, torch.float32), some_rows(4, 64, torch.float32)
    with compiled_norms(norm):
        norm.requires_grad_(True)
        norm(hidden).sum().backward()
    assert norm.weight.grad is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    model = load_tiny(family).hf_model
    expected, found, replaced = logits_within(model, compiled_norms)
    assert bool(replaced) == (family in _HAVE_SUCH_NORMS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
