"""Measurements taken while a completion is generated, from logits that exist anyway."""

from __future__ import annotations

import torch

from steering_reliability.engine.openmp import has_code_for
from steering_reliability.models.loaded import LoadedModel


class RowMeasures:
    """Running sums per slot: log-probability, entropy, first-token refusal log-odds."""

    def __init__(self, model: LoadedModel, slots: int) -> None:
        device = model.device
        self._log_probability = torch.zeros(slots, dtype=torch.float64, device=device)
        self._entropy = torch.zeros(slots, dtype=torch.float64, device=device)
        self._tokens = torch.zeros(slots, dtype=torch.float64, device=device)
        self._log_odds = torch.zeros(slots, dtype=torch.float64, device=device)
        refusal, compliance = opening_tokens(model)
        self._refusal = torch.tensor(refusal, dtype=torch.long, device=device)
        self._compliance = torch.tensor(compliance, dtype=torch.long, device=device)

    def reset(self, row: int) -> None:
        """Begin a new completion in a slot."""
        for state in self._all():
            state[row] = 0

    def move_row(self, source: int, target: int) -> None:
        """Carry a completion to another slot."""
        for state in self._all():
            state[target] = state[source]

    def update(self, logits: torch.Tensor, chosen: torch.Tensor, position: torch.Tensor) -> None:
        """Take one step's ``logits`` ``[rows, vocabulary]`` and the tokens chosen from them.

        An end of turn counts as a token: that the model stops here is part of what it says.
        """
        n = logits.shape[0]
        normaliser, entropy = _normaliser_and_entropy(logits)
        of_chosen = logits.gather(-1, chosen[:, None]).squeeze(-1).float()
        self._log_probability[:n] += (of_chosen - normaliser).double()
        self._entropy[:n] += entropy.double()
        self._tokens[:n] += 1
        first = position == 0
        if bool(first.any()):
            refusal = logits[:, self._refusal].float().logsumexp(-1)
            log_odds = refusal - logits[:, self._compliance].float().logsumexp(-1)
            self._log_odds[:n] = torch.where(first, log_odds.double(), self._log_odds[:n])

    def read(self, row: int) -> dict[str, float]:
        """A finished completion's measurements, in nats."""
        tokens = max(1.0, float(self._tokens[row]))
        return {
            "mean_logprob": float(self._log_probability[row]) / tokens,
            "mean_entropy": float(self._entropy[row]) / tokens,
            "refusal_log_odds": float(self._log_odds[row]),
        }

    def _all(self) -> tuple[torch.Tensor, ...]:
        return self._log_probability, self._entropy, self._tokens, self._log_odds


def _normaliser_and_entropy(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``logsumexp`` of each row and the entropy of its ``softmax``, float32."""
    if has_code_for(logits):
        # Here, since compiled code takes a while to load.
        from steering_reliability.engine.logit_kernels import log_masses

        return log_masses(logits)
    wide = logits.float()
    greatest = wide.amax(dim=-1, keepdim=True)
    # One exponential per logit serves the normaliser and the entropy.
    # Not without end, so that a logit that is masked out adds nothing.
    below = (wide - greatest).clamp(min=-87.0)
    weights = below.exp()
    mass = weights.sum(dim=-1)
    entropy = mass.log() - (weights * below).sum(dim=-1) / mass
    return greatest.squeeze(-1) + mass.log(), entropy


def opening_tokens(model: LoadedModel) -> tuple[list[int], list[int]]:
    """First tokens of the profile's refusal and compliance openings, those of both left out."""
    refusal = {model.format.encode_response(text)[0] for text in model.profile.refusal_openings}
    compliance = {
        model.format.encode_response(text)[0] for text in model.profile.compliance_openings
    }
    return sorted(refusal - compliance), sorted(compliance - refusal)
