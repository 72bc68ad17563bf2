"""What the stages of FSCascade borrow from each other; the same module in every framework.

Source: Li, Yang and Zhang, Rethinking Classification and Localization for Cascade R-CNN, Fig. 2. The equations are this
project's reading of it (card ``fscascade``).
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from adapters.detector.cascade_stages import scaled_gradient
from cascadebench.determinism.initial_weights import initial_tensor
from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings


def learning_by(weight: float, layers: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Run layers whose own parameters get `weight` of their gradient; what comes before them gets all of it."""
    if weight == 1:
        return layers(values)
    own = values.view_as(values)  # others read the values, too
    return scaled_gradient(layers(scaled_gradient(own, 1 / weight)), weight)


class FeatureSharing(nn.Module):
    """Merges the features that the layers of several heads make of one stage's RoIs.

    Parameters
    ----------
    stages : int
        Number of heads.
    width : int
        Length of a head's feature.
    cfs, lfs : bool
        Classification feature sharing, in parallel; localization feature sharing, in series.
    merge : str
        Of classification features: ``mean``, ``sum``, or ``concat`` followed by a linear map that starts as the mean.
    share_gradient : bool
        False: what is borrowed is a constant.
    embed : str
        From one link of the chain to the next: ``linear``, a map without bias that starts at zero, or ``identity``.
    borrowed_gradient : sequence of sequences of float
        For every stage and every head up to its own the factor on the gradient that the stage's loss has in the
        parameters of that head; the last of each is 1.
    """

    def __init__(
        self, stages: int, width: int, cfs: bool, lfs: bool, merge: str, share_gradient: bool, embed: str,
        borrowed_gradient: Sequence[Sequence[float]],
    ) -> None:  # fmt: skip
        super().__init__()
        self.borrowed_gradient = [list(factors) for factors in borrowed_gradient]
        self.cfs, self.lfs, self.merge, self.share_gradient, self.embed = cfs, lfs, merge, share_gradient, embed
        later = range(2, stages + 1)
        maps = later if lfs and embed == "linear" else ()
        self.embeddings = nn.ModuleDict({str(stage): nn.Linear(width, width, bias=False) for stage in maps})
        concatenated = later if cfs and merge == "concat" else ()
        self.reductions = nn.ModuleDict(
            {str(stage): nn.Linear(stage * width, width, bias=False) for stage in concatenated}
        )
        # Under a framework's own rules nobody else draws these.
        for kind, maps_of_stages in (("embedding", self.embeddings), ("reduction", self.reductions)):
            for stage, layer in maps_of_stages.items():
                start = initial_tensor(f"heads.{stage}.{kind}.weight", tuple(layer.weight.shape), seed=0)
                layer.weight = nn.Parameter(torch.from_numpy(start))

    def heads_needed(self, stage: int) -> list[int]:
        """Heads, from 0 as `stage`, whose layers must run on the RoIs of a stage."""
        return list(range(stage + 1)) if self.cfs or self.lfs else [stage]

    def forward(self, stage: int, pooled: Tensor, layers: Callable[[int, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Run the layers of the heads that a stage, from 0, needs, and merge.

        Parameters
        ----------
        pooled : Tensor, float [R, channels, size, size]
            RoIs of the stage.
        layers : callable
            From a head, from 0, and pooled RoIs to what its layers make of them, float [R, width].

        Returns
        -------
        classification, regression : Tensor, float [R, width]
            What the stage's classifier and its regressor read.
        """
        factors = self.borrowed_gradient[stage]
        features = [learning_by(factors[head], partial(layers, head), pooled) for head in self.heads_needed(stage)]
        *borrowed, own = features
        if not self.share_gradient:
            borrowed = [feature.detach() for feature in borrowed]
        features = [*borrowed, own]
        return self._classification(features), self._regression(features, factors)

    def _classification(self, features: list[Tensor]) -> Tensor:
        if not self.cfs or len(features) == 1:
            return features[-1]
        if self.merge == "concat":
            return self.reductions[str(len(features))](torch.cat(features, dim=1))
        total = torch.stack(features).sum(0)
        return total / len(features) if self.merge == "mean" else total

    def _regression(self, features: list[Tensor], factors: list[float]) -> Tensor:
        if not self.lfs:
            return features[-1]
        link = features[0]
        for stage, own in enumerate(features[1:], start=2):
            if not self.share_gradient:
                link = link.detach()  # also the maps of the earlier links stay as they are
            if self.embed == "linear":
                link = learning_by(factors[stage - 1], self.embeddings[str(stage)], link)
            link = own + link
        return link


def borrowed_gradients(run: Run) -> list[list[float]]:
    """For every stage the factors on its loss's gradient in the heads up to its own.

    ``relative``: Cascade R-CNN's rule multiplies the loss of stage t by w_t and the rate of head s by 1/w_s.
    """
    weights = [stage.trunk_gradient for stage in stage_settings(run)]
    if run.variant.options["borrowed_loss"] == "full":
        return [[1.0] * number for number in range(1, len(weights) + 1)]
    return [[weight / own for own in weights[: number + 1]] for number, weight in enumerate(weights)]
