"""Packed weights compute what the model's own do, and never outlive them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steering_reliability.models import packed
from steering_reliability.models.packed import PackedLinears

pytestmark = pytest.mark.skipif(
    not PackedLinears(nn.Linear(8, 8)).n_bytes, reason="this torch has no oneDNN operators"
)


class Scaled(nn.Linear):
    """A layer with arithmetic of its own, as adapters and quantisers have."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(hidden)


def forward_of(module: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        output: torch.Tensor = module(hidden)
    return output


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 128])
def test_products_are_those_of_float32(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer, hidden = nn.Linear(96, 200, bias=bias), torch.randn(rows, 3, 96)
    exact = layer.double()(hidden.double())
    layer.float()
    with PackedLinears(layer).in_use():
        packed = forward_of(layer, hidden)
    assert packed.shape == (rows, 3, 200)
    # Rounding to bfloat16 or TF32 on the way would be off by 1e-3.
    assert (packed.double() - exact).abs().max() < 1e-5


def test_the_layer_is_as_before_afterwards() -> None:
    layer, hidden = nn.Linear(96, 64), torch.randn(5, 96)
    before = forward_of(layer, hidden)
    with pytest.raises(ZeroDivisionError), PackedLinears(layer).in_use():
        raise ZeroDivisionError
    assert torch.equal(forward_of(layer, hidden), before)
    assert "forward" not in vars(layer)


def test_an_edited_weight_is_packed_anew() -> None:
    layer, hidden = nn.Linear(96, 64, bias=False), torch.randn(5, 96)
    packed = PackedLinears(layer)
    with packed.in_use():
        first = forward_of(layer, hidden)
    with torch.no_grad():
        layer.weight.mul_(2)
    with packed.in_use():
        assert torch.allclose(forward_of(layer, hidden), 2 * first)
    layer.weight.data = torch.zeros_like(layer.weight)
    with packed.in_use():
        assert not forward_of(layer, hidden).any()


def test_hooks_still_run() -> None:
    layer, hidden = nn.Linear(96, 64), torch.randn(5, 96)
    layer.register_forward_hook(lambda _module, _inputs, output: output * 0)
    with PackedLinears(layer).in_use():
        assert not forward_of(layer, hidden).any()


def test_layers_with_arithmetic_of_their_own_are_left_alone() -> None:
    layer, hidden = Scaled(96, 64), torch.randn(5, 96)
    layers = PackedLinears(layer)
    with layers.in_use():
        inside = forward_of(layer, hidden)
    assert layers.n_bytes == 0
    assert torch.equal(inside, forward_of(layer, hidden))


def test_float16_keeps_torchs_own_products() -> None:
    assert PackedLinears(nn.Linear(96, 64).half()).n_bytes == 0


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_is_packed_where_the_processor_multiplies_it(
    supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed.torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    layers = PackedLinears(nn.Linear(96, 64).bfloat16())
    assert layers.n_bytes == (96 * 64 * 2 if supported else 0)


def test_bfloat16_multiplies_on_every_processor() -> None:
    """Without AVX-512 packing fails: torch's own products are to be used there."""
    layer, hidden = nn.Linear(96, 64).bfloat16(), torch.randn(5, 96).bfloat16()
    with PackedLinears(layer).in_use():
        inside = forward_of(layer, hidden)
    torch.testing.assert_close(inside, forward_of(layer, hidden), rtol=0.02, atol=0.02)
