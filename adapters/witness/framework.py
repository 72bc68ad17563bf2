"""What the witness asks of a framework: ``adapters/<framework>/witness.py`` has these functions."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from adapters.inspection.head_probes import ProbedHeads
from adapters.training.assembly import Built
from cascadebench.study.run import Run


@dataclass(frozen=True)
class Item:
    """One item as a framework hands it to its model, in common terms.

    Attributes
    ----------
    pixels : Tensor, uint8 [3, H, W]
        Red first.
    boxes : Tensor, float [N, 4], or None
        x1, y1, x2, y2 in pixels of the item; None at test.
    labels : Tensor, int64 [N], or None
    masks : Tensor, uint8 [N, H, W], or None
    """

    pixels: Tensor
    boxes: Tensor | None = None
    labels: Tensor | None = None
    masks: Tensor | None = None


class WitnessedFramework(Protocol):
    """A framework's objects, asked in common terms."""

    def probed_heads(self, built: Built) -> ProbedHeads:
        """The RoI heads, as the probes ask for them."""

    def item_fields(self, run: Run, item: dict[str, Any]) -> Item:
        """An item that a reader gave."""

    def network_input(self, model: nn.Module, batch: Any) -> Tensor:
        """The normalised and padded batch of a training step: float [N, 3, H, W]."""

    def training_losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Every loss of a training step, by its common name."""
