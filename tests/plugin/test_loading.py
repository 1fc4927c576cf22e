"""While libraries are loaded nothing is collected; afterwards all is as before."""

from __future__ import annotations

import gc

import pytest

from steering_reliability.pytest_plugin.loading import loading


def test_the_collector_rests_meanwhile() -> None:
    assert gc.isenabled()
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), loading():
        raise ZeroDivisionError
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_one_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
