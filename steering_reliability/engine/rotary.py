"""Rotary position embeddings, computed on a CPU at once.

Torch takes ten operations over all rows for queries and keys, each of which waits for the
interpreter and for memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn

from steering_reliability.engine.openmp import COMPILED_DTYPES, can_be_compiled, has_code_for
from steering_reliability.models.forwards import once_per_model

# What transformers calls it in every file of a model that has it.
_NAME = "apply_rotary_pos_emb"


@contextmanager
def compiled_rotations(hf_model: nn.Module) -> Iterator[None]:
    """Let a model's queries and keys be turned by compiled code, and then as before.

    Its function is told by what it computes, bit for bit, since there are others of the same name.
    """
    replaced = []
    try:
        for file in _files_with_it(hf_model):
            function = vars(file)[_NAME]
            if not _is_replaced(function):
                vars(file)[_NAME] = partial(_rotation, function)
                replaced.append((file, function))
        yield
    finally:
        for file, function in replaced:
            vars(file)[_NAME] = function


def _is_replaced(function: Any) -> bool:
    return isinstance(function, partial) and function.func is _rotation


@once_per_model
def _files_with_it(hf_model: nn.Module) -> list[ModuleType]:
    if not has_code_for(next(hf_model.parameters())):
        return []
    found = []
    names = {type(module).__module__ for module in hf_model.modules()}
    for name in sorted(names):
        function: Any = getattr(sys.modules.get(name), _NAME, None)
        if _is_replaced(function):
            function = function.args[0]
        if function is not None and all(_is_rotation(function, of) for of in COMPILED_DTYPES):
            found.append(sys.modules[name])
    return found


@torch.inference_mode()
def _is_rotation(function: Callable[..., Any], dtype: torch.dtype) -> bool:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 3, 8), (2, 2, 3, 8), (2, 3, 8), (2, 3, 8))
    given = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    try:
        expected = [*function(*given)]
    except Exception:  # A stranger's function, which may want anything.
        return False
    alike = len(expected) == 2 and all(isinstance(turned, torch.Tensor) for turned in expected)
    return alike and all(map(torch.equal, expected, _rotation(function, *given)))


def _rotation(before: Callable[..., Any], *given: Any, **named: Any) -> Any:
    if named or not _suits(given):
        return before(*given, **named)
    # Here, since compiled code takes a while to load.
    from steering_reliability.engine.block_kernels import rotated

    return rotated(*given)


def _suits(given: tuple[Any, ...]) -> bool:
    """Whether these are queries, keys, cosines and sines as :func:`.block_kernels.rotated` wants.

    Where only a part of a head is turned, they aren't.
    """
    if not can_be_compiled(*given) or [tensor.dim() for tensor in given] != [4, 4, 3, 3]:
        return False
    query, key, cos, sin = given
    rows, _, tokens, width = query.shape
    return (
        width % 2 == 0
        and (key.shape[0], *key.shape[2:]) == (rows, tokens, width)
        and cos.shape == sin.shape
        and cos.shape in ((rows, tokens, width), (1, tokens, width))
    )
