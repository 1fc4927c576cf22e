"""Compiled gates: the numbers of the model's own, a row at a time, and gone afterwards."""

from __future__ import annotations

from copy import deepcopy
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
from tests.engine.reference import logits_within
from tests.tiny_models import FAMILIES, load_tiny

pytestmark = pytest.mark.skipif(
    not has_threads(torch.device("cpu")), reason="torch has no GNU OpenMP threads here"
)
_HAVE_SUCH_GATES = {"llama", "qwen", "mistral"}


class Doubled(LlamaMLP):
    """Has the same layers, and does something else with them."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(hidden)


class Limited(LlamaMLP):
    """As some models limit what goes into the product."""

    limit = 10.0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        gate = self.gate_proj(hidden).clamp(max=self.limit)
        up = self.up_proj(hidden).clamp(-self.limit, self.limit)
        return self.down_proj(self.act_fn(gate) * up)


class FarLimited(Limited):
    limit = 100.0


class Chosen(LlamaMLP):
    """Wants to be told more."""

    def forward(self, hidden: torch.Tensor, expert: int) -> torch.Tensor:
        return super().forward(hidden) * expert


class Flat(LlamaMLP):
    """Takes all rows' tokens together."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden.flatten(0, 1)).view(hidden.shape)


class Strict(LlamaMLP):
    """Takes no numbers but its own."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        raise ValueError("expected 7 rows")


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


def test_what_is_called_otherwise_goes_to_the_module_itself() -> None:
    layer, hidden = llama_layer(), some_rows(4, 64, torch.float32)
    expected = layer(hidden)
    with compiled_gates(layer):
        assert torch.equal(layer(x=hidden), expected)
        # A hook may widen one of both products.
        layer.up_proj.register_forward_hook(lambda *given: given[2].double())
        layer.down_proj.double()
        assert layer(hidden).dtype == torch.float64


def test_gradients_still_flow() -> None:
    layer, hidden = llama_layer(), some_rows(4, 64, torch.float32)
    with compiled_gates(layer):
        layer.requires_grad_(True)
        layer(hidden).sum().backward()
    assert layer.gate_proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "act", ["gelu_pytorch_tanh", "gelu", "quick_gelu", "mish", "relu", "relu2"]
)
def test_other_activations_stay(act: str, dtype: torch.dtype) -> None:
    layer = llama_layer(dtype=dtype, act=act)
    with compiled_gates(layer):
        assert "forward" not in vars(layer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [Doubled, Limited, FarLimited, Chosen, Flat, Strict])
def test_other_layers_stay(kind: type[LlamaMLP], dtype: torch.dtype) -> None:
    layer = llama_layer(kind, dtype)
    with compiled_gates(layer):
        assert "forward" not in vars(layer)


def test_float16_stays() -> None:
    layer = llama_layer(dtype=torch.float16)
    with compiled_gates(layer):
        assert "forward" not in vars(layer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, dtype: torch.dtype) -> None:
    model = deepcopy(load_tiny(family).hf_model).to(dtype)
    expected, found, replaced = logits_within(model, compiled_gates)
    assert bool(replaced) == (family in _HAVE_SUCH_GATES)
    # In bfloat16 a last bit may fall to the other side, and be carried on.
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
