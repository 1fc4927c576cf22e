"""Compiled gates: the numbers of the model's own, a row at a time, and gone afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import silu
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from steering_reliability.engine.block_kernels import gated
from steering_reliability.engine.gates import compiled_gates
from steering_reliability.engine.openmp import has_threads
from tests.tiny_models import FAMILIES, load_tiny

pytestmark = pytest.mark.skipif(
    not has_threads(torch.device("cpu")), reason="torch has no GNU OpenMP threads here"
)
_HAVE_SUCH_GATES = {"llama", "qwen", "mistral"}


class Doubled(LlamaMLP):
    """Has the same layers, and does something else with them."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(hidden)


class Chosen(LlamaMLP):
    """Wants to be told more."""

    def forward(self, hidden: torch.Tensor, expert: int) -> torch.Tensor:
        return super().forward(hidden) * expert


def llama_layer(
    kind: type[LlamaMLP] = LlamaMLP, dtype: torch.dtype = torch.float32, act: str = "silu"
) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=64, intermediate_size=80, hidden_act=act)
    return kind(config).to(dtype).requires_grad_(False)


def some_rows(rows: int, width: int, dtype: torch.dtype, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (8 * torch.randn(rows, 1, width, generator=generator)).to(dtype)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=st.integers(1, 9), width=st.integers(1, 300), seed=st.integers(0, 99))
def test_it_is_the_definition(rows: int, width: int, seed: int) -> None:
    gate, up = (some_rows(rows, width, torch.float32, seed + 100 * part) for part in (0, 1))
    found = gated(gate, up)
    exact = silu(gate.double()) * up.double()
    torch.testing.assert_close(found.double(), exact, rtol=2e-6, atol=1e-9)
    assert torch.equal(found, torch.stack([gated(*row) for row in zip(gate, up, strict=True)]))


def test_bfloat16_is_rounded_where_the_model_rounds() -> None:
    gate, up = (some_rows(200, 576, torch.bfloat16, seed) for seed in (1, 2))
    found, expected = gated(gate, up), silu(gate) * up
    # Where float32 lies between two of its numbers, the last bit of an exponential decides.
    assert (found != expected).float().mean() < 1e-3
    torch.testing.assert_close(found, expected, rtol=2**-6, atol=1e-30)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("unusual", [torch.inf, -torch.inf, torch.nan, 1e30, -1e30])
def test_what_is_no_number_stays_none(dtype: torch.dtype, unusual: float) -> None:
    gate, up = (some_rows(3, 17, dtype, seed) for seed in (1, 2))
    gate[1, 0, 3] = up[2, 0, 16] = unusual
    found, expected = gated(gate, up), silu(gate) * up
    assert torch.equal(found.isfinite(), expected.isfinite())
    assert torch.equal(found.isfinite()[0], torch.ones_like(found[0], dtype=torch.bool))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gate_is_replaced_for_a_while(dtype: torch.dtype) -> None:
    layer, hidden = llama_layer(dtype=dtype), some_rows(4, 64, dtype)
    model = nn.Sequential(layer)
    before = model(hidden)
    seen: list[torch.Tensor] = []
    layer.gate_proj.register_forward_hook(lambda *given: seen.append(given[2]))
    with compiled_gates(model):
        assert "forward" in vars(layer)
        torch.testing.assert_close(model(hidden), before)
        with compiled_gates(model):
            pass
        assert "forward" in vars(layer)
    # Once for telling what it computes in either way, and once more.
    assert len(seen) == 4
    assert torch.equal(model(hidden), before)
    assert "forward" not in vars(layer)


def test_hidden_states_of_another_dtype_go_to_the_module_itself() -> None:
    layer = llama_layer()
    with compiled_gates(layer):
        layer.double()
        hidden = some_rows(4, 64, torch.float64)
        found = layer(hidden)
    assert torch.equal(found, layer(hidden))


@pytest.mark.parametrize(
    "layer",
    [
        llama_layer(act="gelu_pytorch_tanh"),
        llama_layer(act="relu"),
        llama_layer(Doubled),
        llama_layer(Chosen),
        llama_layer(dtype=torch.float16),
    ],
    ids=["gelu", "relu", "doubled", "with an argument", "float16"],
)
def test_others_stay(layer: nn.Module) -> None:
    with compiled_gates(layer):
        assert "forward" not in vars(layer)


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    model = load_tiny(family).hf_model
    ids = torch.arange(12).view(2, 6)
    with torch.inference_mode():
        expected = model(ids).logits
        with compiled_gates(model):
            replaced = [m for m in model.modules() if "forward" in vars(m)]
            found = model(ids).logits
    assert bool(replaced) == (family in _HAVE_SUCH_GATES)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
