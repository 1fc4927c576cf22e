"""How fast is steered generation over a grid, beside how others do it?

``python -m benchmarks.engine --json FILE``: the prompts and cells of the ``layer_test`` level, on
the embedded model, greedy, 48 new tokens. Peers generate a part of every cell's prompts; before
any time is told, their tokens are compared with the engine's. A completion may differ only where
the top two logits are within 1e-3, and at most 1% may.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import steering_reliability as sr
from benchmarks.peers import PeerRun, lens_batch, run_peer, transformers_batch
from benchmarks.slot_counts import measure_slot_counts
from benchmarks.workload import EngineRun, Workload, run_engine
from steering_reliability.cells import expand_grid
from steering_reliability.completions import Completion
from steering_reliability.engine.requests import Request
from steering_reliability.ladder.judge import Scorer, judge_level
from steering_reliability.models.loaded import LoadedModel

GRID_SIZES = (1, 7, 25)
NEAR_TIE = 1e-3


def compare_tokens(
    work: Workload, requests: Sequence[Request], done: dict[str, Completion], peer: PeerRun
) -> dict[str, Any]:
    """How many of a peer's completions have the engine's tokens; the rest must be near ties.

    Raises:
        AssertionError: more than 1% differ, or one differs where no two tokens are near.
    """
    by_key = {request.key: request for request in requests}
    differing = [key for key, tokens in peer.tokens.items() if done[key].token_ids != tokens]
    margins = [
        _margin(work.model, by_key[key], done[key].token_ids, peer.tokens[key]) for key in differing
    ]
    assert all(margin < NEAR_TIE for margin in margins), (differing, margins)
    assert len(differing) <= 0.01 * len(peer.tokens), f"{len(differing)} of {len(peer.tokens)}"
    return {"compared": len(peer.tokens), "differing": len(differing), "margins": margins}


@torch.inference_mode()
def _margin(
    model: LoadedModel, request: Request, mine: Sequence[int], theirs: Sequence[int]
) -> float:
    """How far the top two logits are apart where two completions part."""
    pairs = zip(mine, theirs, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(mine), len(theirs)))
    start = len(request.tokens) - 1
    ids = torch.tensor([[*request.tokens, *mine[:same]]])

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        steering = request.steering
        assert steering is not None
        steered = output.clone()
        if steering.intervention == "add":
            steered[:, start:] += steering.coefficient * steering.vector
        else:
            along = output[:, start:] @ steering.vector
            steered[:, start:] -= steering.coefficient * along[..., None] * steering.vector
        return steered

    handles = []
    if request.steering is not None:
        handles = [model.blocks[request.steering.layer].register_forward_hook(hook)]
    logits = model.hf_model(input_ids=ids, use_cache=False).logits[0, -1]
    for handle in handles:
        handle.remove()
    top = logits.topk(2).values
    return float(top[0] - top[1])


def measure_peers(
    work: Workload, run: EngineRun, n_prompts: int, n_cells: int
) -> list[dict[str, Any]]:
    """Every peer's speed on a part of what the engine generated, its tokens compared first.

    The ratio is of tokens per second: both generate the same tokens, and a part of the cells may
    have shorter completions than all of them.
    """
    settings = work.settings()
    steered = [cell for cell in work.plan.cells if not cell.is_baseline]
    # Spread over layers and alphas.
    chosen = steered[:: -(-len(steered) // max(n_cells - 1, 1))]
    cells = [work.plan.cells[0], *chosen]
    peers: list[tuple[str, int, Callable[[LoadedModel, int], Any]]] = [
        *[("transformers generate + hook", batch, transformers_batch) for batch in (16, 32, 64)],
        ("transformer-lens generate + hooks", 32, lens_batch),
        ("transformers, as commonly written", 4, transformers_batch),
    ]
    rows = []
    for name, batch, make in peers:
        asked = min(len(work.prompts), 8 if batch == 4 else max(n_prompts, batch))
        requests = work.requests(cells, settings, asked)
        by_cell: dict[sr.Cell, list[Request]] = {}
        for request in requests:
            by_cell.setdefault(request.cell, []).append(request)
        peer = run_peer(
            work.model, make(work.model, settings.max_new_tokens), [*by_cell.values()], batch
        )
        tokens = compare_tokens(work, requests, run.done, peer)
        ratio = run.token_rate / peer.token_rate
        row = {"peer": name, "batch": batch, "rate": peer.rate, "token_rate": peer.token_rate}
        rows.append({**row, "ratio": ratio, **tokens})
        print(
            f"  {name}, batch {batch}: {peer.rate:.2f}/s, {peer.token_rate:.0f} tokens/s, engine "
            f"x{ratio:.2f}; {tokens['differing']} of {tokens['compared']} differ, at near ties",
            flush=True,
        )
    return rows


def measure_grid(work: Workload, n_prompts: int) -> list[dict[str, Any]]:
    """Seconds per completion as the grid grows; each size on the same prompts."""
    every = expand_grid(work.plan.layers, ("add", "ablate"), (0, 1, 2, 4, 8))
    baseline, steered = every[0], [cell for cell in every if not cell.is_baseline]
    rows = []
    for size in GRID_SIZES:
        settings = work.settings()
        requests = work.requests([baseline, *steered[: size - 1]], settings, n_prompts)
        seconds = run_engine(work.model, settings, requests).seconds
        rows.append(
            {
                "cells": size,
                "completions": len(requests),
                "milliseconds_each": 1000 * seconds / len(requests),
            }
        )
        print(f"  {size} cells: {rows[-1]['milliseconds_each']:.0f} ms a completion", flush=True)
    return rows


def measure_bfloat16(work: Workload, done: dict[str, Completion]) -> dict[str, Any]:
    """The same grid in bfloat16: its rate, and what it changes."""
    other = Workload("bfloat16", work.directions)
    settings = other.settings()
    requests = other.requests(other.plan.cells, settings)
    run = run_engine(other.model, settings, requests)
    wide = _frame(work, {(c.prompt_id, c.cell): c for c in done.values()})
    narrow = _frame(other, {(c.prompt_id, c.cell): c for c in run.done.values()})
    outcomes = [
        {
            (v.claim, v.target): v.outcome
            for v in judge_level(work.plan, frame)
            # Both kinds of completions are steered by the same directions.
            if v.claim != "direction_is_real"
        }
        for frame in (wide, narrow)
    ]
    same_text = wide["text"] == narrow["text"]
    return {
        "rate": run.rate,
        "token_rate": run.token_rate,
        "completions": len(requests),
        "completions_changed": float((~same_text).mean()),
        "refusals_changed": float((wide["is_refusal"] != narrow["is_refusal"]).mean()),
        "verdicts": len(outcomes[0]),
        "verdicts_changed": sum(outcomes[0][key] != outcomes[1][key] for key in outcomes[0]),
    }


def _frame(work: Workload, by_place: dict[tuple[str, sr.Cell], Completion]) -> pd.DataFrame:
    rows = [
        (split, replace(by_place[prompt.id, cell if not cell.is_baseline else first], cell=cell))
        for first in [work.plan.cells[0]]
        for cell in work.plan.cells
        for split, prompt in work.prompts
    ]
    return Scorer(work.plan).frame(rows)


def _native_bfloat16() -> bool:
    return Path("/proc/cpuinfo").exists() and "avx512_bf16" in Path("/proc/cpuinfo").read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the measurements there")
    parser.add_argument("--peer-prompts", type=int, default=32, help="prompts per cell for peers")
    parser.add_argument("--peer-cells", type=int, default=7, help="cells that peers generate")
    parser.add_argument("--grid-prompts", type=int, default=40, help="prompts of the growing grid")
    options = parser.parse_args()
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "dtype": "float32"}
    work = Workload()
    settings = work.settings()
    requests = work.requests(work.plan.cells, settings)
    run_engine(work.model, settings, requests[: settings.slots])
    run = run_engine(work.model, settings, requests)
    result |= {"completions": len(requests), "seconds": run.seconds, "rate": run.rate}
    result["token_rate"] = run.token_rate
    result |= {"idle_share": run.idle, "idle_share_with_tail": run.idle_tail}
    print(
        f"engine: {len(requests)} completions in {run.seconds:.0f} s, {run.rate:.2f}/s, "
        f"{settings.slots} slots, {torch.get_num_threads()} threads; idle slot-steps "
        f"{run.idle:.2%}, with the tail {run.idle_tail:.2%}",
        flush=True,
    )
    print("peers, on the same prompts and cells:", flush=True)
    result["peers"] = measure_peers(work, run, options.peer_prompts, options.peer_cells)
    print("cost as the grid grows:", flush=True)
    result["grid"] = measure_grid(work, options.grid_prompts)
    result["bfloat16"] = {"native": _native_bfloat16()}
    if result["bfloat16"]["native"]:
        generate = [row for row in result["peers"] if row["peer"].startswith("transformers gen")]
        best = max(row["token_rate"] for row in generate)
        result["bfloat16"] |= measure_bfloat16(work, run.done)
        rate = result["bfloat16"]["token_rate"]
        result["bfloat16"]["ratio_to_transformers_float32"] = rate / best
    print("bfloat16, where the processor has it:", json.dumps(result["bfloat16"]), flush=True)
    print("slots, each in a process of its own:", flush=True)
    result["slots"] = measure_slot_counts()
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
