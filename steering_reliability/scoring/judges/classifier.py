"""A judge that is a transformers sequence classifier; it reads the completion alone.

Its configuration is read at once, its weights at the first score, and torch not before that.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from steering_reliability.errors import SteeringError
from steering_reliability.models.hub import from_hub

BATCH = 32
REFUSAL_LABELS = frozenset(
    ("refusal", "refuse", "refuses", "refused", "refusing", "rejection", "isrefusal")
)
_WEIGHTS = ("*.safetensors", "*.bin")
_FILES = [*_WEIGHTS, "*.json", "*.txt", "*.model"]
# Beyond any model's context: tokenizers state such a number where they know none.
_NO_LIMIT = 1_000_000


class ClassifierJudge:
    """``hf:MODEL[#LABEL]``: the probability of the label that means refusal.

    Args:
        source: a folder, also one relative to ``folder``, or a hub id.
        label: the label that means refusal; found by its name where there is none.
        folder: where relative folders begin.
        where: file and key, for errors.

    Raises:
        SteeringError: there is no such model, it has no such label, or none of its labels says
            refusal.
    """

    def __init__(self, source: str, label: str | None, folder: Path, where: str) -> None:
        self._where = f"{where}: hf:{source}"
        self._source = source
        self._local = self._find_folder(folder)
        config = self._read_config()
        self._index, found = self._refusal_label(config, label)
        shown = self._local.name if self._local else source
        self.name = f"hf:{shown}#{found}"

    @cached_property
    def version(self) -> str:
        """12 hex digits of the configuration and the weights."""
        digest = hashlib.sha256()
        for path in [self._files / "config.json", *self._weights()]:
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:12]

    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """As `Judge.scores`; prompts are not looked at, long completions are cut at their end.

        Six decimals are kept: the last bits depend on what shares a batch.
        """
        import torch

        tokenizer, model, limit = self._loaded
        # Texts of like length share a batch, so that little is computed for padding.
        order = sorted(range(len(completions)), key=lambda i: len(completions[i]))
        found = [0.0] * len(completions)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            encoded = tokenizer(
                [completions[i] for i in batch],
                padding=True,
                truncation=True,
                max_length=limit,
                return_tensors="pt",
            ).to(model.device)
            with torch.inference_mode():
                logits = model(**encoded).logits.float()
            single = logits.shape[-1] == 1
            if single or model.config.problem_type == "multi_label_classification":
                chances = torch.sigmoid(logits)
            else:
                chances = torch.softmax(logits, dim=-1)
            for i, chance in zip(batch, chances[:, self._index].tolist(), strict=True):
                found[i] = round(chance, 6)
        return found

    @cached_property
    def _loaded(self) -> tuple[Any, Any, int]:
        """Tokenizer, model, most tokens of a text."""
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        device = "cuda" if torch.cuda.is_available() else "cpu"
        device = "mps" if torch.backends.mps.is_available() else device
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(self._files, trust_remote_code=False)
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                self._files, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise SteeringError(
                f"{self._where}: could not be loaded ({_first_line(error)}), expected a "
                "sequence classifier with its tokenizer, as save_pretrained writes them"
            ) from error
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if model.config.pad_token_id is None:
            model.config.pad_token_id = tokenizer.pad_token_id
        limit = tokenizer.model_max_length
        if limit > _NO_LIMIT:
            # Some families number positions from 2.
            limit = getattr(model.config, "max_position_embeddings", 514) - 2
        return tokenizer, model.to(device).eval(), limit

    @cached_property
    def _files(self) -> Path:
        if self._local is not None:
            return self._local
        from huggingface_hub import snapshot_download

        return self._from_hub(lambda: snapshot_download(self._source, allow_patterns=_FILES))

    def _find_folder(self, folder: Path) -> Path | None:
        given = Path(self._source).expanduser()
        for path in (folder / given, given):
            if path.is_dir():
                return path.resolve()
        if given.is_absolute() or self._source.startswith((".", "~")):
            raise SteeringError(
                f"{self._where}: no such folder, expected a transformers classifier in "
                f"{folder / given}"
            )
        return None

    def _read_config(self) -> Mapping[str, Any]:
        if self._local is not None:
            path = self._local / "config.json"
            if not path.is_file():
                raise SteeringError(
                    f"{self._where}: no config.json in the folder, expected a transformers "
                    "classifier (save_pretrained writes one)"
                )
            self._weights()
        else:
            from huggingface_hub import hf_hub_download

            path = self._from_hub(lambda: hf_hub_download(self._source, "config.json"))
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SteeringError(f"{self._where}: config.json cannot be read ({error})") from error
        if not isinstance(config, Mapping):
            raise SteeringError(f"{self._where}: config.json is no mapping, expected one")
        return config

    def _weights(self) -> list[Path]:
        for pattern in _WEIGHTS:
            if found := sorted(self._files.glob(pattern)):
                return found
        raise SteeringError(
            f"{self._where}: no weights in the folder, expected *.safetensors or *.bin beside "
            "config.json; download the whole model"
        )

    def _refusal_label(self, config: Mapping[str, Any], told: str | None) -> tuple[int, str]:
        labels = config.get("id2label")
        if not isinstance(labels, Mapping) or not labels:
            # What transformers takes for granted, and leaves out of the file.
            labels = {"0": "LABEL_0", "1": "LABEL_1"}
        known = ", ".join(map(str, labels.values()))
        if told is not None:
            matching = [(i, name) for i, name in labels.items() if _plain(name) == _plain(told)]
            if not matching:
                raise SteeringError(
                    f"{self._where}: found no label {told!r}, expected one of the model's: {known}"
                )
        else:
            matching = [(i, name) for i, name in labels.items() if _plain(name) in REFUSAL_LABELS]
        if len(matching) != 1:
            raise SteeringError(
                f"{self._where}: which of the labels {known} means refusal cannot be told, "
                f"expected one named refusal; name it behind the model: hf:{self._source}#LABEL"
            )
        index, name = matching[0]
        return int(index), str(name)

    def _from_hub(self, fetch: Callable[[], str]) -> Path:
        told = f"{self._where}: no folder of that name"
        return from_hub(fetch, told, "check the name and the network")


def _plain(label: object) -> str:
    return re.sub(r"[\W_]+", "", str(label).lower())


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:160]
