"""Memory: refused before the run with the numbers, and halved slots where CUDA runs out of it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch

from steering_reliability.engine import make_engine, memory, scheduler
from steering_reliability.engine.attention import round_up_keys
from steering_reliability.engine.requests import GenerationSettings
from steering_reliability.engine.scheduler import SlotEngine
from steering_reliability.errors import SteeringError
from tests.engine.reference import BASELINE, STEERED, drain, plan, run
from tests.tiny_models import FAMILIES, load_tiny

SETTINGS = GenerationSettings(max_new_tokens=6, slots=8)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_need_is_what_the_slots_take(family: str) -> None:
    model = load_tiny(family)
    requests = plan(model, [BASELINE], SETTINGS)
    longest = max(len(request.tokens) for request in requests)
    engine = SlotEngine(model, SETTINGS, longest)
    engine.submit(requests)
    drain(engine)
    held = sum(
        tensor.numel() * tensor.element_size()
        for layer in engine._cache.layers
        for tensor in (layer.keys, layer.values)
        if tensor is not None
    )
    need = memory.memory_need(model, longest + SETTINGS.max_new_tokens)
    logits = model.text_config.vocab_size * 4 * memory._LOGIT_COPIES
    assert held == SETTINGS.slots * (need.per_slot - logits)
    assert round_up_keys(longest + SETTINGS.max_new_tokens) == engine._cache.max_length


def test_slots_that_cannot_fit_are_refused_with_the_count_that_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load_tiny("llama")
    need = memory.memory_need(model, 106)
    monkeypatch.setattr(memory, "free_bytes", lambda _: need.of(5))
    with pytest.raises(SteeringError) as caught:
        make_engine(model, SETTINGS, 100)
    message = str(caught.value)
    assert "generation.slots: 8 slots with a context of 106 tokens need 1.0 GiB" in message
    assert "found 1.0 GiB free on cpu" in message
    assert "set generation.slots: 4" in message
    assert "\n" not in message
    monkeypatch.setattr(memory, "free_bytes", lambda _: need.fixed)
    with pytest.raises(SteeringError, match="shorten prompts"):
        make_engine(model, SETTINGS, 100)
    monkeypatch.setattr(memory, "free_bytes", lambda _: need.of(8))
    make_engine(model, SETTINGS, 100)


def out_of_memory_above(rows: int, after: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let passes of more rows than that fail as CUDA would, once ``after`` of them went well."""
    sizes: list[int] = []
    real = scheduler.forward

    def limited(model: Any, cache: Any, ids: torch.Tensor, *rest: Any, **named: Any) -> Any:
        sizes.append(ids.shape[0])
        if ids.shape[0] > rows and len(sizes) > after:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(model, cache, ids, *rest, **named)

    monkeypatch.setattr(scheduler, "forward", limited)
    return sizes


def test_out_of_memory_halves_the_slots_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_tiny("llama")
    requests = plan(model, [BASELINE, *STEERED], SETTINGS)
    whole = run(model, requests, SETTINGS)
    sizes = out_of_memory_above(2, 3, monkeypatch)
    engine = SlotEngine(model, SETTINGS, max(len(r.tokens) for r in requests))
    engine.submit(requests)
    done = drain(engine)
    assert engine.slots == 2
    assert {8, 4, 2} <= set(sizes)
    assert {key: c.token_ids for key, c in done.items()} == {
        key: c.token_ids for key, c in whole.items()
    }


def test_out_of_memory_with_one_slot_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_tiny("llama")
    requests = plan(model, [BASELINE], SETTINGS)
    out_of_memory_above(0, 0, monkeypatch)
    engine = SlotEngine(model, SETTINGS, max(len(r.tokens) for r in requests))
    engine.submit(requests)
    with pytest.raises(SteeringError, match="out of memory with one slot"):
        drain(engine)
    assert engine.pending == len(requests)


def test_slots_are_given_back_with_the_engine() -> None:
    """At once, not when the garbage collector comes by: they may be gigabytes."""
    model = load_tiny("llama")
    given_settings = GenerationSettings(max_new_tokens=4, slots=16)
    requests = plan(model, [BASELINE], given_settings)
    gc.collect()
    gc.disable()
    try:
        engine = SlotEngine(model, given_settings, max(len(r.tokens) for r in requests))
        engine.submit(requests)
        drain(engine)
        held = [weakref.ref(part) for part in (engine, engine._cache, engine._prefiller)]
        del engine
        assert [part() for part in held] == [None, None, None]
    finally:
        gc.enable()
