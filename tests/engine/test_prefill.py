"""Steered prompts share what lies below the steered block, bit for bit."""

from __future__ import annotations

import pytest
import torch

from steering_reliability.cells import Cell
from steering_reliability.engine.cache import Prefix
from steering_reliability.engine.prefill import Prefiller
from steering_reliability.engine.requests import GenerationSettings
from steering_reliability.interventions import RowSteering
from tests.engine.reference import plan
from tests.tiny_models import FAMILIES, N_LAYERS, load_tiny

ALL = GenerationSettings(max_new_tokens=4, positions="all", slots=8)
CELLS = [Cell(layer, "add", alpha) for layer in (0, 2, N_LAYERS - 1) for alpha in (2, 8)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_steered_prompt_has_the_bits_of_one_computed_whole(family: str) -> None:
    model = load_tiny(family)
    requests = plan(model, CELLS, ALL)
    prefiller = Prefiller(model, "all", max(len(r.tokens) for r in requests))
    with torch.inference_mode():
        for request in requests:
            _, found = prefiller.prefixes_of(request)
            steering = RowSteering(1, model.d_model, model.device, model.dtype)
            steering.set_row(0, request.steering)
            whole = prefiller._compute(request.tokens[:-1], Prefix((), ()), steering)
            for mine, theirs in zip(
                (*found.keys, *found.values), (*whole.keys, *whole.values), strict=True
            ):
                assert torch.equal(mine, theirs)


def test_blocks_up_to_the_steered_one_run_once_per_prompt() -> None:
    model = load_tiny("llama")
    requests = plan(model, CELLS, ALL)
    prompts = len({request.tokens for request in requests})
    layers = len({cell.layer for cell in CELLS})
    calls = [0] * N_LAYERS
    handles = [
        block.self_attn.register_forward_hook(
            lambda *_, index=index: calls.__setitem__(index, calls[index] + 1)
        )
        for index, block in enumerate(model.blocks)
    ]
    prefiller = Prefiller(model, "all", max(len(r.tokens) for r in requests))
    with torch.inference_mode():
        for request in requests:
            prefiller.prefixes_of(request)
    for handle in handles:
        handle.remove()
    # Once unsteered per layer that is steered; block 3 also for the cells steered below it.
    assert calls[0] == prompts * layers
    assert calls[3] == prompts * (layers + 4)
