"""Teacher-forced passes: what the model would say next, for many cells in one batch, unsampled.

As in generation with ``positions: response``, the last prompt token and everything after it are
steered and earlier prompt tokens are not; so a prompt's own pass is shared by all cells, and what
all prompts begin with by all prompts. This module knows nothing about cells, splits or claims.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from steering_reliability.directions.residuals import Continued, common_beginning, padded
from steering_reliability.engine.head import output_head
from steering_reliability.engine.hooks import steered
from steering_reliability.engine.limits import check_context
from steering_reliability.errors import SteeringError
from steering_reliability.interventions import RowSteering, Steering
from steering_reliability.models.loaded import LoadedModel

_PROMPTS_AT_ONCE = 8
# Enough tokens for matrix products at full speed; few enough for their logits, each a vocabulary.
_TOKENS_AT_ONCE = 256


@dataclass(frozen=True)
class ForcedRow:
    """One continuation of one prompt under one steering.

    Attributes:
        prompt: index of the request.
        continuation: index of the continuation within it.
        steering: index of the steering.
        logits: float32 ``[len(continuation) + 1, vocabulary]``; row ``i`` is for the token after
            the first ``i`` of the continuation. Used up by the next row: copy what is to stay.
    """

    prompt: int
    continuation: int
    steering: int
    logits: Tensor


def forced_rows(
    model: LoadedModel, requests: Sequence[Continued], steerings: Sequence[Steering | None]
) -> Iterator[ForcedRow]:
    """Every continuation of every prompt under every steering.

    Args:
        model: the model.
        requests: rendered prompts and their continuations, token ids; a continuation may be empty.
        steerings: ``None`` leaves the model unsteered.

    Yields:
        Rows, prompts in no fixed order; those of one prompt and continuation come one after the
        other in the order of ``steerings``.

    Raises:
        SteeringError: an empty prompt, or a context that the model can't hold.
    """
    _check(model, requests)
    shortest_first = sorted(range(len(requests)), key=lambda index: len(requests[index].prompt))
    begin = common_beginning([request.prompt[:-1] for request in requests]) if requests else []
    with torch.inference_mode():
        shared = DynamicCache(config=model.hf_model.config)
        if begin:
            _remember(model, [begin], shared)
        for start in range(0, len(requests), _PROMPTS_AT_ONCE):
            # Of like length, so that little is padded.
            indices = shortest_first[start : start + _PROMPTS_AT_ONCE]
            yield from _batch(model, requests, indices, steerings, len(begin), shared)


def continuation_logprobs(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    steerings: Sequence[Steering | None],
) -> Tensor:
    """Log-probability of each token of given continuations, in nats.

    Args:
        model: the model.
        prompts: rendered prompts, token ids.
        continuations: token ids, the same for all prompts, none empty.
        steerings: ``None`` leaves the model unsteered.

    Returns:
        float64 on the CPU, ``[n_prompts, n_steerings, n_continuations, longest]``; NaN beyond a
        continuation's own length.

    Raises:
        SteeringError: an empty prompt or continuation, or a context that the model can't hold.
    """
    if not continuations or not all(continuations):
        raise SteeringError("continuations: found none or an empty one, expected tokens in each")
    requests = [Continued(list(prompt), [*map(list, continuations)]) for prompt in prompts]
    longest = max(map(len, continuations))
    shape = (len(prompts), len(steerings), len(continuations), longest)
    found = torch.full(shape, math.nan, dtype=torch.float64)
    for row, chosen in _token_logprobs(model, requests, steerings):
        found[row.prompt, row.steering, row.continuation, : len(chosen)] = chosen
    return found


def unsteered_logprobs(model: LoadedModel, requests: Sequence[Continued]) -> list[list[float]]:
    """Mean log-probability per token of texts under the unsteered model.

    Args:
        model: the model.
        requests: rendered prompts, each with texts of its own, none of them empty; token ids.

    Returns:
        Nats per token, by request and text.

    Raises:
        SteeringError: an empty prompt, or a context that the model can't hold.
    """
    found = [[math.nan] * len(request.continuations) for request in requests]
    for row, chosen in _token_logprobs(model, requests, [None]):
        found[row.prompt][row.continuation] = float(chosen.mean())
    return found


def _token_logprobs(
    model: LoadedModel, requests: Sequence[Continued], steerings: Sequence[Steering | None]
) -> Iterator[tuple[ForcedRow, Tensor]]:
    """Every row with the log-probability of each of its tokens, float64 on the CPU."""
    # Nothing is asked of what would follow the last token.
    forced = [
        replace(request, continuations=[tokens[:-1] for tokens in request.continuations])
        for request in requests
    ]
    for row in forced_rows(model, forced, steerings):
        tokens = requests[row.prompt].continuations[row.continuation]
        chosen = torch.tensor(tokens, device=row.logits.device)[:, None]
        found = row.logits.gather(1, chosen).squeeze(1) - row.logits.logsumexp(dim=-1)
        yield row, found.double().cpu()


def kl_from_unsteered(
    model: LoadedModel, requests: Sequence[Continued], steerings: Sequence[Steering | None]
) -> Tensor:
    """KL(unsteered || steered) of the next token, over the whole vocabulary, in nats.

    Args:
        model: the model.
        requests: prompts with one continuation each, usually the unsteered model's own response;
            all of one length, ``n``.
        steerings: what to compare with the unsteered model.

    Returns:
        float64 on the CPU, ``[n_prompts, n_steerings, n + 1]``: at the first response token and
        after each token of the continuation.

    Raises:
        SteeringError: continuations of several lengths, an empty prompt, or a context that the
            model can't hold.
    """
    lengths = {tuple(map(len, request.continuations)) for request in requests}
    if len(lengths) != 1 or len(next(iter(lengths))) != 1:
        raise SteeringError("requests: expected one continuation each, all of one length")
    n_positions = next(iter(lengths))[0] + 1
    found = torch.zeros(len(requests), len(steerings), n_positions, dtype=torch.float64)
    unsteered = torch.zeros(0)
    for row in forced_rows(model, requests, [None, *steerings]):
        log_probabilities = row.logits.log_softmax(dim=-1)
        if row.steering == 0:
            unsteered = log_probabilities.clone()
            continue
        change = unsteered - log_probabilities
        kl = (unsteered.exp() * change).sum(dim=-1)
        found[row.prompt, row.steering - 1] = kl.double().cpu()
    return found


def first_token_log_odds(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    steerings: Sequence[Steering | None],
    tokens: tuple[Sequence[int], Sequence[int]],
) -> Tensor:
    """Log-odds of one set of first response tokens against another, in nats.

    Args:
        model: the model.
        prompts: rendered prompts, token ids.
        steerings: ``None`` leaves the model unsteered.
        tokens: ids of the two sets, as from ``measures.opening_tokens``.

    Returns:
        float64 on the CPU, ``[n_prompts, n_steerings]``; what a completion's
        ``refusal_log_odds`` is for the profile's openings.

    Raises:
        SteeringError: an empty prompt, or a context that the model can't hold.
    """
    for_, against = ([*ids] for ids in tokens)
    requests = [Continued(list(prompt), [[]]) for prompt in prompts]
    found = torch.zeros(len(prompts), len(steerings), dtype=torch.float64)
    for row in forced_rows(model, requests, steerings):
        first = row.logits[0]
        odds = first[for_].logsumexp(0) - first[against].logsumexp(0)
        found[row.prompt, row.steering] = odds.double().cpu()
    return found


def _check(model: LoadedModel, requests: Sequence[Continued]) -> None:
    for request in requests:
        if not request.prompt:
            raise SteeringError("prompt: found no tokens, expected at least one")
    longest = (
        len(request.prompt) + max(map(len, request.continuations), default=0)
        for request in requests
    )
    check_context(model, max(longest, default=0))


def _batch(
    model: LoadedModel,
    requests: Sequence[Continued],
    indices: Sequence[int],
    steerings: Sequence[Steering | None],
    n_shared: int,
    shared: DynamicCache,
) -> Iterator[ForcedRow]:
    own = [requests[index].prompt[n_shared:-1] for index in indices]
    width = max(map(len, own))
    prefixes = copy.deepcopy(shared)
    prefixes.batch_repeat_interleave(len(indices))
    if width:
        _remember(model, padded(own), prefixes)
    rows = [
        (place, continuation, steering)
        for place, index in enumerate(indices)
        for continuation in range(len(requests[index].continuations))
        for steering in range(len(steerings))
    ]
    longest = max((len(c) for i in indices for c in requests[i].continuations), default=0)
    at_once = max(1, _TOKENS_AT_ONCE // (longest + 1))
    for start in range(0, len(rows), at_once):
        chunk = rows[start : start + at_once]
        places = torch.tensor([place for place, _, _ in chunk])
        tokens = padded(
            [
                [requests[indices[p]].prompt[-1], *requests[indices[p]].continuations[c]]
                for p, c, _ in chunk
            ]
        )
        lengths = n_shared + torch.tensor([len(own[place]) for place, _, _ in chunk])
        steering = RowSteering(len(chunk), model.d_model, model.device, model.dtype)
        for row, (_, _, which) in enumerate(chunk):
            steering.set_row(row, steerings[which])
        cache = copy.deepcopy(prefixes)
        cache.batch_select_indices(places.to(model.device))
        with steered(model, steering):
            logits = _continue(model, tokens, cache, lengths, n_shared + width).float()
        for row, (place, continuation, which) in enumerate(chunk):
            n = len(requests[indices[place]].continuations[continuation]) + 1
            yield ForcedRow(indices[place], continuation, which, logits[row, :n])


def _remember(model: LoadedModel, rows: list[list[int]], cache: DynamicCache) -> None:
    """Let the cache grow by unsteered tokens; what is padded is hidden by ``_continue``'s mask."""
    with output_head(model.hf_model, needed=False), model.packed.in_use():
        ids = torch.tensor(rows, device=model.device)
        model.hf_model(input_ids=ids, past_key_values=cache, use_cache=True)


def _continue(
    model: LoadedModel,
    rows: list[list[int]],
    cache: DynamicCache,
    lengths: Tensor,
    n_cached: int,
) -> Any:
    """Logits ``[rows, tokens, vocabulary]`` of tokens after the first ``lengths`` cached ones."""
    past = torch.arange(n_cached) < lengths[:, None]
    mask = torch.cat([past, torch.ones(len(rows), len(rows[0]), dtype=torch.bool)], dim=1)
    positions = lengths[:, None] + torch.arange(len(rows[0]))
    with model.packed.in_use():
        return model.hf_model(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=mask.long().to(model.device),
            position_ids=positions.to(model.device),
            past_key_values=cache,
            use_cache=True,
        ).logits
