"""Teacher-forced passes: what the model would say next, for many cells in one batch, unsampled.

As in generation with ``positions: response``, the last prompt token and everything after it are
steered and earlier prompt tokens are not; so a prompt's own pass is shared by all cells, and what
all prompts begin with by all prompts. Up to the block that is steered a continuation's pass is
shared by all that steer there. This module knows nothing about cells, splits or claims.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import DynamicCache

from steering_reliability.directions.residuals import (
    Continued,
    common_beginning,
    padded,
    seen_after,
)
from steering_reliability.engine.head import output_head
from steering_reliability.engine.hooks import steered
from steering_reliability.engine.limits import check_context
from steering_reliability.engine.resumed import kept_outputs, part_of, resumed
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
        unsteered: what the model gives there unsteered, likewise.
    """

    prompt: int
    continuation: int
    steering: int
    logits: Tensor
    unsteered: Tensor


def forced_rows(
    model: LoadedModel, requests: Sequence[Continued], steerings: Sequence[Steering | None]
) -> Iterator[ForcedRow]:
    """Every continuation of every prompt under every steering.

    Args:
        model: the model.
        requests: rendered prompts and their continuations, token ids; a continuation may be empty.
        steerings: ``None`` leaves the model unsteered.

    Yields:
        Rows in no fixed order; those that share ``unsteered`` and the steered layer come one after
        the other.

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
    told, unsteered = -1, torch.zeros(0)
    for row in forced_rows(model, requests, steerings):
        if row.prompt != told:
            told, unsteered = row.prompt, row.unsteered.log_softmax(dim=-1)
        change = unsteered - row.logits.log_softmax(dim=-1)
        kl = (unsteered.exp() * change).sum(dim=-1)
        found[row.prompt, row.steering] = kl.double().cpu()
    return found


def first_token_log_odds(
    model: LoadedModel,
    prompts: Sequence[Sequence[int]],
    steerings: Sequence[Steering | None],
    tokens: tuple[Sequence[int], Sequence[int]],
) -> Tensor:
    """First-token log-odds of one set of response openings against another, in nats.

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


@dataclass(frozen=True)
class _Prefixes:
    """Prompts without their last tokens, computed.

    Attributes:
        cache: keys and values of ``width`` tokens, a row per prompt.
        lengths: how many of them are a prompt's own and not padding, ``[prompts]``.
        width: tokens cached per row.
    """

    cache: DynamicCache
    lengths: Tensor
    width: int


@dataclass(frozen=True)
class _Pair:
    """A prompt of a batch with one of its continuations; ``place`` is its row of the prefixes."""

    place: int
    prompt: int
    continuation: int
    tokens: list[int]

    def row(self, steering: int, logits: Tensor, unsteered: Tensor) -> ForcedRow:
        n = len(self.tokens)
        return ForcedRow(self.prompt, self.continuation, steering, logits[:n], unsteered[:n])


def _batch(
    model: LoadedModel,
    requests: Sequence[Continued],
    indices: Sequence[int],
    steerings: Sequence[Steering | None],
    n_shared: int,
    shared: DynamicCache,
) -> Iterator[ForcedRow]:
    own = [requests[index].prompt[n_shared:-1] for index in indices]
    cache = copy.deepcopy(shared)
    cache.batch_repeat_interleave(len(indices))
    width = max(map(len, own))
    if width:
        _remember(model, padded(own), cache)
    lengths = n_shared + torch.tensor([*map(len, own)])
    prefixes = _Prefixes(cache, lengths, n_shared + width)
    pairs = [
        _Pair(place, index, number, [requests[index].prompt[-1], *continuation])
        for place, index in enumerate(indices)
        for number, continuation in enumerate(requests[index].continuations)
    ]
    # The longest first, so that those computed together are of like length.
    pairs.sort(key=lambda pair: -len(pair.tokens))
    while pairs:
        at_once = max(1, _TOKENS_AT_ONCE // len(pairs[0].tokens))
        yield from _under_all(model, prefixes, pairs[:at_once], steerings, at_once)
        del pairs[:at_once]


def _under_all(
    model: LoadedModel,
    prefixes: _Prefixes,
    pairs: Sequence[_Pair],
    steerings: Sequence[Steering | None],
    at_once: int,
) -> Iterator[ForcedRow]:
    """Pairs under every steering, each layer's from what the unsteered model has there."""
    by_layer: dict[int, list[int]] = {}
    for which, steering in enumerate(steerings):
        if steering is not None:
            by_layer.setdefault(steering.layer, []).append(which)
    with kept_outputs(model, by_layer) as outputs:
        unsteered = _continue(model, prefixes, pairs)
    for row, pair in enumerate(pairs):
        for which, steering in enumerate(steerings):
            if steering is None:
                yield pair.row(which, unsteered[row], unsteered[row])
    for layer, those in by_layer.items():
        rows = [(row, which) for row in range(len(pairs)) for which in those]
        for start in range(0, len(rows), at_once):
            chunk = rows[start : start + at_once]
            by_row = RowSteering(len(chunk), model.d_model, model.device, model.dtype)
            for place, (_, which) in enumerate(chunk):
                by_row.set_row(place, steerings[which])
            sources = torch.tensor([row for row, _ in chunk], device=model.device)
            those_pairs = [pairs[row] for row, _ in chunk]
            below = part_of(outputs[layer], sources, max(len(pair.tokens) for pair in those_pairs))
            with resumed(model, layer, below), steered(model, by_row):
                logits = _continue(model, prefixes, those_pairs)
            for (row, which), found in zip(chunk, logits, strict=True):
                yield pairs[row].row(which, found, unsteered[row])


def _remember(model: LoadedModel, rows: list[list[int]], cache: DynamicCache) -> None:
    """Let the cache grow by unsteered tokens; what is padded is hidden by ``_continue``'s mask."""
    with output_head(model.hf_model, needed=False), model.packed.in_use():
        ids = torch.tensor(rows, device=model.device)
        model.hf_model(input_ids=ids, past_key_values=cache, use_cache=True)


def _continue(model: LoadedModel, prefixes: _Prefixes, pairs: Sequence[_Pair]) -> Tensor:
    """Logits ``[pairs, tokens, vocabulary]`` after each token of the pairs, float32."""
    rows = padded([pair.tokens for pair in pairs])
    places = torch.tensor([pair.place for pair in pairs])
    lengths = prefixes.lengths[places]
    mask, positions = seen_after(lengths, prefixes.width, len(rows[0]))
    cache = copy.deepcopy(prefixes.cache)
    cache.batch_select_indices(places.to(model.device))
    with model.packed.in_use():
        output = model.hf_model(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=mask.to(model.device),
            position_ids=positions.to(model.device),
            past_key_values=cache,
            use_cache=True,
        )
    logits: Tensor = output.logits.float()
    return logits
