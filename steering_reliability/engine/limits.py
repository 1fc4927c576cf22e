"""What a model and a machine allow: context lengths, kinds of attention, batch sizes."""

from __future__ import annotations

import torch

from steering_reliability.errors import SteeringError
from steering_reliability.models.loaded import LoadedModel

_FULL, _SLIDING = "full_attention", "sliding_attention"


def check_context(model: LoadedModel, context: int) -> None:
    """Refuse what the slots would compute wrongly.

    Args:
        model: the model.
        context: longest prompt and completion together, in tokens.

    Raises:
        SteeringError: the context is longer than the model's positions or its sliding window,
            or some layers are neither full nor sliding attention.
    """
    check_positions(model, context)
    config = model.text_config
    name = type(model.hf_model).__name__
    kinds = set(getattr(config, "layer_types", None) or [_FULL])
    unknown = sorted(kinds - {_FULL, _SLIDING})
    if unknown:
        raise SteeringError(
            f"model: {name} has layers of kind {', '.join(unknown)}, expected full or sliding "
            "attention; use --steer-backend lens"
        )
    window = getattr(config, "sliding_window", None)
    slides = _SLIDING in kinds or not getattr(config, "layer_types", None)
    if slides and window is not None and context > window:
        raise SteeringError(
            f"model: {name} attends within a sliding window of {window} tokens, found a context "
            f"of {context}; shorten prompts or generation.max_new_tokens, or use "
            "--steer-backend lens"
        )


def check_positions(model: LoadedModel, context: int) -> None:
    """Refuse a context longer than what the model was made for.

    Args:
        model: the model.
        context: longest prompt and completion together, in tokens.

    Raises:
        SteeringError: the model states a number of positions, and it is smaller.
    """
    positions = getattr(model.text_config, "max_position_embeddings", None)
    if positions is not None and context > positions:
        raise SteeringError(
            f"model: {type(model.hf_model).__name__} has {positions} positions, found a context "
            f"of {context} tokens (longest prompt + max_new_tokens); shorten prompts or "
            "generation.max_new_tokens"
        )


def smallest_batch() -> int:
    """Rows below which reductions would split along a row, which changes its last bit."""
    return max(4, torch.get_num_threads())
