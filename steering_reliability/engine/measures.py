"""Measurements taken while a completion is generated, from logits that exist anyway."""

from __future__ import annotations

import torch

from steering_reliability.models.loaded import LoadedModel


class RowMeasures:
    """Running sums per slot: log-probability, entropy, first-token refusal log-odds."""

    def __init__(self, model: LoadedModel, slots: int) -> None:
        device = model.device
        self._n_rows = slots
        self._scratch: tuple[torch.Tensor, torch.Tensor] | None = None
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
        # On a CPU as many as its cache holds, for the several passes over them.
        at_once = 4 * torch.get_num_threads() if logits.device.type == "cpu" else self._n_rows
        # In equal parts: a single row left over would be summed in another order.
        n_parts = -(-n // at_once)
        for part in range(n_parts):
            rows = slice(n * part // n_parts, n * (part + 1) // n_parts)
            self._add(rows, logits[rows], chosen[rows])
        self._tokens[:n] += 1
        first = position == 0
        if bool(first.any()):
            refusal = logits[:, self._refusal].float().logsumexp(-1)
            log_odds = refusal - logits[:, self._compliance].float().logsumexp(-1)
            self._log_odds[:n] = torch.where(first, log_odds.double(), self._log_odds[:n])

    def _add(self, rows: slice, logits: torch.Tensor, chosen: torch.Tensor) -> None:
        # One exponential per logit serves the normaliser and the entropy.
        shifted, weights = self._scratch_for(logits)
        if logits.dtype != torch.float32:
            # Here, where a part stays in the cache: all at once it takes a tenth of a step.
            logits = weights.copy_(logits)
        torch.sub(logits, logits.amax(dim=-1, keepdim=True), out=shifted)
        mass = torch.exp(shifted, out=weights).sum(dim=-1)
        normaliser = mass.log()
        expected = weights.mul_(shifted).sum(dim=-1) / mass
        log_probability = shifted.gather(-1, chosen[:, None]).squeeze(-1) - normaliser
        self._log_probability[rows] += log_probability.double()
        self._entropy[rows] += (normaliser - expected).double()

    def _scratch_for(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # Fresh matrices of this size would be mapped and cleared by the system at every step.
        n, width = logits.shape
        if self._scratch is None or self._scratch[0].shape[0] < n:
            shifted, weights = logits.new_empty(2, n, width, dtype=torch.float32)
            self._scratch = shifted, weights
        return self._scratch[0][:n], self._scratch[1][:n]

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


def opening_tokens(model: LoadedModel) -> tuple[list[int], list[int]]:
    """First tokens of the profile's refusal and compliance openings, those of both left out."""
    refusal = {model.format.encode_response(text)[0] for text in model.profile.refusal_openings}
    compliance = {
        model.format.encode_response(text)[0] for text in model.profile.compliance_openings
    }
    return sorted(refusal - compliance), sorted(compliance - refusal)
