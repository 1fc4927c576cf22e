"""How fast decoding is at several slot counts, beside the matrix products alone, and its memory.

``python -m benchmarks.slot_counts SLOTS`` measures one count; ``benchmarks.engine`` calls it for
each, in a process of its own.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from operator import truediv
from pathlib import Path
from typing import Any

import torch

import steering_reliability as sr
from benchmarks.workload import LEVEL, Workload
from steering_reliability.engine.memory import memory_need
from steering_reliability.engine.scheduler import SlotEngine
from steering_reliability.interventions import Directions
from steering_reliability.ladder.plan import Overrides, plan_level
from steering_reliability.models.loaded import LoadedModel

SLOT_COUNTS = (16, 32, 64, 128, 256)
_GIB = 1 << 30


class MatrixProducts:
    """The model's own matrix products and nothing else.

    Each weight is multiplied once by ``rows`` rows, in the model's order, so that weights come
    from memory as they do when decoding.

    Args:
        model: the model.
        rows: rows of the batch.

    Attributes:
        flop: of one pass.
    """

    def __init__(self, model: LoadedModel, rows: int) -> None:
        self._model = model
        self._layers = [m for m in model.hf_model.modules() if isinstance(m, torch.nn.Linear)]
        widths = {layer.in_features for layer in self._layers}
        self._inputs = {width: torch.randn(rows, width, dtype=model.dtype) for width in widths}
        self.flop = 2 * rows * sum(layer.weight.numel() for layer in self._layers)

    @torch.inference_mode()
    def seconds(self, *, packed: bool) -> float:
        """One pass, with weights in oneDNN's layout, as the engine does, or as torch has them."""
        with self._model.packed.in_use() if packed else nullcontext():
            started = time.perf_counter()
            for layer in self._layers:
                layer(self._inputs[layer.in_features])
            return time.perf_counter() - started


def measure_slots(slots: int, n_steps: int = 30) -> dict[str, Any]:
    """Decoding with so many slots, all filled: a process of its own, for its peak memory.

    The limits are taken between its steps, since a shared machine's speed changes within seconds.
    """
    work = Workload(directions=fixed_directions())
    settings = work.settings(slots)
    requests = work.requests(work.plan.cells, settings)
    engine = SlotEngine(work.model, settings, max(len(r.tokens) for r in requests))
    engine.submit(requests)
    products = MatrixProducts(work.model, slots)
    for _ in range(3):
        engine.pump()
        products.seconds(packed=True)
    steps: list[float] = []
    packed: list[float] = []
    torchs: list[float] = []
    while len(steps) < n_steps and engine.pending > slots:
        started = time.perf_counter()
        # A step that admits prompts also prefills; the median is one that only decodes.
        engine.pump()
        steps.append(time.perf_counter() - started)
        packed.append(products.seconds(packed=True))
        torchs.append(products.seconds(packed=False))
    step = statistics.median(steps)
    context = max(len(r.tokens) for r in requests) + settings.max_new_tokens
    return {
        "slots": slots,
        "tokens_per_second": slots / step,
        "decode_gflops": products.flop / step / 1e9,
        "matmul_gflops": products.flop / statistics.median(packed) / 1e9,
        "torch_gflops": products.flop / statistics.median(torchs) / 1e9,
        "share_of_limit": statistics.median(map(truediv, packed, steps)),
        "share_of_torchs": statistics.median(map(truediv, torchs, steps)),
        "peak_gib": peak_bytes() / _GIB,
        "slots_gib": memory_need(work.model, context).of(slots) / _GIB,
    }


def peak_bytes() -> int:
    """Most memory that this process has held.

    From the kernel's own account of this program: ``ru_maxrss`` begins with what the parent held.
    """
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status).group(1))  # type: ignore[union-attr]


def fixed_directions() -> Directions:
    """Random directions: how fast a step is does not depend on where they point."""
    plan = plan_level(LEVEL, Overrides())
    generator = torch.Generator().manual_seed(0)
    vectors = {layer: torch.randn(plan.facts.d_model, generator=generator) for layer in plan.layers}
    return {
        ("learned", layer): sr.Direction(vector / vector.norm(), layer, 1.0, 10.0)
        for layer, vector in vectors.items()
    }


def measure_slot_counts() -> list[dict[str, Any]]:
    """The table of all counts, each measured in a process of its own."""
    rows = []
    for slots in SLOT_COUNTS:
        command = [sys.executable, "-m", "benchmarks.slot_counts", str(slots)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append(json.loads(output.splitlines()[-1]))
        print(" ", json.dumps(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    print(json.dumps(measure_slots(int(sys.argv[1]))))
