"""One pass of a model over slots."""

from __future__ import annotations

import torch

from steering_reliability.engine.attention import Seen, slot_attention_in
from steering_reliability.engine.cache import SlotCache
from steering_reliability.engine.gates import compiled_gates
from steering_reliability.engine.head import output_head
from steering_reliability.engine.hooks import steered
from steering_reliability.engine.norms import compiled_norms
from steering_reliability.engine.rotary import compiled_rotations
from steering_reliability.interventions import RowSteering
from steering_reliability.models.loaded import LoadedModel


def forward(
    model: LoadedModel,
    cache: SlotCache,
    ids: torch.Tensor,
    positions: torch.Tensor,
    steering: RowSteering,
    *,
    needs_logits: bool = True,
) -> torch.Tensor:
    """Run the model on new tokens of the first rows.

    Args:
        model: the model.
        cache: slots that are read and written.
        ids: tokens, ``[rows, queries]``.
        positions: where they stand, ``[rows, queries]``.
        steering: what is done to each row.
        needs_logits: whether anyone reads the logits; where not, they have a width of 0.

    Returns:
        Logits of the last query, ``[rows, vocabulary]``.
    """
    mask = _mask(positions, cache.begin(positions), cache.n_keys, model.dtype)
    seen = None
    if cache.is_compiled:
        rows, queries = positions.shape
        row_of = cache.row_index[:rows].repeat_interleave(queries)
        seen = Seen(mask, row_of, positions.flatten() + 1, cache.n_common)
    with (
        slot_attention_in(model.text_config, seen),
        steered(model, steering),
        output_head(model.hf_model, needs_logits),
        model.packed.in_use(),
        compiled_norms(model.hf_model),
        compiled_gates(model.hf_model),
        compiled_rotations(model.hf_model),
    ):
        output = model.hf_model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    logits: torch.Tensor = output.logits[:, -1]
    return logits


def _mask(positions: torch.Tensor, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
    """What is added to the scores of keys from ``start`` to ``stop``, so that none looks ahead."""
    keys = torch.arange(start, stop, device=positions.device)
    ahead = keys > positions[:, None, :, None]
    return torch.zeros_like(ahead, dtype=dtype).masked_fill_(ahead, -torch.inf)
