"""How the layer of an operating point was come by, and what that costs its rank.

Why is told in ``expectations/layer_choice.py``, which works it out from scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ROUNDING = 1e-9


@dataclass(frozen=True)
class LayerChoice:
    """How the layer of an operating point was come by.

    Attributes:
        tried: layers that it is the best of; 1 where it was named beforehand.
        elsewhere_p: rank p of the direction at the other layers, all together; None where it is
            not known, since nothing was chosen or too few random ones were run at them.
    """

    tried: int = 1
    elsewhere_p: float | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> LayerChoice:
        """From what a decision says of its chosen cell; empty of one that nothing chose."""
        return cls(int(record.get("layers_tried", 1)), record.get("elsewhere_p"))

    def to_dict(self) -> dict[str, int | float | None]:
        """For the decision that chose the layer."""
        return {"layers_tried": self.tried, "elsewhere_p": self.elsewhere_p}

    @property
    def needed(self) -> float:
        """Largest rank p at the other layers that backs up the chosen one."""
        return 1 / (2 * self.tried)

    @property
    def backed(self) -> bool:
        """Whether the direction leads at the other layers too."""
        return self.elsewhere_p is not None and self.is_enough(self.elsewhere_p)

    def is_enough(self, p: float) -> bool:
        """Whether a rank p at the other layers would back up the chosen one."""
        return p <= self.needed + _ROUNDING

    @property
    def times(self) -> int:
        """What the rank's p is multiplied by (Bonferroni), where the other layers are no help."""
        if self.tried == 1:
            return 1
        if self.elsewhere_p is None:
            return self.tried
        return 1 if self.backed else 2 * self.tried


NAMED = LayerChoice()
"""The layer was named beforehand."""
