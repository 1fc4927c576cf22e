"""Sampling: seeded, paired between cells, and within the nucleus."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_reliability.cells import Cell
from steering_reliability.engine import generate
from steering_reliability.engine.sampling import choose_tokens, greatest, request_noise
from tests.engine.reference import ALPHA_UNIT, BASELINE, PROMPTS, STEERED, random_directions
from tests.tiny_models import load_tiny


def test_samples_differ_and_repeat_with_their_seed() -> None:
    model = load_tiny("llama")

    def sample(seed: int, cell: Cell = BASELINE) -> list[tuple[int, ...]]:
        completions = generate(
            model,
            PROMPTS,
            [cell],
            random_directions(model),
            max_new_tokens=8,
            temperature=1.0,
            samples=2,
            seed=seed,
            alpha_unit=ALPHA_UNIT,
            slots=4,
        )
        assert [(c.prompt_id, c.sample) for c in completions] == [
            (prompt.id, sample) for prompt in PROMPTS for sample in (0, 1)
        ]
        return [c.token_ids for c in completions]

    first = sample(0)
    assert len(set(first)) == len(first)
    assert sample(0) == first
    assert all(a != b for a, b in zip(sample(1), first, strict=True))
    # A steering too weak to matter shows that cells see the same noise.
    assert sample(0, Cell(2, "add", 1e-5)) == first


def test_noise_depends_on_seed_prompt_and_sample_alone() -> None:
    noise = request_noise(3, "p", 1, 20)
    assert noise.shape == (20,)
    assert (noise == request_noise(3, "p", 1, 50)[:20]).all()
    assert ((noise >= 0) & (noise < 1)).all()
    for other in (request_noise(4, "p", 1, 20), request_noise(3, "q", 1, 20)):
        assert (noise != other).all()
    assert (noise != request_noise(3, "p", 0, 20)).all()


def test_sampling_draws_tokens_in_proportion_and_from_the_nucleus_only() -> None:
    probabilities = torch.tensor([0.05, 0.5, 0.15, 0.3])
    noise = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    logits = probabilities.log().expand(1000, 4)

    everything = choose_tokens(logits, noise, 1.0, 1.0).bincount(minlength=4) / 1000
    assert everything.tolist() == pytest.approx(probabilities.tolist(), abs=0.002)
    # 0.5 and 0.3 are the smallest set with at least 0.7 of the mass.
    nucleus = choose_tokens(logits, noise, 1.0, 0.7).bincount(minlength=4) / 1000
    assert nucleus.tolist() == pytest.approx([0, 0.625, 0, 0.375], abs=0.002)
    sharper = choose_tokens(logits, noise, 0.5, 1.0).bincount(minlength=4) / 1000
    squares = probabilities**2 / (probabilities**2).sum()
    assert sharper.tolist() == pytest.approx(squares.tolist(), abs=0.002)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    logits=st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=12),
    noise=st.floats(0, 1, exclude_max=True),
    temperature=st.floats(0.1, 3),
    top_p=st.floats(0.01, 1),
)
def test_a_sampled_token_is_never_outside_the_nucleus(
    logits: list[float], noise: float, temperature: float, top_p: float
) -> None:
    row = torch.tensor([logits])
    token = int(choose_tokens(row, torch.tensor([noise]).double(), temperature, top_p))
    probabilities = torch.softmax(row[0] / temperature, -1).double()
    more_probable = probabilities[probabilities > probabilities[token]].sum()
    assert float(more_probable) < top_p + 1e-6
    greedy = int(choose_tokens(row, torch.tensor([noise]), 0.0, top_p))
    assert logits[greedy] == max(logits)


def test_a_tiny_nucleus_is_greedy() -> None:
    model = load_tiny("llama")
    greedy, sampled = (
        generate(
            model,
            PROMPTS,
            [BASELINE, STEERED[0]],
            random_directions(model),
            max_new_tokens=6,
            temperature=temperature,
            top_p=1e-6,
            alpha_unit=ALPHA_UNIT,
            slots=4,
        )
        for temperature in (0.0, 0.7)
    )
    assert [c.token_ids for c in sampled] == [c.token_ids for c in greedy]


@given(
    n_tokens=st.integers(1, 1100),
    values=st.lists(st.sampled_from([-0.0, 0.0, 1.0, -math.inf, math.nan]), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_the_greatest_is_torchs_argmax_the_first_of_equals(
    n_tokens: int, values: list[float], seed: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.zeros(2, n_tokens).uniform_(-1, 0.5, generator=generator).to(dtype)
    for value in values:
        logits[0, int(torch.randint(n_tokens, (), generator=generator))] = value
    found = greatest(logits)
    assert found[1] == logits[1].argmax()
    if not logits[0].isnan().any():
        assert found[0] == logits[0].argmax()
    assert 0 <= int(found[0]) < n_tokens
