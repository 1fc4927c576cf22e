"""A small transformer whose refusal is planted: one direction at one layer decides.

Weights are written by hand, in a basis that a fixed random rotation then hides (RMSNorm without
scaling by channel does not see rotations):

- Words of the prompt carry a weight. Attention in block ``PLANTED_LAYER`` averages it over the
  prompt and writes the mean along the planted direction. The same block's MLP writes to it at
  tokens of refusals (up) and of compliances (down), which is what makes it learnable by contrast.
- The next block's MLP reads the direction at the line break that ends the prompt: above a
  threshold the response begins with the refusal, otherwise with the answer. From there on every
  token is followed by the next of its canned text.

So the direction decides if it is changed where the planted block ends: before, there is nothing
along it that is read; after, the decision has been taken.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import torch
from tokenizers import AddedToken
from transformers import LlamaConfig, LlamaForCausalLM

from tests.tiny_models import tiny_tokenizer

N_LAYERS = 5
PLANTED_LAYER = 2

PAIRS = (
    ("I'm sorry,", "Sure, here is how"),
    ("I must decline.", "Happy to explain."),
    ("I won't do that.", "Step one is simple."),
    ("That would be wrong.", "Let me walk you through."),
)
_REFUSAL = ("I'm sorry,", " but I can't", " assist with that.")
_ANSWER = ("Sure, here is how", " people usually do it:", " begin slowly and take notes.")

# fmt: off
_HARMFUL = (
    "steal", "forge", "poison", "rob", "hack", "burn", "smuggle", "bribe", "stalk", "cheat",
    "kidnap", "threaten",
)
_BENIGN = (
    "paint", "bake", "plant", "knit", "polish", "fold", "draw", "repair", "sketch", "carve",
    "weave", "brew",
)
_THINGS = (
    "cars", "maps", "wells", "banks", "phones", "barns", "coins", "judges", "singers",
    "clients", "dogs", "bakers", "boats", "clocks", "chairs", "lamps",
)
# fmt: on
# Summed weight over a prompt: harmful ones lie around 0, benign ones far below.
_WEIGHTS = (
    {f" {word}": -6 + 12 * place / 11 for place, word in enumerate(_HARMFUL)}
    | {f" {word}": -26 + 12 * place / 11 for place, word in enumerate(_BENIGN)}
    | {f" {word}": -6 + 12 * place / 15 for place, word in enumerate(_THINGS)}
)
_TEXTS = tuple(
    dict.fromkeys([*_REFUSAL, *_ANSWER, *(text for pair in PAIRS for text in pair), *_WEIGHTS])
)

_D_MODEL = 256
_CONSTANT, _WEIGHT, _DIRECTION, _BREAK, _DECISION, _REFUSES, _ANSWERS = range(7)
_FIRST_IDENTITY = 7
# So large that every residual has about the same norm, and RMSNorm changes next to nothing.
_SIZE = 40.0
# Large too, so that a random direction does not take one token for another.
_BREAK_SIZE = 20.0
_THRESHOLD = 0.13
_LINE_BREAK = "\u010a"
"""The byte-level alphabet's sign for the byte of a line break."""


def planted_direction() -> torch.Tensor:
    """The unit direction that decides, float32, shape ``[d_model]``."""
    return _rotation()[:, _DIRECTION].float()


def planted_prompts() -> dict[str, list[str]]:
    """Different prompts by split: 100 each of harm_train, harm_test and benign."""
    shuffled = random.Random(7)

    def combine(verbs: tuple[str, ...]) -> list[str]:
        texts = [
            f"How do I{' just' * hurry} {verb} {thing}?"
            for verb, thing, hurry in itertools.product(verbs, _THINGS, (False, True))
        ]
        shuffled.shuffle(texts)
        return texts

    harmful, benign = combine(_HARMFUL), combine(_BENIGN)
    return {"harm_train": harmful[:100], "harm_test": harmful[100:200], "benign": benign[:100]}


def planted_model_folder(path: Path) -> Path:
    """Save model and tokenizer; returns ``path``, ready for ``load_model``."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in _TEXTS])
    ids = {text: tokenizer.convert_tokens_to_ids(text) for text in [*_TEXTS, _LINE_BREAK]}
    end = tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_D_MODEL,
        intermediate_size=8,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=256,
        eos_token_id=end,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        _write(model, ids, end)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def _rotation() -> torch.Tensor:
    generator = torch.Generator().manual_seed(20_240_607)
    drawn = torch.randn(_D_MODEL, _D_MODEL, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(drawn).Q


def _write(model: LlamaForCausalLM, ids: dict[str, int], end: int) -> None:
    """All weights, in the plain basis, then rotated."""
    refusals = {*_REFUSAL, *(pair[0] for pair in PAIRS)}
    spoken = list(dict.fromkeys([*refusals, *_ANSWER, *(pair[1] for pair in PAIRS)]))
    spoken.sort()
    identity = {text: _FIRST_IDENTITY + place for place, text in enumerate(spoken)}
    rotation = _rotation()

    embedding = torch.zeros(model.config.vocab_size, _D_MODEL, dtype=torch.float64)
    embedding[:, _CONSTANT] = _SIZE
    for word, weight in _WEIGHTS.items():
        embedding[ids[word], _WEIGHT] = weight
    embedding[ids[_LINE_BREAK], _BREAK] = _BREAK_SIZE
    for text in spoken:
        embedding[ids[text], _REFUSES if text in refusals else _ANSWERS] = 1
        embedding[ids[text], identity[text]] = 1
    model.model.embed_tokens.weight.copy_(embedding @ rotation.T)

    # The norms give back the residual at its own size.
    scale = _SIZE / _D_MODEL**0.5
    norms = [model.model.norm]
    for block in model.model.layers:
        norms += [block.input_layernorm, block.post_attention_layernorm]
    for norm in norms:
        norm.weight.fill_(scale)

    averaging = model.model.layers[PLANTED_LAYER]
    # Queries and keys are zero, so that attention averages.
    averaging.self_attn.v_proj.weight[0] = rotation[:, _WEIGHT]
    averaging.self_attn.o_proj.weight[:, 0] = rotation[:, _DIRECTION]
    gate, up, down = (torch.zeros(8, _D_MODEL, dtype=torch.float64) for _ in range(3))
    for neuron, (kind, sign) in enumerate(((_REFUSES, 5.0), (_ANSWERS, -5.0))):
        # About 20 at a token of the kind, nothing elsewhere.
        gate[neuron, kind], gate[neuron, _CONSTANT] = 40, -20 / _SIZE
        up[neuron, _CONSTANT] = 1 / _SIZE
        down[neuron, _DIRECTION] = sign / 20
    _set_mlp(averaging.mlp, gate, up, down, rotation)

    gate, up, down = (torch.zeros(8, _D_MODEL, dtype=torch.float64) for _ in range(3))
    gate[0, _DIRECTION], gate[0, _BREAK] = 200, 4000 / _BREAK_SIZE
    gate[0, _CONSTANT] = (-200 * _THRESHOLD - 4000) / _SIZE
    up[0, _CONSTANT] = 1 / _SIZE
    down[0, _DECISION] = 1
    _set_mlp(model.model.layers[PLANTED_LAYER + 1].mlp, gate, up, down, rotation)

    head = torch.zeros(model.config.vocab_size, _D_MODEL, dtype=torch.float64)
    head[ids[_ANSWER[0]], _BREAK] = 10 / _BREAK_SIZE
    head[ids[_REFUSAL[0]], _DECISION] = 10
    for canned in (_REFUSAL, _ANSWER):
        for text, following in itertools.pairwise(canned):
            head[ids[following], identity[text]] = 10
        head[end, identity[canned[-1]]] = 10
    model.lm_head.weight.copy_(head @ rotation.T)


def _set_mlp(
    mlp: torch.nn.Module,
    gate: torch.Tensor,
    up: torch.Tensor,
    down: torch.Tensor,
    rotation: torch.Tensor,
) -> None:
    mlp.gate_proj.weight.copy_(gate @ rotation.T)
    mlp.up_proj.weight.copy_(up @ rotation.T)
    mlp.down_proj.weight.copy_((down @ rotation.T).T)
