"""Pure, seeded estimators behind every verdict and table.

This package knows nothing about models, cells or claims: it takes arrays of numbers, one value
per prompt, and gives estimates with intervals. The prompt is the unit of everything; several
samples of a prompt are averaged before they come here. Where there is too little data the
answer is NaN with a reason, never 0.

Only ``scipy.special`` is imported: ``scipy.stats`` and ``statsmodels`` cost a second or two at
import, which every collection would pay. The tests hold the results against both.
"""

from steering_reliability.statistics.agreement import cohen_kappa
from steering_reliability.statistics.estimates import Estimate, critical_value
from steering_reliability.statistics.p_values import (
    gap_permutation,
    holm,
    mcnemar,
    rank_test,
    rivals_to_rank,
    sign_flip,
)
from steering_reliability.statistics.rates import (
    difference_of_estimates,
    mover_bounds,
    newcombe_bounds,
    paired_difference,
    rate,
    unpaired_difference,
    wilson,
    wilson_bounds,
)
from steering_reliability.statistics.refits import refitted_mean
from steering_reliability.statistics.sample_size import (
    MOST_PROMPTS,
    planning_rate,
    prompts_for_difference,
    prompts_for_gap,
    prompts_for_rate,
    prompts_for_slope,
)
from steering_reliability.statistics.trends import (
    bootstrap_bounds,
    bootstrap_weights,
    prompt_slopes,
    trend,
)

__all__ = [
    "MOST_PROMPTS",
    "Estimate",
    "bootstrap_bounds",
    "bootstrap_weights",
    "cohen_kappa",
    "critical_value",
    "difference_of_estimates",
    "gap_permutation",
    "holm",
    "mcnemar",
    "mover_bounds",
    "newcombe_bounds",
    "paired_difference",
    "planning_rate",
    "prompt_slopes",
    "prompts_for_difference",
    "prompts_for_gap",
    "prompts_for_rate",
    "prompts_for_slope",
    "rank_test",
    "rate",
    "refitted_mean",
    "rivals_to_rank",
    "sign_flip",
    "trend",
    "unpaired_difference",
    "wilson",
    "wilson_bounds",
]
