"""A second implementation on transformer-lens, to check the slot engine against.

It shares with the slot engine what defines a completion (requests, noise, the choice of a token)
and nothing that could be wrong in the same way: one request at a time, transformer-lens's own
blocks and attention, transformers' own cache, and the interventions written out again.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections import deque
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from steering_reliability.completions import Completion
from steering_reliability.directions.direction import site_of
from steering_reliability.engine.limits import check_positions
from steering_reliability.engine.measures import opening_tokens
from steering_reliability.engine.requests import GenerationSettings, Request
from steering_reliability.engine.sampling import choose_tokens, request_noise
from steering_reliability.errors import SteeringError
from steering_reliability.interventions import Steering
from steering_reliability.models.loaded import LoadedModel


class LensEngine:
    """Generates requests one by one through a ``TransformerBridge``.

    Args:
        model: the model to steer; its weights are shared, its modules are left as they are.
        settings: how to generate.

    Raises:
        SteeringError: transformer-lens can't run this architecture.
    """

    def __init__(self, model: LoadedModel, settings: GenerationSettings) -> None:
        self._model = model
        self._settings = settings
        self._bridge = bridge_to(model)
        self._queue: deque[Request] = deque()
        self._openings = opening_tokens(model)

    def submit(self, requests: Iterable[Request]) -> None:
        """Queue requests.

        Raises:
            SteeringError: a prompt and its completion exceed the model's positions.
        """
        accepted = list(requests)
        for request in accepted:
            check_positions(self._model, len(request.tokens) + self._settings.max_new_tokens)
        self._queue.extend(accepted)

    @property
    def pending(self) -> int:
        """Requests not finished yet."""
        return len(self._queue)

    @property
    def slots(self) -> int:
        """As the settings say; this backend runs one row at a time, and they mean nothing to it."""
        return self._settings.slots

    @torch.inference_mode()
    def pump(self) -> list[Completion]:
        """Generate the next request from beginning to end."""
        if not self._queue:
            return []
        completion = self._complete(self._queue[0])
        self._queue.popleft()
        return [completion]

    def _complete(self, request: Request) -> Completion:
        limit = self._settings.max_new_tokens
        with self._steered(request.steering):
            chosen, logits = self._decode(request)
        stopped = chosen[-1] in self._model.end_token_ids
        ids = chosen[:-1] if stopped else chosen
        assert stopped or len(ids) == limit
        return Completion(
            prompt_id=request.prompt_id,
            cell=request.cell,
            text=self._model.tokenizer.decode(ids, skip_special_tokens=True),
            token_ids=tuple(ids),
            finish_reason="stop" if stopped else "length",
            sample=request.sample,
            measurements=_measure(logits, chosen, *self._openings),
            key=request.key,
        )

    def _decode(self, request: Request) -> tuple[list[int], torch.Tensor]:
        """The tokens, an end of turn included, and the logits each was chosen from."""
        settings, device = self._settings, self._model.device
        noise = torch.from_numpy(
            request_noise(settings.seed, request.prompt_id, request.sample, settings.max_new_tokens)
        ).to(device)
        ids = torch.tensor([request.tokens], device=device)
        cache = None
        chosen: list[int] = []
        rows = []
        for uniform in noise:
            logits, cache = self._bridge(
                ids, return_type="logits_and_cache", use_cache=True, past_key_values=cache
            )
            rows.append(logits[0, -1].float())
            token = choose_tokens(
                rows[-1][None], uniform[None], settings.temperature, settings.top_p
            )
            chosen.append(int(token))
            if chosen[-1] in self._model.end_token_ids:
                break
            ids = token[None]
        return chosen, torch.stack(rows)

    def _steered(self, steering: Steering | None) -> AbstractContextManager[Any]:
        if steering is None:
            return nullcontext()
        everywhere = self._settings.positions == "all"

        def steer(residual: torch.Tensor, hook: Any) -> torch.Tensor:
            # The prompt comes in one forward and each further token in its own, so a response's
            # positions are the last one of every forward.
            first = 0 if everywhere else residual.shape[1] - 1
            steered = intervene(residual[:, first:], steering)
            return torch.cat([residual[:, :first], steered], dim=1)

        hooks: AbstractContextManager[Any] = self._bridge.hooks(
            fwd_hooks=[(site_of(steering.layer), steer)]
        )
        return hooks


def intervene(residual: torch.Tensor, steering: Steering) -> torch.Tensor:
    """The steered residual stream, ``[row, position, d_model]``.

    ``h + c v`` for ``add``, ``h - c (h . v) v`` for ``ablate``, with ``c`` the coefficient; a
    control takes away as much as the learned ``m`` would: ``h - c |h . m| sign(h . v) v``.
    """
    vector = steering.vector.to(residual)
    if steering.intervention == "add":
        return residual + (steering.coefficient * steering.vector).to(residual)
    flat = residual.reshape(-1, len(vector))
    removed = flat @ vector
    if steering.measured is not None:
        removed = (flat @ steering.measured.to(residual)).abs().copysign(removed)
    return residual - steering.coefficient * torch.outer(removed, vector).reshape(residual.shape)


def bridge_to(model: LoadedModel) -> Any:
    """The model as a ``TransformerBridge`` that shares its weights.

    The bridge puts its own modules into the model that it is given, so it is given a copy of the
    modules; the parameters in them are the same tensors.

    Raises:
        SteeringError: transformer-lens has no bridge for this architecture, or one without a
            hook point at every block's output.
    """
    name = type(model.hf_model).__name__
    sources = _import_sources()
    shared = {id(parameter): parameter for parameter in model.hf_model.parameters()}
    modules = copy.deepcopy(model.hf_model, shared)
    # What transformer-lens's own attention expects in place of sdpa's masks.
    modules.set_attn_implementation("eager")
    try:
        with warnings.catch_warnings():
            # Hook aliases that an architecture lacks; the one needed here is checked below.
            warnings.simplefilter("ignore")
            bridge = sources.build_bridge_from_module(
                modules, name, hf_config=copy.deepcopy(modules.config), dtype=model.dtype
            )
        sites = set(bridge.hook_dict)
    except (ValueError, AttributeError, NotImplementedError, TypeError) as error:
        first = (str(error).strip().splitlines() or ["no message"])[0][:160]
        raise SteeringError(
            f"--steer-backend lens: transformer-lens can't run {name} ({first}); "
            "use --steer-backend slots"
        ) from error
    missing = [site for layer in range(model.n_layers) if (site := site_of(layer)) not in sites]
    if missing:
        raise SteeringError(
            f"--steer-backend lens: transformer-lens's {name} has no hook point {missing[0]}; "
            "use --steer-backend slots"
        )
    return bridge.eval()


def _import_sources() -> Any:
    """Import transformer-lens, which otherwise silences transformers for the whole process."""
    logger = logging.getLogger("transformers")
    level = logger.level
    with warnings.catch_warnings():
        from transformer_lens.model_bridge import sources
    logger.setLevel(level)
    return sources


def _measure(
    logits: torch.Tensor, chosen: list[int], refusal: list[int], compliance: list[int]
) -> dict[str, float]:
    """Measurements of one completion from the logits ``[token, vocabulary]``, in nats."""
    log_probabilities = logits.double().log_softmax(dim=-1)
    of_chosen = log_probabilities[torch.arange(len(chosen)), chosen]
    entropy = torch.special.entr(log_probabilities.exp()).sum(dim=-1)
    opening = log_probabilities[0].exp()
    odds = opening[refusal].sum() / opening[compliance].sum()
    return {
        "mean_logprob": float(of_chosen.mean()),
        "mean_entropy": float(entropy.mean()),
        "refusal_log_odds": float(odds.log()),
    }
