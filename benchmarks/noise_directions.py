"""Does the suite call a direction made of rounding noise what it is?

``python -m benchmarks.noise_directions --json FILE`` repeats a published mistake fifty times: the
difference between the refusal and the compliance prefix is taken at the last prompt token, which
cannot see either of them. What is left is the rounding of differently shaped batches. Normalised
and saved, its raw norm no longer tells; the claim ``direction_is_real`` has to, by the agreement of
pairs. For comparison: as many directions whose differences are Gaussian noise, as many learned ones
from as few prompts, and what the null guard says of the noise before it is normalised.

The noise is that of ten layers and five groups of learning prompts of ``harm_train``; nothing is
generated, so there are no controls, and without them none can pass: a direction that is more than
noise, as far as its pairs tell, stays ``inconclusive`` and is counted as ``above placebo``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import steering_reliability as sr
from steering_reliability.directions import (
    DEFAULT_PAIRS,
    PLACEBO_PAIRS,
    Contrasts,
    collect_contrasts,
    compare_to_placebo,
    load_direction,
    save_direction,
)
from steering_reliability.errors import SteeringError
from steering_reliability.expectations import DirectionEvidence, Outcome, evaluate
from steering_reliability.models.loaded import LoadedModel
from steering_reliability.prompts import Prompt
from steering_reliability.results.summary import SCORE_COLUMNS

PROMPTS = Path(__file__).resolve().parents[1] / "experiments" / "prompts"
GROUPS = 5
LAYERS = 10
PLACEBO_PROMPTS = 8


class _DeepestReached(Exception):  # noqa: N818 - control flow, not an error
    """Ends a forward pass behind the deepest layer."""


def last_prompt_noise(
    model: LoadedModel, prompts: Sequence[Prompt], layers: Sequence[int]
) -> dict[int, Tensor]:
    """The mistake: whole texts in one padded batch per prefix, compared at the last prompt token.

    Returns:
        By layer, refusal minus compliance, ``[n_prompts, n_pairs, d_model]``.
    """
    asked = [model.encode(prompt.text) for prompt in prompts]
    last = torch.tensor([len(tokens) - 1 for tokens in asked])
    seen: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            residual = output[0] if isinstance(output, tuple) else output
            seen[layer] = residual[torch.arange(len(last)), last].float().cpu()
            if layer == max(layers):
                raise _DeepestReached

        return hook

    handles = [model.blocks[layer].register_forward_hook(keep(layer)) for layer in layers]
    differences: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    try:
        for pair in DEFAULT_PAIRS:
            sides = []
            for text in pair:
                rows = [tokens + model.format.encode_response(text) for tokens in asked]
                width = max(map(len, rows))
                ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
                mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
                try:
                    with torch.no_grad():
                        model.hf_model(ids.to(model.device), mask.to(model.device), use_cache=False)
                except _DeepestReached:
                    pass
                sides.append(dict(seen))
            for layer in layers:
                differences[layer].append(sides[0][layer] - sides[1][layer])
    finally:
        for handle in handles:
            handle.remove()
    return {layer: torch.stack(found, dim=1) for layer, found in differences.items()}


def normalised(contrasts: Contrasts, differences: Tensor) -> Contrasts:
    """Contrasts with a mean as long as a tenth of the residual norm, as if they were learned."""
    mean = differences.double().mean(dim=(0, 1)).norm()
    scaled = (differences.double() * (contrasts.residual_norm / 10 / mean)).float()
    return replace(contrasts, differences=scaled, midpoints=None)


def judged(
    contrasts: Contrasts, placebo: Tensor, folder: Path
) -> tuple[Outcome, bool, dict[str, float]]:
    """Of a direction saved to a file: the claim's outcome, whether null guard and agreement hold.

    Returns:
        Both, and the numbers behind them.
    """
    path = folder / "direction.safetensors"
    save_direction(contrasts.direction(), path)
    direction = load_direction(path, layer=contrasts.layer)
    found = compare_to_placebo(direction.halved_agreement_low, placebo, len(direction.pairs))
    evidence = DirectionEvidence.of({**direction.describe(), "diagnostics": found})
    verdict = evaluate(
        "direction_is_real",
        pd.DataFrame(columns=list(SCORE_COLUMNS)),
        layer=direction.layer,
        directions={direction.layer: evidence},
    )
    numbers = {
        "pair_agreement": direction.pair_agreement,
        "halved_agreement": direction.halved_agreement,
        "halved_agreement_low": direction.halved_agreement_low,
    }
    parts = (verdict.details["null_guard"], verdict.details["agreement_of_pairs"])
    return verdict.outcome, parts == ("pass", "pass"), numbers | found


def refused(contrasts: Contrasts) -> bool:
    """Whether the null guard refuses to make a direction of it."""
    try:
        contrasts.direction()
    except SteeringError:
        return True
    return False


def measure(
    model: LoadedModel,
    prompts: Sequence[Prompt],
    layers: Sequence[int],
    groups: int = GROUPS,
) -> Iterator[dict[str, Any]]:
    """One row per kind of direction, layer and group of prompts.

    Args:
        prompts: learning prompts, split evenly into the groups.
    """
    few = prompts[:PLACEBO_PROMPTS]
    placebo = collect_contrasts(model, few, layers, pairs=PLACEBO_PAIRS)
    size = len(prompts) // groups
    random = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        for group in range(groups):
            own = prompts[group * size : (group + 1) * size]
            learned = collect_contrasts(model, own, layers)
            rounding = last_prompt_noise(model, own, layers)
            for layer in layers:
                real = learned[layer]
                gauss = torch.randn(real.differences.shape, generator=random)
                kinds = {
                    "rounding noise": rounding[layer],
                    "Gaussian noise": gauss,
                    "learned": real.differences,
                }
                for kind, differences in kinds.items():
                    row: dict[str, Any] = {"kind": kind, "layer": layer, "group": group}
                    row["refused_as_it_is"] = refused(replace(real, differences=differences))
                    if not differences.double().mean(dim=(0, 1)).norm():
                        zero = {"outcome": "fail", "above_placebo": False, "why": "exactly zero"}
                        yield row | zero
                        continue
                    fake = normalised(real, differences)
                    outcome, above, numbers = judged(fake, placebo[layer].differences, Path(folder))
                    yield {**row, "outcome": outcome, "above_placebo": above, **numbers}


def measure_model(model: LoadedModel) -> list[dict[str, Any]]:
    """The rows of fifty directions of each kind, from the learning prompts of ``harm_train``."""
    prompts = sr.load_prompts(PROMPTS / "harm_train.jsonl")[-64:]
    depth = model.n_layers
    layers = sorted({round(depth * (0.2 + 0.06 * step)) for step in range(LAYERS)})
    return list(measure(model, prompts, layers))


def table(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per kind how many fail, stay open and pass, and how many are above placebo."""
    found = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        outcomes = Counter(row["outcome"] for row in own)
        agreements = [row["halved_agreement_low"] for row in own if "halved_agreement_low" in row]
        found.append(
            {
                "kind": kind,
                "directions": len(own),
                "refused as it is": sum(row["refused_as_it_is"] for row in own),
                **{name: outcomes[name] for name in ("fail", "inconclusive", "pass")},
                "above placebo": sum(row["above_placebo"] for row in own),
                "median agreement": float(torch.tensor(agreements).median()),
                "largest agreement": max(agreements),
            }
        )
    return found


def main() -> None:
    """Print the table; exit with 1 where over 5% of noise is above placebo or under 80% fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--model", default="embedded")
    arguments = parser.parse_args()
    rows = measure_model(sr.load_model(arguments.model, "cpu"))
    found = table(rows)
    names = list(found[0])
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for row in found:
        values = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
        print(f"| {' | '.join(values)} |")
    if arguments.json:
        record = {"table": found, "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    noise = [row for row in found if row["kind"] != "learned"]
    for row in noise:
        if row["above placebo"] > 0.05 * row["directions"] or row["fail"] < 0.8 * row["directions"]:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
