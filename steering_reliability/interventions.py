"""Add and ablate as operators on a batch in which every row is steered in its own way.

This module knows nothing about prompts, tokens or scheduling: it turns a cell and a direction
into a :class:`Steering`, and applies one steering per row to a block's output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from steering_reliability.cells import LEARNED, Cell, Intervention
from steering_reliability.directions.controls import is_control
from steering_reliability.directions.direction import Direction, check_is_direction
from steering_reliability.errors import SteeringError

Directions = Mapping[tuple[str, int], Direction]


@dataclass(frozen=True)
class Steering:
    """What is done to one row's residual stream, with every unit resolved.

    Attributes:
        layer: block whose output is steered.
        intervention: ``"add"``: ``h + coefficient * vector``; ``"ablate"``:
            ``h - coefficient * (h . vector) vector``.
        coefficient: residual-stream units for ``add``, a share for ``ablate``.
        vector: unit direction, float32, shape ``[d_model]``.
        measured: for a control that ablates, the learned unit direction ``m``, float32, shape
            ``[d_model]``: ``h - coefficient * |h . m| * sign(h . vector) vector``.
    """

    layer: int
    intervention: Intervention
    coefficient: float
    vector: torch.Tensor
    measured: torch.Tensor | None = None


def resolve_steering(cell: Cell, directions: Directions, alpha_unit: float) -> Steering | None:
    """What a cell does, or ``None`` where it leaves the model unsteered.

    One unit of alpha is ``alpha_unit`` times the median residual norm at the cell's layer, so
    that alpha means the same in every layer and model. Ablation has no unit: alpha 1 removes
    the component (Arditi et al. 2024).

    A control that ablates is matched to the learned direction by the norm of what it takes away
    (this suite's own definition). A random direction ``u`` holds next to none of the residual
    stream, so that removing its component would change next to nothing and control nothing. In
    every position the control therefore moves the residual stream along ``u``, towards the side
    away from its own component, by ``alpha * |h . v|``: what ablating the learned ``v`` with the
    same alpha would take away there. Where the component along ``u`` is the smaller one, it
    comes out with the other sign.

    Raises:
        SteeringError: there is no direction of that name for the layer, or no learned one that
            a control which ablates is matched to; or what is given is no direction.
    """
    if cell.is_baseline:
        return None
    direction = _direction(cell, cell.direction, directions)
    if cell.intervention == "add":
        coefficient = cell.alpha * alpha_unit * direction.residual_norm
        return Steering(cell.layer, "add", coefficient, direction.vector.float())
    measured = None
    if is_control(cell.direction):
        measured = _direction(cell, LEARNED, directions).vector.float()
    return Steering(cell.layer, "ablate", cell.alpha, direction.vector.float(), measured)


def _direction(cell: Cell, name: str, directions: Directions) -> Direction:
    if not isinstance(directions, Mapping):
        raise SteeringError(
            f"directions: found a {type(directions).__name__}, expected a mapping by (name, "
            f"layer), such as {{({name!r}, {cell.layer}): direction}}"
        )
    direction = directions.get((name, cell.layer))
    if direction is None:
        odd = [key for key in directions if not (isinstance(key, tuple) and len(key) == 2)]
        if odd:
            raise SteeringError(
                f"directions: found the key {odd[0]!r}, expected (name, layer), such as "
                f"({name!r}, {cell.layer})"
            )
        known = ", ".join(f"{name!r} at layer {layer}" for name, layer in sorted(directions))
        raise SteeringError(
            f"cell {cell.id}: no direction {name!r} for layer {cell.layer}, "
            f"expected one of: {known or 'none given'}"
        )
    check_is_direction(direction, f"direction {name!r} for layer {cell.layer}")
    return direction


class RowSteering:
    """One steering per row of a batch, applied without a loop over rows.

    Rows that are not steered at a layer keep their residual stream bit for bit.

    Args:
        n_rows: rows of the batch.
        d_model: width of the residual stream.
        device: where the residual stream is.
        dtype: the residual stream's; the arithmetic is done in it.
    """

    def __init__(self, n_rows: int, d_model: int, device: torch.device, dtype: torch.dtype) -> None:
        self._vector = torch.zeros(n_rows, 1, d_model, device=device, dtype=dtype)
        self._added = torch.zeros(n_rows, 1, d_model, device=device, dtype=dtype)
        self._ablated = torch.zeros(n_rows, 1, 1, device=device, dtype=dtype)
        self._measured = torch.zeros(n_rows, 1, d_model, device=device, dtype=dtype)
        self._is_matched = torch.zeros(n_rows, 1, 1, device=device, dtype=torch.bool)
        self._layer_of_row = torch.full((n_rows, 1, 1), -1, device=device, dtype=torch.long)
        self._rows: list[Steering | None] = [None] * n_rows

    @property
    def layers(self) -> set[int]:
        """Layers at which some row is steered now."""
        return {row.layer for row in self._rows if row is not None}

    def set_row(self, row: int, steering: Steering | None) -> None:
        """Steer a row from now on; ``None`` leaves it alone."""
        self._rows[row] = steering
        self._vector[row] = 0
        self._added[row] = 0
        self._ablated[row] = 0
        self._measured[row] = 0
        self._is_matched[row] = False
        self._layer_of_row[row] = -1
        if steering is None:
            return
        self._layer_of_row[row] = steering.layer
        if steering.intervention == "add":
            self._added[row, 0] = (steering.coefficient * steering.vector).to(self._added)
        else:
            self._vector[row, 0] = steering.vector.to(self._vector)
            self._ablated[row] = steering.coefficient
        if steering.measured is not None:
            self._measured[row, 0] = steering.measured.to(self._measured)
            self._is_matched[row] = True

    def move_row(self, source: int, target: int) -> None:
        """Let ``target`` be steered as ``source`` is, and ``source`` no more."""
        self.set_row(target, self._rows[source])
        self.set_row(source, None)

    def apply(self, layer: int, residual: torch.Tensor) -> torch.Tensor:
        """Steer a block's output.

        Args:
            layer: the block.
            residual: ``[rows, position, d_model]``; the first rows of the batch, or all.

        Returns:
            The steered residual stream, same shape.
        """
        n = residual.shape[0]
        vector = self._vector[:n]
        component = (residual * vector).sum(dim=-1, keepdim=True)
        if any(row is not None and row.measured is not None for row in self._rows[:n]):
            of_learned = (residual * self._measured[:n]).sum(dim=-1, keepdim=True)
            matched = of_learned.abs() * component.sign()
            component = torch.where(self._is_matched[:n], matched, component)
        steered = residual + self._added[:n] - (self._ablated[:n] * component) * vector
        return torch.where(self._layer_of_row[:n] == layer, steered, residual)
