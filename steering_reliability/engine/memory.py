"""What a run will take of the device's memory, told before it begins.

The slot count is a setting, never fitted to what happens to be free: it is part of a completion's
key, and results must not depend on who else uses the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from steering_reliability.engine.attention import round_up_keys
from steering_reliability.engine.cache import SlotCache
from steering_reliability.engine.forward import forward
from steering_reliability.engine.prefill import PREFIX_BUDGET_BYTES, PROMPTS_AT_ONCE
from steering_reliability.engine.requests import GenerationSettings
from steering_reliability.errors import SteeringError
from steering_reliability.interventions import RowSteering
from steering_reliability.models.loaded import LoadedModel

_GIB = 1 << 30
# Logits, their exponentials and what is sorted when sampling; in float32 whatever the model's.
_LOGIT_COPIES = 4


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that generation takes beside the model's weights.

    Attributes:
        per_slot: keys, values and logits of one slot.
        fixed: computed prompts, at most, those being computed, and the weights in the processor's
            layout.
    """

    per_slot: int
    fixed: int

    def of(self, slots: int) -> int:
        """Bytes for so many slots."""
        return self.fixed + slots * self.per_slot


def memory_need(model: LoadedModel, context: int) -> MemoryNeed:
    """What slots of ``context`` tokens take, from the shapes that the model itself writes."""
    cache = SlotCache(model.n_layers, 1, 1, model.device)
    idle = RowSteering(1, model.d_model, model.device, model.dtype)
    zero = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    with torch.inference_mode():
        logits = forward(model, cache, zero, zero, idle)
    per_token = cache.read(0, 0, 1).n_bytes
    per_row = per_token * round_up_keys(context)
    fixed = PREFIX_BUDGET_BYTES + PROMPTS_AT_ONCE * per_row + model.packed.n_bytes
    return MemoryNeed(per_row + logits.shape[-1] * 4 * _LOGIT_COPIES, fixed)


def free_bytes(device: torch.device) -> int:
    """Memory that can be had on a device now; what torch holds unused counts as free."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + held)
    return int(psutil.virtual_memory().available)


def check_memory(model: LoadedModel, settings: GenerationSettings, context: int) -> None:
    """Refuse slots that can't fit, with the count that would.

    Args:
        model: the model, on its device.
        settings: how to generate.
        context: longest prompt and completion together, in tokens.

    Raises:
        SteeringError: there is too little memory.
    """
    need, free = memory_need(model, context), free_bytes(model.device)
    if need.of(settings.slots) <= free:
        return
    fitting = max((free - need.fixed) // need.per_slot, 0)
    remedy = "shorten prompts or generation.max_new_tokens, or free memory"
    # A power of two: a slot count is to be typed into a file, and compared with others'.
    power = 1 << (int(fitting).bit_length() - 1) if fitting else 0
    if power:
        remedy = f"{power} slots fit ({need.of(power) / _GIB:.1f} GiB): set generation.slots"
        remedy += f": {power}, or the profile's slots"
    raise SteeringError(
        f"generation.slots: {settings.slots} slots with a context of {context} tokens need "
        f"{need.of(settings.slots) / _GIB:.1f} GiB beside the model, found "
        f"{free / _GIB:.1f} GiB free on {model.device}; {remedy}"
    )
