"""Choosing the next token: greedy, or from noise that depends on the request alone.

Noise is counter-based (Philox; Salmon et al. 2011), keyed by seed, prompt and sample, and
indexed by position. All cells see the same noise for a prompt, so that differences between
cells are paired.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from steering_reliability.engine.openmp import has_code_for

# Tokens among which the mass of top_p nearly always lies; sorting a whole vocabulary at every step
# would cost more than the model.
_LIKELY = 256
# Tokens of which the greatest is found at once.
_STRETCH = 256


def request_noise(seed: int, prompt_id: str, sample: int, n_positions: int) -> np.ndarray:
    """Uniform noise in [0, 1) for each position of one sample of a prompt.

    Returns:
        float64, shape ``[n_positions]``; a longer request begins with a shorter one's noise.
    """
    identity = f"{seed}\x00{prompt_id}\x00{sample}".encode("utf-8", "surrogatepass")
    key = int.from_bytes(hashlib.sha256(identity).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key)).random(n_positions)


def choose_tokens(
    logits: torch.Tensor, noise: torch.Tensor, temperature: float, top_p: float
) -> torch.Tensor:
    """The next token of every row.

    Args:
        logits: ``[rows, vocabulary]``.
        noise: uniform in [0, 1), ``[rows]``.
        temperature: 0 is greedy.
        top_p: keep the most probable tokens up to this mass (Holtzman et al. 2020).

    Returns:
        Token ids, ``[rows]``.
    """
    if temperature == 0:
        return greatest(logits)
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    if top_p >= 1:
        return _in_order(probabilities, noise, top_p)
    likely, order = probabilities.topk(min(_LIKELY, probabilities.shape[-1]), dim=-1)
    chosen = order.gather(-1, _in_order(likely, noise, top_p)[:, None]).squeeze(-1)
    # Each row for itself: what a row's choice is computed from must not depend on its mates.
    flat = likely.double().sum(dim=-1) < top_p
    if bool(flat.any()):
        every, order = probabilities[flat].sort(dim=-1, descending=True)
        places = _in_order(every, noise[flat], top_p)
        chosen[flat] = order.gather(-1, places[:, None]).squeeze(-1)
    return chosen


def greatest(logits: torch.Tensor) -> torch.Tensor:
    """``argmax`` over the last dimension of ``[rows, vocabulary]``, the first of equals.

    Where no code is compiled for it, in two stages: torch finds a row's greatest value ten times as
    fast as its place.
    """
    if has_code_for(logits):
        # Here, since compiled code takes a while to load.
        from steering_reliability.engine.logit_kernels import places_of_greatest

        return places_of_greatest(logits)
    whole = logits.shape[1] // _STRETCH * _STRETCH
    if not whole:
        return logits.argmax(dim=-1)
    stretches = logits[:, :whole].unflatten(1, (-1, _STRETCH))
    best, stretch = stretches.amax(dim=-1).max(dim=-1)
    rows = torch.arange(len(logits), device=logits.device)
    tokens = stretch * _STRETCH + stretches[rows, stretch].argmax(dim=-1)
    if whole < logits.shape[1]:
        last, place = logits[:, whole:].max(dim=-1)
        tokens = torch.where(last > best, whole + place, tokens)
    return tokens


def _in_order(probabilities: torch.Tensor, noise: torch.Tensor, top_p: float) -> torch.Tensor:
    """Where the noise falls in each row's cumulative mass, up to ``top_p`` of it."""
    wide = probabilities.double()
    cumulative = wide.cumsum(dim=-1)
    kept = (cumulative - wide) < top_p
    mass = torch.where(kept, wide, 0.0).sum(dim=-1, keepdim=True)
    position = torch.searchsorted(cumulative, noise.to(cumulative)[:, None] * mass, right=True)
    # Logits that are no numbers, after an overflow, keep no token; they must not stop other rows.
    last_kept = (kept.sum(dim=-1) - 1).clamp(min=0)
    return torch.minimum(position.squeeze(-1), last_kept)
