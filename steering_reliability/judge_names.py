"""How a judge of refusal is named in a level and on the command line; imports nothing."""

from __future__ import annotations

import re

RULES = "rules"
CLASSIFIER_PREFIX = "hf:"
EXPECTED = "rules, module:function, or hf:MODEL (a folder or hub id, #LABEL may follow)"

_FUNCTION = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)


def is_judge(spec: str) -> bool:
    """Whether a text is written like a judge; nothing is imported or opened."""
    if spec.startswith(CLASSIFIER_PREFIX):
        source, hash_sign, label = spec.removeprefix(CLASSIFIER_PREFIX).partition("#")
        return bool(source.strip()) and bool(label.strip()) == bool(hash_sign)
    return spec == RULES or _FUNCTION.fullmatch(spec) is not None
