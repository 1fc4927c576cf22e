"""Matrix products with weights laid out for the processor, through oneDNN.

Torch multiplies float32 matrices with MKL, which on processors of other makers than its own may
leave half of the vector width unused: at the engine's shapes oneDNN is about 2.5 times as fast
there, with products rounded as float32 is (``python -m benchmarks.engine`` prints both). oneDNN is
part of torch; it wants weights in a layout of its own, which costs their memory once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from steering_reliability.models.forwards import replaced_forwards

# Rows for which the layout is chosen; it serves any number of them.
_TYPICAL_ROWS = 128


@dataclass(frozen=True)
class _PackedLinear:
    """A layer's weight in oneDNN's layout, and which state of the weight that is."""

    weight: torch.Tensor
    state: tuple[int, int]


class PackedLinears:
    """The linear layers of a model that can be multiplied in oneDNN's layout.

    On other devices, in float16, in bfloat16 on a processor for which oneDNN has no products of it
    (AVX2 alone), and in a torch that lacks these operators there are none, and the model computes
    as it always does.

    Args:
        hf_model: the transformers model.
    """

    def __init__(self, hf_model: nn.Module) -> None:
        linears = (module for module in hf_model.modules() if isinstance(module, nn.Linear))
        self._layers = [linear for linear in linears if _can_be_packed(linear)]
        self._packed: dict[nn.Linear, _PackedLinear] = {}

    @property
    def n_bytes(self) -> int:
        """Memory that the packed weights take, once they are."""
        return sum(layer.weight.numel() * layer.weight.element_size() for layer in self._layers)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the model multiply with packed weights for a while, and then as before."""
        with replaced_forwards(
            self._layers, lambda layer: partial(_multiply, self._weight_of(layer), layer)
        ):
            yield

    def _weight_of(self, layer: nn.Linear) -> torch.Tensor:
        state = _state(layer.weight)
        packed = self._packed.get(layer)
        # Weights may be edited or replaced while the model is in use; what was packed is then old.
        if packed is None or packed.state != state:
            packed = _PackedLinear(_pack(layer.weight), state)
            self._packed[layer] = packed
        return packed.weight


def _state(weight: torch.Tensor) -> tuple[int, int]:
    # Tensors made in inference mode count no versions; they can't be edited outside of it either.
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


def _can_be_packed(linear: nn.Linear) -> bool:
    """Exactly ``nn.Linear``: quantisers and adapters subclass it with arithmetic of their own."""
    if type(linear) is not nn.Linear or not _operators_exist():
        return False
    weight = linear.weight
    if weight.device.type != "cpu":
        return False
    return weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16
        and hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported")
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _operators_exist() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _pack(weight: torch.Tensor) -> torch.Tensor:
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(
        weight.detach().contiguous(), _TYPICAL_ROWS
    )
    return packed


def _multiply(weight: torch.Tensor, layer: nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
        hidden, weight, layer.bias, "none", [], ""
    )
    return product
