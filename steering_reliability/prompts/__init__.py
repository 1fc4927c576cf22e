"""Prompts: reading them, and refusing sets that would make a result meaningless.

A set with duplicates counts one observation several times; a prompt that leaks from the split a
direction is learned from into the split it is judged on makes generalisation look better than it
is. Both are checked here. This package knows nothing about models, levels or scores, and needs
the ``datasets`` library only for sources other than JSONL and csv files.
"""

from __future__ import annotations

from steering_reliability.prompts.duplicates import (
    NEAR_DUPLICATE,
    check_prompts,
    fold,
    near_duplicates,
    similarity,
)
from steering_reliability.prompts.prompt import Prompt, check_are_prompts, prompts_hash
from steering_reliability.prompts.reading import load_prompts
from steering_reliability.prompts.sources import find_file, find_source

__all__ = [
    "NEAR_DUPLICATE",
    "Prompt",
    "check_are_prompts",
    "check_prompts",
    "find_file",
    "find_source",
    "fold",
    "load_prompts",
    "near_duplicates",
    "prompts_hash",
    "similarity",
]
