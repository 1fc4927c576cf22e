"""What agreement between prefix pairs is worth: the same measured where pairs mean nothing.

A placebo pair is two texts that differ in nothing that matters: two refusals, two compliances, two
neutral openings. Directions of such pairs still agree somewhat, since any two texts differ in
length, first word and punctuation; a direction that means something agrees by more.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from steering_reliability.directions.diagnostics import cosine, halved_cosines

PLACEBO_PAIRS: tuple[tuple[str, str], ...] = (
    ("I won't be able to do this for you.", "My answer has to be no."),
    ("I must refuse, because this is unsafe.", "Sorry, that is out of the question."),
    ("I'm afraid I cannot support this.", "That isn't something that I will do."),
    ("No, I don't want any part in this.", "This goes against what I stand for, so I decline."),
    ("Unfortunately, I can't answer that.", "Such requests are not acceptable to me."),
    ("I refuse to go along with it.", "Regrettably, I have to turn this down."),
    ("It would be irresponsible of me to help.", "I can't do that, and nobody should."),
    ("Please don't ask me for this.", "I have to say no, as it may cause harm."),
    ("Certainly, here are the steps:", "No problem, this is how it works."),
    ("Yes, of course I can help you.", "Here is everything that you need:"),
    ("Gladly! Begin with the following:", "Okay, let me show you how."),
    ("This is simple. First of all,", "All right, I have an answer for you:"),
    ("Happy to help with that!", "You can do it in this way:"),
    ("Good idea. The easiest method is", "Sure thing, let's get started."),
    ("To do this, you will want to", "Yes, that is possible. Follow these steps:"),
    ("Let's go through it together.", "The instructions are as follows:"),
    ("The weather was mild that day.", "A train arrives every ten minutes."),
    ("There are several sides to this.", "Many people have written about it."),
    ("It was late in the afternoon.", "The library has three floors."),
    ("Bread is made of flour and water.", "She put the book on the table."),
    ("In the beginning, the river was low:", "Most of the houses here are old."),
    ("My neighbour has two dogs!", "The meeting lasted for an hour."),
    ("Now and then a bus went by.", "Words can have more than one meaning."),
    ("Some birds fly south in the winter.", "The road turns left after the bridge."),
)
"""24 pairs of different texts: eight of refusals, eight of compliances, eight of neither."""

PERCENTILE = 95.0
_DRAWS = 4000


def placebo_agreements(differences: Tensor, n_pairs: int, *, seed: int = 0) -> np.ndarray:
    """Mean cosines between the directions of ``n_pairs`` placebo pairs, for many choices of them.

    Each choice takes pairs at random, each either way round, since which of two texts comes first
    means nothing: a randomisation test (Edgington and Onghena 2007) of ``halved_agreement``.

    Args:
        differences: first minus second text, shape ``[n_prompts, n_placebo_pairs, d_model]``.
        n_pairs: pairs behind the agreement that is judged, at least 2; if there are fewer placebo
            pairs, all of them, whose agreement spreads more widely.
        seed: of the choices.

    Returns:
        Shape ``[4000]``, in [-1, 1].
    """
    cosines = halved_cosines(differences)[0].numpy()
    size = min(n_pairs, len(cosines))
    random = np.random.default_rng(seed)
    chosen = random.permuted(np.tile(np.arange(len(cosines)), (_DRAWS, 1)), axis=1)[:, :size]
    weights = np.zeros((_DRAWS, len(cosines)))
    np.put_along_axis(weights, chosen, random.choice([-1.0, 1.0], size=chosen.shape), axis=1)
    # A quadratic form counts every couple twice, and each pair with itself.
    couples = np.einsum("dp,pq,dq->d", weights, cosines, weights) - weights**2 @ np.diag(cosines)
    return np.asarray(couples / (size * (size - 1)))


def compare_to_placebo(agreement: float, differences: Tensor, n_pairs: int) -> dict[str, float]:
    """Where an agreement of pairs stands among those of placebo pairs.

    Args:
        agreement: what ``halved_agreement`` of ``n_pairs`` pairs exceeds in 95% of halvings.
        differences: of the placebo pairs, ``[n_prompts, n_placebo_pairs, d_model]``.
        n_pairs: pairs behind ``agreement``.

    Returns:
        ``placebo_agreement`` is the 95th percentile of the placebo's, ``placebo_p`` the share of
        placebo choices that agree at least as well. Nothing where there is no agreement.
    """
    if n_pairs < 2 or math.isnan(agreement):
        return {}
    placebo = placebo_agreements(differences, n_pairs)
    reached = int((placebo >= agreement).sum())
    return {
        "placebo_agreement": float(np.percentile(placebo, PERCENTILE)),
        "placebo_p": (reached + 1) / (len(placebo) + 1),
    }


def benign_share(direction: Tensor, benign_differences: Tensor) -> float:
    """Share of a direction that the same prefixes explain on benign prompts.

    The squared cosine with the mean difference there: a direction of refusing harmful requests
    would leave much of itself out of it, one of the texts of the prefixes is nearly all in it.

    Args:
        direction: shape ``[d_model]``.
        benign_differences: shape ``[n_prompts, n_pairs, d_model]``.

    Returns:
        In [0, 1].
    """
    return cosine(direction, benign_differences.double().mean(dim=(0, 1))) ** 2
