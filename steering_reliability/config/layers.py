"""Layers as a level's file names them: by index, by depth, or by an earlier level's decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, PlainValidator, TypeAdapter

from steering_reliability.config.reading import NonEmpty, Settings, refuse_repeats, wrong
from steering_reliability.errors import SteeringError


def read_layer(value: object) -> int | float:
    """A layer's index, or its depth between 0 and 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, float) and 0 < value < 1:
        return value
    raise wrong(value, "a layer (0 or more) or a depth between 0 and 1")


def read_layers(value: object) -> list[int | float] | LayersFrom:
    """The value of ``layers``: a list, or a mapping that points to a decision."""
    if isinstance(value, LayersFrom):
        return value
    if isinstance(value, dict):
        return LayersFrom.model_validate(value)
    return _read_layer_list(value, "a list of layers or depths, or a mapping with from and default")


def _read_layer_list(
    value: object, expected: str = "a list of layers or depths"
) -> list[int | float]:
    if not isinstance(value, list) or not value:
        raise wrong(value, expected)
    layers = _LAYERS.validate_python(value)
    refuse_repeats(layers)
    return layers


Layer = Annotated[int | float, PlainValidator(read_layer)]
_LAYERS: TypeAdapter[list[int | float]] = TypeAdapter(list[Layer])


class LayersFrom(Settings):
    """Layers that an earlier level's decision names, and those to take while there is none."""

    level: NonEmpty = Field(alias="from")
    default: Annotated[list[int | float], PlainValidator(_read_layer_list)]


def resolve_layers(layers: Sequence[int | float], n_layers: int, where: str) -> list[int]:
    """Layer indices of layers and depths: depth 0.4 of a model of 30 blocks is layer 12.

    Args:
        layers: indices from 0, or depths between 0 and 1.
        n_layers: number of blocks of the model.
        where: file and key, for the error.

    Raises:
        SteeringError: the model has no such layer.
    """
    indices = []
    for layer in layers:
        index = layer if isinstance(layer, int) else min(round(layer * n_layers), n_layers - 1)
        if not 0 <= index < n_layers:
            raise SteeringError(
                f"{where}: found {layer}, expected a layer from 0 to {n_layers - 1} (the model "
                f"has {n_layers}); name one of those or a depth such as 0.4"
            )
        indices.append(index)
    # Two depths may be one layer of a small model.
    return list(dict.fromkeys(indices))
