"""Choosing the next token: greedy, or from noise that depends on the request alone.

Noise is counter-based (Philox; Salmon et al. 2011), keyed by seed, prompt and sample, and
indexed by position. All cells see the same noise for a prompt, so that differences between
cells are paired.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


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
        logits: ``[rows, vocabulary]``, float32.
        noise: uniform in [0, 1), ``[rows]``.
        temperature: 0 is greedy.
        top_p: keep the most probable tokens up to this mass (Holtzman et al. 2020).

    Returns:
        Token ids, ``[rows]``.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities, order = torch.softmax(logits / temperature, dim=-1).sort(dim=-1, descending=True)
    cumulative = probabilities.double().cumsum(dim=-1)
    kept = (cumulative - probabilities) < top_p
    mass = torch.where(kept, probabilities.double(), 0.0).sum(dim=-1, keepdim=True)
    target = noise.to(cumulative)[:, None] * mass
    position = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    # Logits that are no numbers, after an overflow, keep no token; they must not stop other rows.
    last_kept = (kept.sum(dim=-1) - 1).clamp(min=0)
    return order.gather(-1, torch.minimum(position, last_kept)[:, None]).squeeze(-1)
