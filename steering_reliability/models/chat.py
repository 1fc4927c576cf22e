"""How a request becomes the text a model sees: its own chat template, or a plain layout."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from jinja2 import TemplateError

from steering_reliability.config import ModelProfile

_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>")


class PromptFormat:
    """Renders and tokenises requests for one model and profile.

    Args:
        tokenizer: the transformers tokenizer.
        profile: says which system prompt and whether the chat template applies.
    """

    def __init__(self, tokenizer: Any, profile: ModelProfile) -> None:
        self._tokenizer = tokenizer
        self._profile = profile
        has_template = bool(getattr(tokenizer, "chat_template", None))
        self.uses_template = has_template if profile.chat == "auto" else profile.chat == "template"
        self.end_token_ids = _end_token_ids(tokenizer)

    def render(self, text: str) -> str:
        """The prompt as the model sees it, up to where its response begins."""
        if not self.uses_template:
            return self._profile.plain_template.format(prompt=text)
        request = {"role": "user", "content": text}
        system = self._profile.system_prompt
        if not system:
            return self._apply([request])
        try:
            return self._apply([{"role": "system", "content": system}, request])
        except TemplateError:
            # Some templates, such as Gemma's, know no system role and say so.
            return self._apply([{"role": "user", "content": f"{system}\n\n{text}"}])

    def _apply(self, messages: list[dict[str, str]]) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        )

    def encode(self, text: str) -> list[int]:
        """Token ids of the rendered prompt."""
        # A chat template writes the special tokens itself; a second <bos> would be another prompt.
        ids = self._tokenizer(self.render(text), add_special_tokens=not self.uses_template)
        return list(ids["input_ids"])

    def encode_response(self, text: str) -> list[int]:
        """Token ids of a response's beginning, as they follow a rendered prompt."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    @property
    def shared_prefix(self) -> list[int]:
        """Tokens that every rendered prompt begins with (system prompt, template)."""
        first, second = self.encode("a"), self.encode("Why?")
        shared = []
        for left, right in zip(first, second, strict=False):
            if left != right:
                break
            shared.append(left)
        return shared

    @property
    def template_hash(self) -> str:
        """Identifies template and system prompt together."""
        identity = {
            "template": getattr(self._tokenizer, "chat_template", None)
            if self.uses_template
            else self._profile.plain_template,
            "system_prompt": self._profile.system_prompt if self.uses_template else None,
        }
        text = json.dumps(identity, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _end_token_ids(tokenizer: Any) -> frozenset[int]:
    vocabulary = tokenizer.get_vocab()
    ids = {vocabulary[marker] for marker in _END_OF_TURN if marker in vocabulary}
    if tokenizer.eos_token_id is not None:
        ids.add(int(tokenizer.eos_token_id))
    return frozenset(ids)
