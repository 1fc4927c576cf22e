"""The plugin's parts that need no pytest run."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import execnet
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering_reliability.expectations import Verdict
from steering_reliability.pytest_plugin import transport

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    # Lone surrogates too, which a model's text can hold.
    st.text(st.characters(exclude_categories=())),
    st.floats().map(np.float64),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.booleans().map(np.bool_),
    st.builds(Path, st.text("abc", min_size=1)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner), st.tuples(inner), st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_whatever_is_wired_can_be_sent(value: Any) -> None:
    wired = transport.to_wire(value)
    again = execnet.loads(execnet.dumps(wired))
    assert repr(again) == repr(wired)
    assert repr(transport.to_wire(wired)) == repr(wired)


def test_verdicts_cross_the_wire_unchanged() -> None:
    verdict = Verdict(
        claim="coherence",
        target="layer1-add-alpha2",
        outcome="inconclusive",
        estimate=0.25,
        low=-0.5,
        high=math.inf,
        confidence=0.95,
        n=6,
        p_value=0.5,
        message="a sentence",
        required=True,
        prompts_to_settle=44,
        details={"layer": 1, "bounds": "one-sided"},
    )
    sent, received = SimpleNamespace(), SimpleNamespace()
    transport.attach(sent, "smoke", [verdict])  # type: ignore[arg-type]
    record = execnet.loads(execnet.dumps(sent.steering))
    setattr(received, transport.REPORT_ATTRIBUTE, record)
    assert transport.verdicts_of(received) == ("smoke", [verdict])
    assert transport.verdicts_of(SimpleNamespace()) is None


@pytest.mark.parametrize("value", [np.float64(0.1), np.int64(3), np.bool_(True)])
def test_numbers_of_numpy_become_their_python_twins(value: Any) -> None:
    wired = transport.to_wire(value)
    assert wired == value.item()
    assert type(wired) is type(value.item())
