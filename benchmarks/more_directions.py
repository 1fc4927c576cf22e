"""Do own texts, more varied pairs, other layers or a kept norm beat the shipped direction?

A second comparison, after the one of ``benchmarks.directions``, by the same rule, on all prompts of
harm_train and benign_train: ``python -m benchmarks.more_directions --texts FILE --json FILE``.
Directions are learned in one half of harm_train and judged on the other half and on half of
benign_train, both ways round. docs/choices.md says what was fixed before it was run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
import yaml
from torch import Tensor

import steering_reliability as sr
from benchmarks.directions import PROMPTS, Outcomes, complete, print_table, ranked, scored
from benchmarks.varied_pairs import VARIED_PAIRS
from steering_reliability.directions.contrastive import DEFAULT_PAIRS, collect_contrasts
from steering_reliability.directions.formats import load_direction, save_direction
from steering_reliability.directions.residuals import Continued, read_continuations
from steering_reliability.interventions import RowSteering
from steering_reliability.models.loaded import LoadedModel

LADDER = PROMPTS.parent / "configs" / "alpha_sweep.yaml"
STRENGTH = 0.125
N_LEARNED_FROM = 64
N_BENIGN_BEFORE = 40
MIN_TEXTS = 8
"""Own texts of either kind in a half; with fewer, a mean over them would be mostly noise."""

METHODS = {
    "response": "mean over all tokens of the eight shipped pairs' prefixes (shipped)",
    "varied": "the same with the 24 pairs of benchmarks.varied_pairs",
    "own": "own unsteered completions: those that refuse less those that help, each after its "
    "own harmful prompt, mean over all tokens of each",
    "own_strong": "same prompt: the refusal made under the strong system prompt less the helpful "
    "completion made without, both read without",
    "norm_kept": "response, and the steered residual is scaled back to the norm it had",
}
VARIANTS = (
    ("response", 12),
    ("response", 20),
    ("norm_kept", 12),
    ("own_strong", 12),
    ("own", 12),
    ("varied", 12),
    ("varied", 20),
    ("varied", 18),
    ("varied", 22),
)


def strong_system_prompt() -> str:
    """The one that the ladder compares steering with."""
    level = yaml.safe_load(LADDER.read_text("utf-8"))
    return str(level["prompt_baseline"]["system_prompt"])


@contextmanager
def kept_norm() -> Iterator[None]:
    """Scale each steered position back to the norm that it had; the rest stays bit for bit."""
    add = RowSteering.apply

    def apply(rows: RowSteering, layer: int, residual: Tensor) -> Tensor:
        return with_norm_of(residual, add(rows, layer, residual))

    with mock.patch.object(RowSteering, "apply", apply):
        yield


def with_norm_of(residual: Tensor, steered: Tensor) -> Tensor:
    """``steered`` at the norms of ``residual``, both ``[..., d_model]``."""
    is_moved = (steered != residual).any(dim=-1, keepdim=True)
    smallest = torch.finfo(steered.dtype).tiny
    scale = residual.norm(dim=-1, keepdim=True) / steered.norm(dim=-1, keepdim=True).clamp(smallest)
    return torch.where(is_moved, steered * scale, residual)


def mean_residuals(
    model: LoadedModel, read: Sequence[tuple[sr.Prompt, list[str]]], layers: Sequence[int]
) -> dict[int, Tensor]:
    """Mean over each text's own tokens, where it continues its prompt.

    Args:
        model: what reads, under its own system prompt.
        read: prompts and the texts that follow each, equally many.
        layers: 0-indexed blocks.

    Returns:
        Per layer ``[n_prompts, n_texts, d_model]``, in float32.
    """
    requests = [
        Continued(model.encode(prompt.text), [model.format.encode_response(text) for text in texts])
        for prompt, texts in read
    ]
    means: dict[int, list[Tensor]] = {layer: [torch.empty(0)] * len(read) for layer in layers}
    for index, residuals in read_continuations(model, requests, layers):
        lengths = [len(tokens) for tokens in requests[index].continuations]
        for layer, residual in residuals.items():
            means[layer][index] = torch.stack(
                [row[:length].mean(0) for row, length in zip(residual, lengths, strict=True)]
            )
    return {layer: torch.stack(rows) for layer, rows in means.items()}


def own_texts_directions(
    model: LoadedModel,
    prompts: Sequence[sr.Prompt],
    unsteered: Sequence[str],
    strong: Sequence[str],
    layers: Sequence[int],
) -> tuple[dict[tuple[str, int], Tensor], dict[str, int]]:
    """Raw ``own`` and ``own_strong`` differences by layer, and how many texts they are made of.

    A method with fewer than ``MIN_TEXTS`` texts of either kind is left out.

    Args:
        model: with the shipped system prompt, under which everything is read.
        prompts: harmful learning prompts.
        unsteered: the completion of each.
        strong: the completion of each under the strong system prompt.
        layers: 0-indexed blocks.
    """
    refusals, compliances, both = [], [], []
    for prompt, text, under_strong in zip(prompts, unsteered, strong, strict=True):
        score = sr.score(prompt.text, text)
        if score.is_refusal:
            refusals.append((prompt, [text]))
        if score.is_helpful:
            compliances.append((prompt, [text]))
            if sr.score(prompt.text, under_strong).is_refusal:
                both.append((prompt, [under_strong, text]))
    counts = {"refusals": len(refusals), "compliances": len(compliances), "both": len(both)}
    found = {}
    if min(len(refusals), len(compliances)) >= MIN_TEXTS:
        refused = mean_residuals(model, refusals, layers)
        complied = mean_residuals(model, compliances, layers)
        for layer in layers:
            found["own", layer] = refused[layer].mean((0, 1)) - complied[layer].mean((0, 1))
    if len(both) >= MIN_TEXTS:
        for layer, means in mean_residuals(model, both, layers).items():
            found["own_strong", layer] = (means[:, 0] - means[:, 1]).mean(0)
    return found, counts


Variant = tuple[str, int]


def learn_variants(
    model: LoadedModel,
    prompts: list[sr.Prompt],
    own_from: list[sr.Prompt],
    variants: Sequence[Variant],
    kept: Path,
    label: str,
) -> dict[Variant, sr.Direction]:
    """Directions by variant, all of one residual norm at a layer, so that what is added is as long.

    What was learned is kept beside the completions, and read from there when a run goes on.

    Args:
        model: the model to be steered.
        prompts: learned from with prefixes.
        own_from: whose completions are learned from; more, as only some are of use.
        variants: methods and layers.
        kept: as in ``complete``.
        label: names the folder, and what lines of progress begin with.
    """
    folder = kept.with_suffix("") / label.replace(" ", "-")
    files = {variant: folder / f"{variant[0]}-{variant[1]}.safetensors" for variant in variants}
    missing = [variant for variant, file in files.items() if not file.exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        for variant, direction in _learn(model, prompts, own_from, missing, kept, label).items():
            save_direction(direction, files[variant])
    found = {key: load_direction(file) for key, file in files.items() if file.exists()}
    for (method, layer), direction in found.items():
        if ("response", layer) in found:
            cosine = float(direction.vector @ found["response", layer].vector)
            print(f"{label}: {method} at {layer}: cosine to response {cosine:.2f}", flush=True)
    return found


def _learn(
    model: LoadedModel,
    prompts: list[sr.Prompt],
    own_from: list[sr.Prompt],
    variants: Sequence[Variant],
    kept: Path,
    label: str,
) -> dict[Variant, sr.Direction]:
    layers = sorted({layer for _, layer in variants})
    methods = {method for method, _ in variants}
    shipped = collect_contrasts(model, prompts, layers, pairs=DEFAULT_PAIRS)
    found = {}
    for layer in layers:
        # Learned alike; only applied in another way.
        found["response", layer] = found["norm_kept", layer] = shipped[layer].direction()
    if "varied" in methods:
        for layer, varied in collect_contrasts(model, prompts, layers, pairs=VARIED_PAIRS).items():
            found["varied", layer] = replace(
                varied.direction(), residual_norm=shipped[layer].residual_norm
            )
    if methods & {"own", "own_strong"}:
        cells = [sr.Cell(layers[0], "add", 0.0)]
        [unsteered] = complete(model, own_from, cells, {}, kept, label)
        spoken_to = model.with_system_prompt(strong_system_prompt())
        [strong] = complete(spoken_to, own_from, cells, {}, kept, label)
        raw, counts = own_texts_directions(model, own_from, unsteered, strong, layers)
        print(f"{label}: own texts learned from: {counts}", flush=True)
        for (method, layer), vector in raw.items():
            norm = float(vector.norm())
            found[method, layer] = sr.Direction(
                vector / norm, layer, norm, shipped[layer].residual_norm, method=method
            )
    return {variant: found[variant] for variant in variants if variant in found}


def judge_half(
    model: LoadedModel,
    fold: int,
    harmful: list[sr.Prompt],
    judged: list[sr.Prompt],
    kept: Path,
    n_variants: int = len(VARIANTS),
) -> Outcomes:
    """Scores by variant, in the order of ``judged``; learned from half ``fold`` of ``harmful``.

    Only the first ``n_variants`` are judged.
    """
    label = f"half {fold}"
    directions = learn_variants(
        model,
        harmful[-N_LEARNED_FROM:][fold::2],
        harmful[fold::2],
        VARIANTS[:n_variants],
        kept,
        label,
    )
    cells = {("unsteered", 0, 0.0): sr.Cell(0, "add", 0.0)} | {
        (method, layer, STRENGTH): sr.Cell(layer, "add", STRENGTH, direction=method)
        for method, layer in directions
    }
    added = {key: cell for key, cell in cells.items() if key[0] != "norm_kept"}
    scaled = {key: cell for key, cell in cells.items() if key[0] == "norm_kept"}
    texts = complete(model, judged, list(added.values()), directions, kept, label)
    with kept_norm():
        texts += complete(
            model, judged, list(scaled.values()), directions, kept, label, mark="-norm-kept"
        )
    return {
        variant: scored(judged, of_cell)
        for variant, of_cell in zip([*added, *scaled], texts, strict=True)
    }


def judged_throughout(outcomes: Outcomes) -> Outcomes:
    """Less those variants that one half had too few own texts to learn."""
    n_prompts = max(len(found["harmful"]) for found in outcomes.values())
    return {key: found for key, found in outcomes.items() if len(found["harmful"]) == n_prompts}


def restricted(outcomes: Outcomes, kept: dict[str, list[bool]]) -> Outcomes:
    """The scores of some prompts alone, for each kind of prompt one flag per score."""
    return {
        variant: {
            kind: [score for score, keep in zip(found[kind], flags, strict=True) if keep]
            for kind, flags in kept.items()
        }
        for variant, found in outcomes.items()
    }


def main() -> None:
    """Print the ranking after each half, then on the prompts that no comparison had judged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--texts", type=Path, required=True, help="file to keep completions in")
    parser.add_argument(
        "--first", type=int, default=len(VARIANTS), help="judge only so many of the variants"
    )
    arguments = parser.parse_args()
    harmful = sr.load_prompts(PROMPTS / "harm_train.jsonl")
    benign = sr.load_prompts(PROMPTS / "benign_train.jsonl")
    judged_before = {p.id for p in (*harmful[-N_LEARNED_FROM:], *benign[:N_BENIGN_BEFORE])}
    model: LoadedModel = sr.load_model("embedded", "cpu")
    pooled: Outcomes = {}
    is_fresh: dict[str, list[bool]] = {"harmful": [], "benign": []}
    tables = {}
    for fold in (0, 1):
        judged = [*harmful[1 - fold :: 2], *benign[1 - fold :: 2]]
        is_fresh["harmful"] += [p.id not in judged_before for p in harmful[1 - fold :: 2]]
        is_fresh["benign"] += [p.id not in judged_before for p in benign[1 - fold :: 2]]
        for variant, found in judge_half(
            model, fold, harmful, judged, arguments.texts, arguments.first
        ).items():
            mine = pooled.setdefault(variant, {"harmful": [], "benign": []})
            for kind, scores in found.items():
                mine[kind] += scores
        title = "first half" if fold == 0 else "both halves"
        tables[title] = ranked(judged_throughout(pooled))
        print_table(title, tables[title])
    title = "both halves, prompts not judged before"
    tables[title] = ranked(restricted(judged_throughout(pooled), is_fresh))
    print_table(title, tables[title])
    if arguments.json:
        arguments.json.write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
