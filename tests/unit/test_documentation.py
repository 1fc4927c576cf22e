"""What experiments/README.md lists is all there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from steering_reliability.claims import CLAIM_SETTINGS, ClaimSettings
from steering_reliability.config import ModelProfile
from steering_reliability.results.summary import SUMMARY_COLUMNS

README = (Path(__file__).parents[2] / "experiments" / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("claim", CLAIM_SETTINGS)
def test_every_claim_is_named_with_its_margins(claim: str) -> None:
    (row,) = (line for line in section("Claims").splitlines() if line.startswith(f"| `{claim}` |"))
    for key, field in CLAIM_SETTINGS[claim].model_fields.items():
        if key not in ClaimSettings.model_fields:
            found = re.search(rf"`{key}: ([^`]*)`", row)
            assert found, key
            stated = found[1].strip("[]").split(", ")
            given = field.default if isinstance(field.default, tuple) else (field.default,)
            for text, value in zip(stated, given, strict=True):
                assert value == text if isinstance(value, str) else value == float(text)


@pytest.mark.parametrize("column", SUMMARY_COLUMNS)
def test_every_column_of_summary_csv_is_named(column: str) -> None:
    assert f"`{column}`" in section("Columns of summary.csv")


@pytest.mark.parametrize("key", ModelProfile.model_fields)
def test_every_key_of_a_profile_is_named(key: str) -> None:
    assert f"`{key}`" in section("Models")
