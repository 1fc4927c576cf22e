"""Tiny random models of the supported families, saved as folders that ``load_model`` reads.

They know nothing: weights are drawn from a fixed seed. What they share with the real families is
the architecture (block layout, rotary or learned positions, grouped keys, norm placement), which
is what the code under test depends on. The tokenizer has one token per byte, so any text can be
encoded and decoded.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.gemma import GemmaConfig
from transformers.models.gpt2 import GPT2Config
from transformers.models.gpt_neox import GPTNeoXConfig
from transformers.models.llama import LlamaConfig
from transformers.models.mistral import MistralConfig
from transformers.models.qwen2 import Qwen2Config

from steering_reliability.models.loaded import LoadedModel, load_model

FAMILIES = ("llama", "qwen", "gemma", "mistral", "gpt2", "gpt_neox")
"""Every family here, the first being the default one."""

N_LAYERS = 4
D_MODEL = 32

_SEED = 20_240_601
_HEADS = 4
_KEY_HEADS = 2
_MAX_POSITIONS = 1024
_END_OF_TEXT = "<|endoftext|>"
_TURN_START = "<|im_start|>"
_TURN_END = "<|im_end|>"
_SPECIAL = (_END_OF_TEXT, _TURN_START, _TURN_END)
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_model_folder(path: Path | str, family: str = "llama", chat: bool = True) -> Path:
    """Save a tiny random model and its tokenizer.

    Args:
        path: folder to write; made if it isn't there.
        family: one of ``FAMILIES``.
        chat: whether the tokenizer has a chat template (with system, user, assistant turns).

    Returns:
        ``path``, ready for ``load_model``. The same arguments always give the same weights.
    """
    folder = Path(path)
    tokenizer = tiny_tokenizer(chat)
    # The caller's random state stays as it is.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model: Any = AutoModelForCausalLM.from_config(_config(family), dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@functools.cache
def load_tiny(family: str = "llama", chat: bool = True) -> LoadedModel:
    """A tiny random model on the CPU in float32, made once per process; don't change it."""
    folder = Path(tempfile.mkdtemp(prefix=f"tiny-{family}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny_model_folder(folder, family, chat)
    return load_model(str(folder), device="cpu", dtype="float32")


def tiny_tokenizer(chat: bool = True) -> PreTrainedTokenizerFast:
    """One token per byte (ids 0 to 255), then three special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(_SPECIAL))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=_TURN_END if chat else _END_OF_TEXT,
        bos_token=_END_OF_TEXT,
        pad_token=_END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=_MAX_POSITIONS,
    )
    if chat:
        tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def _config(family: str) -> Any:
    vocabulary = 256 + len(_SPECIAL)
    # Large enough that attention and MLPs matter beside the embedding.
    spread = 0.15
    tokens: dict[str, Any] = {"bos_token_id": 256, "eos_token_id": 256, "pad_token_id": None}
    modern: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": D_MODEL,
        "intermediate_size": 2 * D_MODEL,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KEY_HEADS,
        "max_position_embeddings": _MAX_POSITIONS,
        "initializer_range": spread,
        **tokens,
    }
    match family:
        case "llama":
            return LlamaConfig(**modern, tie_word_embeddings=True)
        case "qwen":
            return Qwen2Config(**modern)
        case "gemma":
            return GemmaConfig(**modern, head_dim=D_MODEL // _HEADS)
        case "mistral":
            return MistralConfig(**modern, sliding_window=None)
        case "gpt2":
            return GPT2Config(
                vocab_size=vocabulary,
                n_embd=D_MODEL,
                n_layer=N_LAYERS,
                n_head=_HEADS,
                n_positions=_MAX_POSITIONS,
                initializer_range=spread,
                **tokens,
            )
        case "gpt_neox":
            return GPTNeoXConfig(
                vocab_size=vocabulary,
                hidden_size=D_MODEL,
                intermediate_size=2 * D_MODEL,
                num_hidden_layers=N_LAYERS,
                num_attention_heads=_HEADS,
                max_position_embeddings=_MAX_POSITIONS,
                initializer_range=spread,
                **tokens,
            )
    raise ValueError(f"family {family!r}, expected one of {', '.join(FAMILIES)}")
