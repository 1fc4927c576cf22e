"""Score layers for a new model without generating.

What is screened is the first response tokens only, so a screen chooses what to test; it shows
nothing about the text that follows, and favours late layers, which act on the next token most
directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steering_reliability.cells import LEARNED, Cell
from steering_reliability.directions.direction import Direction, check_is_direction
from steering_reliability.directions.residuals import Continued
from steering_reliability.engine import generate
from steering_reliability.engine.forced import first_token_log_odds, kl_from_unsteered
from steering_reliability.engine.measures import opening_tokens
from steering_reliability.engine.requests import checked_steering
from steering_reliability.errors import SteeringError
from steering_reliability.interventions import Directions, Steering
from steering_reliability.models.loaded import LoadedModel
from steering_reliability.prompts import Prompt, check_are_prompts
from steering_reliability.statistics import bootstrap_bounds

SCREEN_COLUMNS = (
    "direction",
    "layer",
    "alpha",
    "n_harmful",
    "n_benign",
    "refusal_log_odds_rise",
    "rise_low",
    "rise_high",
    "benign_kl",
    "score",
)

MIN_PROMPTS = 5
# Nats. Below this the benign change is nothing a user could notice, and dividing by it would rank
# the layers that do least first.
_LEAST_KL = 0.01


def screen(
    model: LoadedModel,
    directions: Directions | Sequence[Direction],
    harmful: Sequence[Prompt],
    benign: Sequence[Prompt],
    *,
    alphas: Sequence[float] = (2.0,),
    alpha_unit: float | None = None,
    benign_tokens: int = 3,
) -> pd.DataFrame:
    """Rank layers and alphas by what adding the direction does to the first response tokens.

    ``refusal_log_odds_rise`` is the mean rise, over harmful prompts, of the first-token log-odds
    of refusal: of the profile's refusal openings against its compliance openings at the first
    response token, in nats, with a 95% bootstrap interval over prompts. ``benign_kl`` is
    KL(unsteered || steered) of the next token over the whole vocabulary, in nats, averaged over the
    first ``benign_tokens`` tokens of the unsteered model's own greedy response, then over benign
    prompts.

    ``score``, by which rows are sorted, is the bound of the rise nearer to no effect, counted in
    the direction that the alpha's sign is meant for, divided by ``sqrt(max(benign_kl, 0.01))``.
    For small alphas the rise grows with alpha and KL with its square, so the ratio compares layers
    on which one alpha is not equally strong. A score of 0 or less means no effect was shown. The
    rule is this suite's own, and not fitted to any model.

    Use prompts that the directions weren't learned from and that no later test is judged on.

    Args:
        model: from :func:`steering_reliability.load_model`.
        directions: by (name, layer); or directions alone, one per layer, which are then called
            ``"learned"``. ``learn_directions`` gives those of all layers in one pass.
        harmful: prompts to refuse, at least 5.
        benign: prompts to answer, at least 5.
        alphas: strengths in alpha units, none of them 0.
        alpha_unit: one unit of alpha as a share of the layer's median residual norm; the model
            profile's by default.
        benign_tokens: response positions that KL is averaged over, 1 or more.

    Returns:
        Columns `SCREEN_COLUMNS`, one row per direction and alpha, best first.

    Raises:
        SteeringError: too few prompts, no directions or several for one layer, an alpha of 0, a
            direction that doesn't fit the model, or a context that the model can't hold.
    """
    by_name = _by_name(directions)
    _check(harmful, benign, alphas, benign_tokens)
    unit = model.profile.alpha_unit if alpha_unit is None else alpha_unit
    cells = [Cell(layer, "add", alpha, name) for name, layer in by_name for alpha in alphas]
    steerings = [checked_steering(model, cell, by_name, unit) for cell in cells]
    encoded = [model.encode(prompt.text) for prompt in harmful]
    log_odds = first_token_log_odds(model, encoded, [None, *steerings], opening_tokens(model))
    rises = (log_odds[:, 1:] - log_odds[:, :1]).T.numpy()
    low, high = bootstrap_bounds(rises)
    kl = benign_kl(model, benign, steerings, benign_tokens).mean(axis=0)
    upwards = np.array([cell.alpha > 0 for cell in cells])
    table = pd.DataFrame(
        {
            "direction": [cell.direction for cell in cells],
            "layer": [cell.layer for cell in cells],
            "alpha": [cell.alpha for cell in cells],
            "n_harmful": len(harmful),
            "n_benign": len(benign),
            "refusal_log_odds_rise": rises.mean(axis=1),
            "rise_low": low,
            "rise_high": high,
            "benign_kl": kl,
            "score": np.where(upwards, low, -high) / np.sqrt(np.maximum(kl, _LEAST_KL)),
        }
    )
    ranked = table.sort_values(
        ["score", "layer", "alpha"], ascending=[False, True, True], ignore_index=True
    )
    return ranked[list(SCREEN_COLUMNS)]


def _by_name(directions: Directions | Sequence[Direction]) -> Directions:
    if isinstance(directions, Mapping):
        named = dict(directions)
    else:
        for direction in directions:
            check_is_direction(direction, "directions")
        named = {(LEARNED, direction.layer): direction for direction in directions}
        if len(named) < len(directions):
            raise SteeringError(
                "directions: found several for one layer, expected one each, or a mapping by "
                "(name, layer)"
            )
    if not named:
        raise SteeringError("directions: found none, expected at least one to screen")
    return named


def _check(
    harmful: Sequence[Prompt],
    benign: Sequence[Prompt],
    alphas: Sequence[float],
    benign_tokens: int,
) -> None:
    for name, prompts in (("harmful", harmful), ("benign", benign)):
        if len(prompts) < MIN_PROMPTS:
            raise SteeringError(
                f"{name}: found {len(prompts)} prompts, expected at least {MIN_PROMPTS}: an "
                "interval over fewer says nothing"
            )
        check_are_prompts(prompts, name)
    if not alphas or 0 in alphas:
        raise SteeringError(
            f"alphas: found {list(alphas)}, expected at least one, and none of them 0: every "
            "row is compared with the unsteered model anyway"
        )
    if benign_tokens < 1:
        raise SteeringError(f"benign_tokens: found {benign_tokens}, expected 1 or more")


def benign_kl(
    model: LoadedModel,
    prompts: Sequence[Prompt],
    steerings: Sequence[Steering | None],
    n_tokens: int,
) -> NDArray[np.float64]:
    """KL(unsteered || steered) of the next token, averaged along the unsteered response.

    Args:
        model: the model.
        prompts: benign prompts.
        steerings: what to compare with the unsteered model.
        n_tokens: first tokens of the unsteered model's greedy response, 1 or more.

    Returns:
        ``[n_prompts, n_steerings]``, in nats.

    Raises:
        SteeringError: a context that the model can't hold.
    """
    unsteered = generate(
        model, prompts, [Cell(0, "add", 0)], {}, max_new_tokens=n_tokens, slots=len(prompts)
    )
    requests, within = [], []
    for prompt, completion in zip(prompts, unsteered, strict=True):
        said = completion.token_ids[: n_tokens - 1]
        filling = [0] * (n_tokens - 1 - len(said))
        requests.append(Continued(model.encode(prompt.text), [[*said, *filling]]))
        # The end of turn is the last thing a short response says.
        within.append([position <= len(said) for position in range(n_tokens)])
    kl = kl_from_unsteered(model, requests, steerings).numpy()
    weights = np.array(within, dtype=float)[:, None]
    along: NDArray[np.float64] = (kl * weights).sum(axis=2) / weights.sum(axis=2)
    return along
