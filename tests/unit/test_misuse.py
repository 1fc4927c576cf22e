"""Wrong arguments in Python: one line that says what was found and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import steering_reliability as sr
from tests.tiny_models import D_MODEL, load_tiny

PROMPTS = [sr.Prompt(f"p{number}", f"Sell {number} kettles.") for number in range(5)]
CELLS = [sr.Cell(1, "add", 2)]
VECTOR = torch.nn.functional.normalize(torch.ones(D_MODEL), dim=0)
DIRECTION = sr.Direction(VECTOR, 1, 1.0, 1.0)
NAMED = {("learned", 1): DIRECTION}
BARE = {("learned", 1): VECTOR}
NO_PROMPTS = "found 'hello', expected a list of Prompt; load_prompts reads one, Prompt(id, text) "


@pytest.fixture(scope="module")
def model() -> sr.LoadedModel:
    return load_tiny()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda m: sr.generate(m, ["hello"], CELLS, NAMED), f"prompts: {NO_PROMPTS}"),
        (lambda m: sr.learn_direction(m, ["hello"], 1), f"prompts: {NO_PROMPTS}"),
        (lambda m: sr.refusal_log_odds(m, ["hello"], CELLS, NAMED), f"prompts: {NO_PROMPTS}"),
        (lambda m: sr.screen(m, NAMED, ["hello"] * 5, PROMPTS), f"harmful: {NO_PROMPTS}"),
        (lambda m: sr.screen(m, NAMED, PROMPTS, ["hello"] * 5), f"benign: {NO_PROMPTS}"),
        (
            lambda m: sr.generate(m, PROMPTS, CELLS, BARE),
            "direction 'learned' for layer 1: found a Tensor, expected a Direction, as "
            "learn_direction gives",
        ),
        (
            lambda m: sr.screen(m, [VECTOR], PROMPTS, PROMPTS),
            "directions: found a Tensor, expected a Direction",
        ),
        (
            lambda m: sr.generate(m, PROMPTS, CELLS, DIRECTION),
            "directions: found a Direction, expected a mapping by (name, layer), such as "
            "{('learned', 1): direction}",
        ),
        (
            lambda m: sr.generate(m, PROMPTS, CELLS, {1: DIRECTION}),
            "directions: found the key 1, expected (name, layer), such as ('learned', 1)",
        ),
        (
            lambda m: sr.generate(m, PROMPTS, CELLS, NAMED, backend="x"),
            "backend: found 'x', expected one of slots, lens",
        ),
        (
            lambda _: sr.load_model("embedded", device="abacus"),
            "device: found 'abacus', which is not available here; expected auto, cpu, cuda or mps",
        ),
        (
            lambda _: sr.load_model("embedded", dtype="int3"),
            "dtype: found 'int3', expected one of float32, bfloat16, float16",
        ),
    ],
)
def test_a_wrong_argument_is_one_line(
    model: sr.LoadedModel, call: Callable[[Any], object], told: str
) -> None:
    with pytest.raises(sr.SteeringError) as caught:
        call(model)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"alpha": "2"}, "alpha: found '2', expected a finite number"),
        ({"alpha": None}, "alpha: found None, expected a finite number"),
        ({"layer": "1"}, "layer: found '1', expected a whole number from 0 on"),
    ],
)
def test_a_cell_of_something_else_than_numbers_is_refused(
    changes: dict[str, Any], told: str
) -> None:
    given: dict[str, Any] = {"layer": 1, "intervention": "add", "alpha": 2}
    with pytest.raises(ValueError, match="found") as caught:
        sr.Cell(**{**given, **changes})
    assert str(caught.value) == told


def test_numbers_of_torch_are_numbers() -> None:
    assert sr.Cell(1, "add", torch.tensor(2.0)) == CELLS[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("a", None), "completion: found None, expected text"), ((1, "a"), "prompt: found 1, ")],
)
def test_only_text_is_scored(arguments: tuple[Any, Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        sr.score(*arguments)
