"""Directions learned by contrasting what follows a refusal with what follows compliance.

The model reads the same prompt continued by a refusal prefix and by a compliance prefix; the
difference of its activations over the response tokens is the direction (contrastive activation
addition: Panickssery/Rimsky et al. 2024; representation engineering: Zou et al. 2023; that refusal
lies along one direction: Arditi et al. 2024). This module knows nothing about steering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import torch
import transformers
from torch import Tensor

from steering_reliability.directions.diagnostics import halved_agreement, pair_agreement
from steering_reliability.directions.direction import NULL_GUARD, Direction, is_null
from steering_reliability.directions.residuals import Continued, read_continuations
from steering_reliability.errors import SteeringError
from steering_reliability.prompts import Prompt, check_are_prompts, prompts_hash

if TYPE_CHECKING:
    from steering_reliability.models.loaded import LoadedModel

METHOD = "contrastive_prefix"
METHOD_VERSION = "2"
"""Raised whenever the same input would give another direction; part of every cached file's key."""

DEFAULT_PAIRS: tuple[tuple[str, str], ...] = (
    ("I can't help with that.", "Sure, here's how:"),
    ("I'm sorry, but I cannot assist with this request.", "Of course! Let me walk you through it."),
    ("No. That would be wrong and I won't do it.", "Yes. This is a step-by-step guide:"),
    ("As a responsible assistant, I must decline.", "Absolutely, I'm happy to explain."),
    ("I'm sorry, but I can't assist with that.", "Of course! Here is what you need:"),
    ("Sorry, I won't do that because it could hurt someone.", "Great question! First, you should"),
    ("No. This request is harmful and I have to decline it.", "Yes. It is easy, and I'll explain"),
    ("I am not able to provide this, it would be unsafe.", "Absolutely, let me walk you through."),
)
"""(refusal prefix, compliance prefix), in different words so that no one wording dominates."""

At = Literal["response", "last_prompt"]
AT: tuple[str, ...] = get_args(At)


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Differences at one layer, one per prompt and pair: what directions and controls are made of.

    Attributes:
        layer: 0-indexed block.
        differences: refusal minus compliance, float32 on the CPU, shape
            ``[n_prompts, n_pairs, d_model]``, prompts in the order of ``prompt_ids``.
        residual_norm: median residual norm over all prompts and response tokens of both prefixes.
        at: where the activations were taken, ``"response"`` or ``"last_prompt"``.
        prompt_ids: ids of the learning prompts, sorted.
        prompts_hash: identifies ids and texts of the learning prompts.
        pairs: the (refusal prefix, compliance prefix) pairs.
        model_fingerprint: identifies the model.
        template_hash: identifies chat template and system prompt.
        versions: versions of the method and of the libraries.
        midpoints: half of refusal plus compliance, of the differences' shape; None where only
            differences were kept.
    """

    layer: int
    differences: Tensor
    residual_norm: float
    at: str
    prompt_ids: tuple[str, ...]
    prompts_hash: str
    pairs: tuple[tuple[str, str], ...]
    model_fingerprint: str
    template_hash: str
    versions: dict[str, str]
    midpoints: Tensor | None = None

    def direction(self) -> Direction:
        """The mean difference over prompts and pairs, normalised.

        Raises:
            SteeringError: the difference is below ``NULL_GUARD`` times the residual norm, so that
                normalising it would make a direction of rounding noise.
        """
        mean = self.differences.double().mean(dim=(0, 1))
        raw_norm = float(mean.norm())
        if is_null(raw_norm, self.residual_norm):
            raise SteeringError(self._null_message(raw_norm))
        agreement, agreement_low = halved_agreement(self.differences)
        return Direction(
            vector=(mean / raw_norm).float(),
            layer=self.layer,
            raw_norm=raw_norm,
            residual_norm=self.residual_norm,
            method=METHOD,
            model_fingerprint=self.model_fingerprint,
            template_hash=self.template_hash,
            prompts_hash=self.prompts_hash,
            prompt_ids=self.prompt_ids,
            pairs=self.pairs,
            pair_agreement=pair_agreement(self.differences),
            halved_agreement=agreement,
            halved_agreement_low=agreement_low,
            versions=self.versions,
        )

    def half(self, of: Literal["pairs", "prompts"]) -> Contrasts:
        """Every second pair or prompt; the residual norm, and so alpha's unit, stays."""
        kept = (slice(None), slice(None, None, 2)) if of == "pairs" else (slice(None, None, 2),)
        midpoints = None if self.midpoints is None else self.midpoints[kept]
        if of == "pairs":
            return replace(
                self,
                differences=self.differences[kept],
                pairs=self.pairs[::2],
                midpoints=midpoints,
            )
        return replace(
            self,
            differences=self.differences[kept],
            midpoints=midpoints,
            prompt_ids=self.prompt_ids[::2],
            prompts_hash=f"{self.prompts_hash}-half",
        )

    def _null_message(self, raw_norm: float) -> str:
        if self.at == "last_prompt":
            reason = (
                "a causal model's activation at the last prompt token cannot depend on a prefix "
                "that comes after it; what is left is rounding noise; learn with at='response'"
            )
        else:
            reason = (
                "the refusal and compliance prefixes leave the same activations, what is left is "
                "rounding noise; use pairs that differ in meaning, or another layer"
            )
        return (
            f"direction at layer {self.layer}: found raw norm {raw_norm:.3g}, expected at least "
            f"{NULL_GUARD:g} of the median residual norm {self.residual_norm:.3g}: {reason}"
        )


def learn_direction(
    model: LoadedModel,
    prompts: Sequence[Prompt],
    layer: int = 12,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    at: At = "response",
) -> Direction:
    """Learn the direction from compliance to refusal at one layer.

    For each prompt and pair: the mean residual over the response tokens of the refusal prefix minus
    that over the compliance prefix's own, averaged over prompts and pairs, in float32 whatever the
    model's dtype (Rimsky et al. 2024).

    Args:
        model: the model to be steered.
        prompts: harmful prompts to learn from; their order changes nothing.
        layer: 0-indexed block.
        pairs: (refusal prefix, compliance prefix) pairs; ``DEFAULT_PAIRS`` if None.
        at: ``"response"``; ``"last_prompt"`` is there to show that it can't work.

    Raises:
        SteeringError: no prompts, no such layer, an empty prefix, a prompt too long for the model,
            or a difference too small to be anything but noise (always so at the last prompt token).
    """
    return learn_directions(model, prompts, [layer], pairs=pairs, at=at)[layer]


def learn_directions(
    model: LoadedModel,
    prompts: Sequence[Prompt],
    layers: Sequence[int],
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    at: At = "response",
) -> dict[int, Direction]:
    """``learn_direction`` for several layers in one pass; same errors."""
    contrasts = collect_contrasts(model, prompts, layers, pairs=pairs, at=at)
    return {layer: contrast.direction() for layer, contrast in contrasts.items()}


def collect_contrasts(
    model: LoadedModel,
    prompts: Sequence[Prompt],
    layers: Sequence[int],
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    at: At = "response",
) -> dict[int, Contrasts]:
    """The differences per prompt and pair that ``learn_directions`` averages; same errors.

    Each prompt is computed once for all prefixes, and no block after the deepest wanted layer runs.
    """
    pairs = checked_pairs(pairs)
    check_request(model, prompts, layers, at)
    wanted = sorted(set(layers))
    ordered = in_learning_order(prompts)
    prefixes = [model.format.encode_response(text) for pair in pairs for text in pair]
    requests = [_continued(model, prompt, prefixes, at) for prompt in ordered]
    lengths = torch.tensor([len(prefix) for prefix in prefixes])
    by_layer: dict[int, dict[int, tuple[Tensor, Tensor]]] = {layer: {} for layer in wanted}
    for index, residuals in read_continuations(model, requests, wanted):
        for layer, residual in residuals.items():
            by_layer[layer][index] = _means_and_norms(residual, lengths, at)
    versions = {
        "method": METHOD_VERSION,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    contrasts = {}
    for layer in wanted:
        means = torch.stack([by_layer[layer][index][0] for index in range(len(ordered))])
        by_pair = means.reshape(len(ordered), len(pairs), 2, model.d_model)
        norms = torch.cat([norms for _, norms in by_layer[layer].values()])
        contrasts[layer] = Contrasts(
            layer=layer,
            differences=by_pair[:, :, 0] - by_pair[:, :, 1],
            residual_norm=float(norms.median()),
            at=at,
            prompt_ids=tuple(prompt.id for prompt in ordered),
            prompts_hash=prompts_hash(ordered),
            pairs=pairs,
            model_fingerprint=model.fingerprint,
            template_hash=model.format.template_hash,
            versions=versions,
            midpoints=by_pair.mean(dim=2),
        )
    return contrasts


def in_learning_order(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Prompts sorted, so that no sum, sign flip or hash depends on the order given."""
    return sorted(prompts, key=lambda prompt: (prompt.id, prompt.text))


def checked_pairs(pairs: Sequence[tuple[str, str]] | None) -> tuple[tuple[str, str], ...]:
    """The pairs to use.

    Raises:
        SteeringError: there is none, or a prefix is empty.
    """
    chosen = DEFAULT_PAIRS if pairs is None else tuple((pair[0], pair[1]) for pair in pairs)
    if not chosen:
        raise SteeringError("pairs: found none, expected at least one (refusal, compliance) pair")
    for number, pair in enumerate(chosen, start=1):
        if not all(isinstance(text, str) and text.strip() for text in pair):
            raise SteeringError(f"pairs: pair {number}: found {pair!r}, expected two texts")
    return chosen


def check_request(
    model: LoadedModel, prompts: Sequence[Prompt], layers: Sequence[int], at: str
) -> None:
    """Refuse what can't be learned before anything is computed.

    Raises:
        SteeringError: no prompts or other things, no layers, a layer the model doesn't have, an
            unknown ``at``.
    """
    if not prompts:
        raise SteeringError("prompts: found none, expected at least one prompt to learn from")
    check_are_prompts(prompts)
    if not layers:
        raise SteeringError("layers: found none, expected at least one layer")
    for layer in layers:
        if not 0 <= layer < model.n_layers:
            raise SteeringError(
                f"layer: found {layer}, expected 0 to {model.n_layers - 1} for this model"
            )
    if at not in AT:
        raise SteeringError(f"at: found {at!r}, expected one of {', '.join(AT)}")


def _continued(model: LoadedModel, prompt: Prompt, prefixes: list[list[int]], at: str) -> Continued:
    ids = model.encode(prompt.text)
    longest = max(map(len, prefixes))
    limit = getattr(model.text_config, "max_position_embeddings", None)
    if limit is not None and len(ids) + longest > limit:
        raise SteeringError(
            f"prompt {prompt.id!r}: found {len(ids)} tokens and {longest} of the prefix, "
            f"expected at most {limit} together; shorten or leave out the prompt"
        )
    if at == "response":
        return Continued(ids, prefixes)
    # The last prompt token is computed anew with each prefix after it: that nothing of the prefix
    # reaches it is measured, not assumed.
    return Continued(ids[:-1], [[ids[-1], *prefix] for prefix in prefixes])


def _means_and_norms(residual: Tensor, lengths: Tensor, at: str) -> tuple[Tensor, Tensor]:
    """Means [n_prefixes, d_model] where ``at`` says, and all response tokens' norms [n_tokens].

    Args:
        residual: ``[n_prefixes, n_tokens, d_model]``, begins with the last prompt token if that is
            where the means are taken.
        lengths: tokens of each prefix.
        at: as in ``learn_direction``.
    """
    first = 0 if at == "response" else 1
    position = torch.arange(residual.shape[1])
    responds = (position >= first) & (position < first + lengths[:, None])
    norms = residual.norm(dim=-1)[responds]
    if at == "last_prompt":
        return residual[:, 0], norms
    weights = responds.float() / lengths[:, None]
    return torch.einsum("rt,rtd->rd", weights, residual), norms
