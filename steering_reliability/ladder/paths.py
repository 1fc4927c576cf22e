"""Where everything lies under the artifacts folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steering_reliability.ladder.plan import LevelPlan


@dataclass(frozen=True)
class ArtifactPaths:
    """The artifacts folder, ``root``, and what is in it."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store.sqlite"

    @property
    def scores(self) -> Path:
        """Scores of completions, which can be worked out again."""
        return self.root / "scores"

    @property
    def probes(self) -> Path:
        """What was read off steered cells without generating, by what it depends on."""
        return self.root / "probes"

    @property
    def directions(self) -> Path:
        return self.root / "directions"

    def direction(self, digest: str) -> Path:
        """File of one direction, by its hash."""
        return self.directions / f"{digest}.safetensors"

    @property
    def decisions(self) -> Path:
        return self.root / "decisions"

    def decision(self, level: str) -> Path:
        """What a level decided for those after it."""
        return self.decisions / f"{level}.json"

    @property
    def ledger(self) -> Path:
        """Every vector that was ever tried on the split kept for confirming."""
        return self.decisions / "ledger.jsonl"

    @property
    def tables(self) -> Path:
        return self.root / "tables"

    def run(self, plan: LevelPlan) -> Path:
        return self.root / "runs" / plan.run_name

    def index(self, plan: LevelPlan) -> Path:
        return self.root / "index" / f"{plan.run_name}.json"
