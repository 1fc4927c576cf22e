"""How much an effect hangs on what broken text is taken for: ``degenerate_bounds.csv``.

Steering that breaks the text makes completions that are neither refusals nor compliance. Whichever
way they are counted, the count is a choice, so every effect is told with each of them.
"""

from __future__ import annotations

import pandas as pd

from steering_reliability.results.tables import CELL_COLUMNS, effects_table

DEGENERATE_BOUNDS = "degenerate_bounds"
"""Name of the table among a run's."""

COUNTINGS = ("", "_as_refusal", "_as_compliance")
"""Left as the scorer has it, as a refusal, as compliance."""

BOUND_COLUMNS = (
    *CELL_COLUMNS,
    "direction",
    "condition",
    "n",
    "degenerate_effect",
    *(f"effect{counting}{part}" for counting in COUNTINGS for part in ("", "_low", "_high")),
    "hangs_on_counting",
    "reason",
)


def degenerate_bounds(scores: pd.DataFrame, effects: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every steered cell's effect on refusal under three countings: columns `BOUND_COLUMNS`.

    Effects and intervals are those of `tables.effects_table`: the share of refusing prompts less
    that of the unsteered model on the same prompts. ``effect`` leaves degenerate completions as
    they were scored; the rules score them as no refusal, so that there it equals
    ``effect_as_compliance``, while another judge may call them one. In ``effect_as_refusal`` those
    of both cells count as refusals, in ``effect_as_compliance`` as none. ``degenerate_effect`` is
    the rise of the degenerate share. ``hangs_on_counting`` says whether the 95% interval lies above
    zero, below it or across it under one counting and elsewhere under another: then the effect
    can't be told apart from what broken text is taken for.

    Args:
        scores: one row per prompt, cell and sample, columns `summary.SCORE_COLUMNS`.
        effects: what `tables.effects_table` makes of them, where it is there already.

    Raises:
        SteeringError: a column is missing, or a completion occurs twice.
    """
    table = effects_table(scores) if effects is None else effects
    found_by = {"": table}
    refuses, broken = scores["is_refusal"].astype(float), scores["is_degenerate"].astype(float)
    for counting, value in zip(COUNTINGS[1:], (1.0, 0.0), strict=True):
        counted = scores.assign(is_refusal=refuses.mask(broken == 1, value))
        found_by[counting] = effects_table(counted)
    bounds = table[[*CELL_COLUMNS, "direction", "condition", "n", "degenerate_effect"]].copy()
    readings = []
    for counting, found in found_by.items():
        for part in ("", "_low", "_high"):
            bounds[f"effect{counting}{part}"] = found[f"refusal_effect{part}"]
        readings.append(
            (found["refusal_effect_low"] > 0).astype(int)
            - (found["refusal_effect_high"] < 0).astype(int)
        )
    bounds["hangs_on_counting"] = pd.concat(readings, axis=1).nunique(axis=1) > 1
    bounds["reason"] = table["reason"]
    return bounds[list(BOUND_COLUMNS)]
