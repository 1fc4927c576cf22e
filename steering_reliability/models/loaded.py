"""A model in memory, with what steering needs to know of it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from steering_reliability.config import ModelProfile, load_profile
from steering_reliability.errors import SteeringError
from steering_reliability.models.allocator import keep_freed_memory
from steering_reliability.models.chat import PromptFormat
from steering_reliability.models.packed import PackedLinears
from steering_reliability.models.sources import EMBEDDED, resolve_source

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FINGERPRINT_SAMPLES = 4096
# How transformers begins to say that there is nothing to make a tokenizer of.
_NO_TOKENIZER = "Couldn't instantiate the backend tokenizer"
_TOKENIZER_EXPECTED = (
    "tokenizer.json, or what else the model's tokenizer is made of, beside config.json; "
    "tokenizer.save_pretrained writes it"
)


class LoadedModel:
    """A causal language model, its tokenizer and its profile.

    Attributes:
        hf_model: the transformers model, in evaluation mode.
        tokenizer: the transformers tokenizer.
        profile: system prompt, alpha unit and the rest of the model's settings.
        blocks: the decoder's blocks in order; ``blocks[i]`` outputs the residual stream after
            layer ``i``, shape ``[batch, position, d_model]``.
        fingerprint: hash of configuration and weights, the same wherever they were loaded from.
        packed: the linear layers with their weights laid out for the processor.
    """

    def __init__(self, hf_model: Any, tokenizer: Any, profile: ModelProfile) -> None:
        self.hf_model = hf_model.eval()
        self.tokenizer = tokenizer
        self.profile = profile
        self.format = PromptFormat(tokenizer, profile)
        self.text_config = hf_model.config.get_text_config()
        self.blocks = find_blocks(hf_model, int(self.text_config.num_hidden_layers))
        self.fingerprint = _fingerprint(hf_model)
        self.packed = PackedLinears(hf_model)

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def d_model(self) -> int:
        return int(self.text_config.hidden_size)

    @property
    def device(self) -> torch.device:
        return next(self.hf_model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.hf_model.parameters()).dtype

    @property
    def end_token_ids(self) -> frozenset[int]:
        """Tokens at which a completion ends."""
        configured = getattr(self.hf_model.generation_config, "eos_token_id", None)
        ids = [configured] if isinstance(configured, int) else list(configured or [])
        return self.format.end_token_ids | frozenset(ids)

    def render(self, text: str) -> str:
        """The prompt as the model sees it: system prompt and template applied."""
        return self.format.render(text)

    def encode(self, text: str) -> list[int]:
        """Token ids of the rendered prompt."""
        return self.format.encode(text)

    def with_system_prompt(self, text: str) -> LoadedModel:
        """The same model in memory, spoken to with another system prompt.

        Where prompts have a plain layout, the text stands before it.
        """
        other = copy.copy(self)
        plain = text.replace("{", "{{").replace("}", "}}") + "\n\n" + self.profile.plain_template
        changes = {"system_prompt": text, "plain_template": plain}
        other.profile = self.profile.model_copy(update=changes)
        other.format = PromptFormat(self.tokenizer, other.profile)
        return other


def load_model(
    source: str = EMBEDDED,
    device: str = "auto",
    dtype: str | None = None,
    *,
    profile: ModelProfile | None = None,
    announce: Callable[[str], None] | None = None,
) -> LoadedModel:
    """Load a model to be steered.

    Args:
        source: ``"embedded"``, a local folder, or a hub id.
        device: ``"auto"`` (CUDA, then MPS, then CPU) or a torch device.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``; the profile's by default.
        profile: the model's settings; by default the shipped profile for ``source``, or a
            plain one.
        announce: called with one line before anything is fetched.

    Raises:
        SteeringError: no such model, no tokenizer or weights that can be read, an unknown device
            or dtype, a model that isn't a decoder with blocks that can be found.
    """
    from transformers.utils import logging as transformers_logging

    profile = profile or load_profile(source)
    torch_dtype = _resolve_dtype(dtype or profile.dtype)
    torch_device = resolve_device(device)
    location = resolve_source(source, announce)
    transformers_logging.disable_progress_bar()
    if torch_device.type == "cpu":
        keep_freed_memory()
    tokenizer, model = _read(source, location, torch_dtype)
    return LoadedModel(model.to(torch_device), tokenizer, profile)


def _read(source: str, location: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Tokenizer and model from their files; what is wrong with them is told in one line."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    part, expected = "it", "'embedded', a folder with config.json and weights, or a hub id"
    try:
        AutoConfig.from_pretrained(location, trust_remote_code=False)
        part, expected = "its tokenizer", _TOKENIZER_EXPECTED
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
        part, expected = "its weights", "those of this config.json, whole; copy the model again"
        model = AutoModelForCausalLM.from_pretrained(location, dtype=dtype, trust_remote_code=False)
    # RuntimeError is what torch raises of files that end too early, or of weights of other shapes.
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or ["no message"])[0][:200]
        if first.startswith(_NO_TOKENIZER):
            first = "found none"
        place = _damaged(location) if isinstance(error, SafetensorError) else ""
        raise SteeringError(
            f"model: {source!r}: {part} could not be loaded ({place}{first}); expected {expected}"
        ) from error
    return tokenizer, model


def _damaged(location: str) -> str:
    """Which of a folder's files of weights is none: the library does not say."""
    for path in sorted(Path(location).glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError:
            return f"{path.name}: "
    return ""


def share_cores(processes: int) -> None:
    """Use this process's share of the threads, where several processes generate."""
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def resolve_device(device: str, where: str = "device") -> torch.device:
    """``auto`` is CUDA, then MPS, then CPU.

    Args:
        device: ``"auto"`` or a torch device.
        where: the argument or option that named it, for the error.

    Raises:
        SteeringError: torch knows no such device, or it isn't here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise SteeringError(
            f"{where}: found {device!r}, which is not available here; "
            "expected auto, cpu, cuda or mps"
        ) from error
    return resolved


def _resolve_dtype(name: str) -> torch.dtype:
    if name not in _DTYPES:
        raise SteeringError(f"dtype: found {name!r}, expected one of {', '.join(_DTYPES)}")
    return _DTYPES[name]


def find_blocks(hf_model: nn.Module, n_layers: int) -> list[nn.Module]:
    """The decoder's blocks: the module list with one entry per layer of the configuration.

    Raises:
        SteeringError: there is none.
    """
    for _, module in hf_model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return list(module)
    raise SteeringError(
        f"model: {type(hf_model).__name__} has no list of {n_layers} blocks; "
        "expected a decoder such as Llama, Qwen, Gemma, Mistral, GPT-2 or GPT-NeoX"
    )


def _fingerprint(hf_model: Any) -> str:
    """Every weight enters through an exact integer sum of its bits and a strided sample."""
    digest = hashlib.sha256()
    config = hf_model.config.to_dict()
    for volatile in ("_name_or_path", "transformers_version", "dtype", "torch_dtype"):
        config.pop(volatile, None)
    digest.update(repr(sorted(config.items(), key=lambda item: item[0])).encode())
    for name, tensor in sorted(hf_model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        integer = {4: torch.int32, 2: torch.int16, 8: torch.int64, 1: torch.int8}
        bits = flat.view(integer[flat.element_size()])
        stride = max(1, bits.numel() // _FINGERPRINT_SAMPLES)
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(str(int(bits.sum(dtype=torch.int64))).encode())
        digest.update(bits[::stride].cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
