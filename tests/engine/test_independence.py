"""A completion depends on its request alone: mates, order, restarts, threads, slots."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steering_reliability.cells import Cell, Intervention
from steering_reliability.completions import Completion
from steering_reliability.engine import generate, make_engine, scheduler
from steering_reliability.engine.attention import KEY_STEP, round_up_keys, slot_attention
from steering_reliability.engine.cache import Prefix, SlotCache, _SlotLayer
from steering_reliability.engine.measures import RowMeasures
from steering_reliability.engine.prefill import Prefiller
from steering_reliability.engine.requests import GenerationSettings, Positions, Request
from steering_reliability.engine.scheduler import SlotEngine
from steering_reliability.interventions import Steering
from steering_reliability.prompts import Prompt
from tests.engine.reference import BASELINE, PROMPTS, STEERED, drain, plan, random_directions, run
from tests.tiny_models import load_tiny

# Beyond float32, as a large residual stream is beyond float16.
OVERFLOW = Cell(1, "add", 1e40)
MATES = GenerationSettings(max_new_tokens=6, slots=4)
MANY_PROMPTS = [Prompt(id=f"p{n}", text="abcdefghijklm"[: 1 + n] * (1 + n % 3)) for n in range(6)]


@functools.cache
def reference_run(family: str) -> tuple[list[Request], dict[str, Completion]]:
    model = load_tiny(family)
    requests = plan(model, [BASELINE, *STEERED], MATES, MANY_PROMPTS)
    return requests, run(model, requests, MATES)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("positions", ["response", "all"])
def test_alpha_0_is_bit_for_bit_the_unsteered_model(positions: Positions) -> None:
    model = load_tiny("llama")
    given_settings = GenerationSettings(max_new_tokens=8, positions=positions, slots=4)
    alone = run(model, plan(model, [BASELINE], given_settings), given_settings)
    unsteered = list(alone.values())

    beside = run(model, plan(model, [*STEERED, BASELINE], given_settings), given_settings)
    assert [beside[c.key].token_ids for c in unsteered] == [c.token_ids for c in unsteered]
    assert [beside[c.key].measurements for c in unsteered] == [c.measurements for c in unsteered]


@pytest.mark.parametrize("intervention", ["add", "ablate"])
def test_steering_by_nothing_is_bit_for_bit_the_unsteered_model(intervention: Intervention) -> None:
    model = load_tiny("llama")
    given_settings = GenerationSettings(max_new_tokens=8, slots=4)
    requests = plan(model, [BASELINE], given_settings)
    nothing = Steering(2, intervention, 0.0, random_directions(model)["learned", 2].vector)
    through_the_operator = [replace(request, steering=nothing) for request in requests]
    assert run(model, through_the_operator, given_settings) == run(model, requests, given_settings)


def test_cells_at_alpha_0_share_one_completion() -> None:
    model = load_tiny("llama")
    cells = [Cell(0, "add", 0), Cell(3, "ablate", 0)]
    given_settings = GenerationSettings(slots=4)
    assert len(plan(model, cells, given_settings)) == len(PROMPTS)
    completions = generate(
        model, PROMPTS, cells, random_directions(model), max_new_tokens=2, slots=4
    )
    assert [c.cell for c in completions] == [cell for cell in cells for _ in PROMPTS]
    assert [c.prompt_id for c in completions] == 2 * [prompt.id for prompt in PROMPTS]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_subset_order_and_restart_gives_the_same_bits(family: str, data: st.DataObject) -> None:
    requests, reference = reference_run(family)
    model = load_tiny(family)
    chosen = data.draw(
        st.lists(st.sampled_from(requests), min_size=1, max_size=12, unique_by=lambda r: r.key)
    )
    first = data.draw(st.integers(0, len(chosen)), label="submitted at once")
    steps = data.draw(st.integers(0, 14), label="steps before the restart")
    longest = max(len(request.tokens) for request in chosen)

    engine = make_engine(model, MATES, longest)
    engine.submit(chosen[:first])
    done: dict[str, Completion] = {}
    for step in range(steps):
        if step == 3:
            engine.submit(chosen[first:])
        done.update((c.key, c) for c in engine.pump())
    rest = [request for request in chosen if request.key not in done]
    if rest:
        done.update(run(model, rest, MATES))

    assert done == {request.key: reference[request.key] for request in chosen}


def test_threads_do_not_change_a_bit(threads: None) -> None:
    model = load_tiny("llama", chat=False)
    # Prompts of every length modulo the steps in which products are computed.
    prompts = [Prompt(id=f"p{n}", text="x" * n) for n in range(1, 17)]
    given_settings = GenerationSettings(max_new_tokens=3, slots=8)
    requests = plan(model, [BASELINE, STEERED[0]], given_settings, prompts)
    runs = []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        runs.append(run(model, requests, given_settings))
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("heads", "key_heads", "d_head"), [(9, 3, 64), (4, 4, 8), (4, 2, 8), (8, 1, 64), (8, 2, 128)]
)
def test_masked_room_behind_a_row_does_not_change_its_attention(
    heads: int, key_heads: int, d_head: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(4, heads, 1, d_head, generator=generator)
    blocks_of_rows = (512 // KEY_STEP, 4, key_heads)
    keys = torch.randn(*blocks_of_rows, KEY_STEP, d_head, generator=generator)
    values = torch.randn(*blocks_of_rows, KEY_STEP, d_head, generator=generator)
    module = torch.nn.Identity()
    for valid in (5, 100, 200):
        outputs = []
        for n_keys in range(round_up_keys(valid), 513, KEY_STEP):
            ahead = (torch.arange(n_keys) >= valid).expand(4, 1, 1, n_keys)
            mask = torch.zeros(4, 1, 1, n_keys).masked_fill(ahead, -torch.inf)
            blocks = slice(n_keys // KEY_STEP)
            outputs.append(slot_attention(module, query, keys[blocks], values[blocks], mask)[0])
        assert all(torch.equal(output, outputs[0]) for output in outputs)


def test_a_row_that_overflows_leaves_nothing_behind() -> None:
    model = load_tiny("llama")
    for temperature in (0.0, 1.0):
        given_settings = GenerationSettings(
            max_new_tokens=4, temperature=temperature, positions="all", slots=4
        )
        good = plan(model, [BASELINE, STEERED[0]], given_settings)
        bad = plan(model, [OVERFLOW], given_settings)
        done = run(model, [*bad, *good], given_settings)
        broken = [done[request.key].measurements["mean_logprob"] for request in bad]
        assert all(math.isnan(value) for value in broken)
        assert {request.key: done[request.key] for request in good} == run(
            model, good, given_settings
        )


def test_slots_are_refilled_and_completions_keep_their_requests() -> None:
    model = load_tiny("gpt2")
    prompts = [Prompt(id=f"p{n}", text="word " * n) for n in range(1, 12)]
    given_settings = GenerationSettings(max_new_tokens=5, slots=4)
    requests = plan(model, [BASELINE, *STEERED], given_settings, prompts)
    engine = SlotEngine(model, given_settings, max(len(r.tokens) for r in requests))
    engine.submit(requests)
    assert engine.pending == len(requests) == 66
    done = drain(engine)
    assert engine.pending == 0
    assert engine.pump() == []
    by_key = {request.key: request for request in requests}
    assert done.keys() == by_key.keys()
    for key, completion in done.items():
        assert completion.prompt_id == by_key[key].prompt_id
        assert completion.cell == by_key[key].cell
    n_tokens = sum(len(c.token_ids) + (c.finish_reason == "stop") for c in done.values())
    # Slots stand empty only once the queue is empty: for less than one completion's length.
    assert engine.steps <= n_tokens / 4 + 5


def test_fewer_rows_at_the_tail_give_the_same_completions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load_tiny("llama")
    given_settings = GenerationSettings(max_new_tokens=8, slots=16)
    requests = plan(model, [BASELINE, *STEERED], given_settings, MANY_PROMPTS)[:16]
    moves: list[tuple[int, int]] = []
    move = SlotEngine._move

    def counted(engine: SlotEngine, source: int, target: int) -> None:
        moves.append((source, target))
        move(engine, source, target)

    def staggered() -> dict[str, Completion]:
        """Rows 10 to 15 begin later, and are the ones left at the tail."""
        engine = SlotEngine(model, given_settings, max(len(r.tokens) for r in requests))
        engine.submit(requests[:10])
        done = {c.key: c for _ in range(3) for c in engine.pump()}
        engine.submit(requests[10:])
        return done | drain(engine)

    monkeypatch.setattr(SlotEngine, "_move", counted)
    with monkeypatch.context() as patch:
        patch.setattr(SlotEngine, "_may_halve", lambda *_: False)
        fixed = staggered()
    assert not moves
    # Whatever this machine allows must not change a bit.
    assert staggered() == fixed
    moves.clear()
    with monkeypatch.context() as patch:
        patch.setattr(scheduler.torch, "allclose", lambda *_, **__: True)
        shrunk = staggered()
    assert moves
    for key, completion in fixed.items():
        assert shrunk[key].token_ids == completion.token_ids
        assert shrunk[key].measurements == pytest.approx(completion.measurements, abs=1e-5)


def test_a_batch_is_halved_only_where_that_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And where it doesn't, the attempt leaves nothing behind."""
    model = load_tiny("llama")
    given_settings = GenerationSettings(max_new_tokens=8, slots=16)
    requests = plan(model, [BASELINE], given_settings, MANY_PROMPTS)[:3]
    sizes: list[int] = []
    update = _SlotLayer.update

    def differently(layer: _SlotLayer, keys: torch.Tensor, *rest: Any) -> Any:
        steps = keys.shape[2] == 1
        sizes.append(len(keys) if steps else 0)
        return update(layer, keys * 1.01 if sizes[-1] == 8 else keys, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(SlotEngine, "_may_halve", lambda *_: False)
        fixed = run(model, requests, given_settings)
    monkeypatch.setattr(_SlotLayer, "update", differently)
    assert run(model, requests, given_settings) == fixed
    # Tried once, and given up.
    assert sizes.count(8) == model.n_layers


def test_a_row_holds_the_beginning_that_it_was_given_last() -> None:
    """Whatever it was overwritten by: another beginning, another row, or nothing."""

    def prefix(n: int) -> Prefix:
        return Prefix((torch.randn(1, n, 4),), (torch.randn(1, n, 4),))

    def held(row: int) -> Prefix:
        return cache.read(row, 0, one.length)

    def same(found: Prefix, expected: Prefix) -> bool:
        pairs = zip(found.keys + found.values, expected.keys + expected.values, strict=True)
        return all(torch.equal(a, b) for a, b in pairs)

    def begin(rows: int) -> None:
        cache.begin(torch.full((rows, 1), one.length))

    one, other = prefix(5), prefix(5)
    cache = SlotCache(1, 2, KEY_STEP, torch.device("cpu"))
    for row, beginning in ((0, one), (1, other), (1, one), (1, other), (0, other), (0, one)):
        cache.set_beginning(row, beginning)
        begin(2)
        assert same(held(0 if cache.n_common else row), beginning)
    cache.move_row(1, 0)
    cache.set_beginning(0, one)
    begin(2)
    assert same(held(0), one)
    cache.empty_rows(slice(0, 1))
    cache.set_beginning(0, one)
    begin(2)
    assert same(held(0), one)
    cache.park(0)
    assert cache.positions[0] == one.length


def test_only_the_first_row_holds_what_all_begin_with() -> None:
    """Until one begins otherwise; a row that nothing has entered yet begins with anything."""
    one = Prefix((torch.randn(1, 5, 4),), (torch.randn(1, 5, 4),))
    other = Prefix((torch.randn(1, 3, 4),), (torch.randn(1, 3, 4),))
    cache = SlotCache(1, 4, KEY_STEP, torch.device("cpu"))

    def n_common(rows: int) -> int:
        cache.begin(torch.full((rows, 1), one.length))
        return cache.n_common

    def holds(row: int, prefix: Prefix) -> bool:
        return torch.equal(cache.read(row, 0, prefix.length).keys[0], prefix.keys[0])

    assert n_common(4) == 0
    for row in (0, 1):
        cache.set_beginning(row, one)
    assert n_common(4) == one.length
    assert holds(0, one)
    assert holds(1, one) is not cache.is_compiled
    cache.set_beginning(2, other)
    assert n_common(2) == one.length
    assert n_common(3) == 0
    assert holds(1, one)
    assert holds(2, other)


@pytest.mark.parametrize("emptied", [False, True])
def test_the_first_row_may_be_another(emptied: bool) -> None:
    """Moved onto, though what is moved holds no beginning; or emptied, as what overflowed is."""
    one = Prefix((torch.randn(1, 5, 4),), (torch.randn(1, 5, 4),))
    cache = SlotCache(1, 3, KEY_STEP, torch.device("cpu"))
    positions = torch.full((3, 1), one.length)
    for row in range(3):
        cache.set_beginning(row, one)
    cache.begin(positions)
    if emptied:
        cache.empty_rows(slice(0, 1))
    else:
        cache.move_row(2, 0)
    cache.begin(positions)
    read = 0 if cache.n_common else 1
    assert torch.equal(cache.read(read, 0, one.length).keys[0], one.keys[0])
    assert cache.n_common == (0 if emptied else one.length)


def test_slots_keep_the_shared_beginning_for_those_alone_that_begin_so() -> None:
    """A slot is taken by prompts with and without it in turn, and stands empty in between."""
    model = load_tiny("llama")
    requests = plan(model, [BASELINE, *STEERED], MATES, MANY_PROMPTS)
    n_shared = len(model.format.shared_prefix)
    assert n_shared > 1
    begins_otherwise = [
        replace(request, key=f"other-{n}", tokens=request.tokens[1:])
        for n, request in enumerate(requests)
    ]
    turns = [one for pair in zip(requests, begins_otherwise, strict=True) for one in pair]
    turns = [*requests, *turns]
    two = replace(MATES, slots=2)
    alone = {r.key: run(model, [r], two)[r.key] for r in turns}
    engine = SlotEngine(model, two, max(len(r.tokens) for r in turns))
    for start in range(0, len(turns), 3):
        together = turns[start : start + 3]
        engine.submit(together)
        assert drain(engine) == {request.key: alone[request.key] for request in together}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_prompts_computed_together_are_the_same_as_alone(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny(family)
    given_settings = GenerationSettings(max_new_tokens=4, slots=16)
    prompts = [Prompt(id=f"p{n}", text="abcdefghijklmno"[: 3 + n % 12]) for n in range(40)]
    prompts = list({prompt.text: prompt for prompt in prompts}.values())
    prompts += [Prompt(id=f"q{n}", text=prompt.text[::-1]) for n, prompt in enumerate(prompts)]
    requests = plan(model, [BASELINE], given_settings, prompts)
    longest = max(len(r.tokens) for r in requests)
    together, alone = (Prefiller(model, "response", longest) for _ in range(2))
    groups: list[int] = []
    compute_all = Prefiller._compute_all

    def counted(prefiller: Prefiller, rows: Sequence[Sequence[int]], *rest: Any) -> Any:
        groups.append(len(rows))
        return compute_all(prefiller, rows, *rest)

    with torch.inference_mode():
        monkeypatch.setattr(Prefiller, "_compute_all", counted)
        together.prepare(requests)
        prepared = [together.prefixes_of(request) for request in requests]
        n_groups = len(groups)
        single = [alone.prefixes_of(request) for request in requests]
    assert max(groups[:n_groups]) > 1
    for one, other in zip(prepared, single, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert all(map(torch.equal, mine.keys, theirs.keys))
            assert all(map(torch.equal, mine.values, theirs.values))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_measurements_do_not_depend_on_how_many_rows_there_are(
    n_threads: int, threads: None
) -> None:
    torch.set_num_threads(n_threads)
    model = load_tiny("llama")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(37, 5000, generator=generator)
    chosen = logits.argmax(dim=-1)
    whole = RowMeasures(model, 37)
    whole.update(logits, chosen, torch.ones(37, dtype=torch.long))
    for n in range(4, 37):
        part = RowMeasures(model, 37)
        part.update(logits[:n], chosen[:n], torch.ones(n, dtype=torch.long))
        assert [part.read(row) for row in range(n)] == [whole.read(row) for row in range(n)]


def test_a_prompt_that_cannot_be_computed_leaves_no_request_half_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load_tiny("llama")
    requests = plan(model, [BASELINE, *STEERED], MATES, MANY_PROMPTS)
    engine = SlotEngine(model, MATES, max(len(r.tokens) for r in requests))
    engine.submit(requests)
    prefixes_of = Prefiller.prefixes_of

    def fail_at_third(prefiller: Prefiller, request: Request) -> Any:
        if request is requests[2]:
            raise RuntimeError("out of luck")
        return prefixes_of(prefiller, request)

    with monkeypatch.context() as patch:
        patch.setattr(Prefiller, "prefixes_of", fail_at_third)
        with pytest.raises(RuntimeError, match="out of luck"):
            engine.pump()
    assert engine.pending == len(requests)
    assert drain(engine) == run(model, requests, MATES)
