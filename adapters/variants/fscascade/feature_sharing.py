"""What the stages of FSCascade borrow from each other; the same module in every framework.

Source: Li, Yang and Zhang, Rethinking Classification and Localization for Cascade R-CNN, Fig. 2. The equations are this
project's reading of it (card ``fscascade``).
"""

import torch
from torch import Tensor, nn

from cascadebench.determinism.initial_weights import initial_tensor


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
    """

    def __init__(
        self, stages: int, width: int, cfs: bool, lfs: bool, merge: str, share_gradient: bool, embed: str
    ) -> None:
        super().__init__()
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

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Merge.

        Parameters
        ----------
        features : list of Tensor, float [R, width]
            What the heads of :meth:`heads_needed` make of the RoIs of the last of them.

        Returns
        -------
        classification, regression : Tensor, float [R, width]
            What the stage's classifier and its regressor read.
        """
        *borrowed, own = features
        if not self.share_gradient:
            borrowed = [feature.detach() for feature in borrowed]
        features = [*borrowed, own]
        return self._classification(features), self._regression(features)

    def _classification(self, features: list[Tensor]) -> Tensor:
        if not self.cfs or len(features) == 1:
            return features[-1]
        if self.merge == "concat":
            return self.reductions[str(len(features))](torch.cat(features, dim=1))
        total = torch.stack(features).sum(0)
        return total / len(features) if self.merge == "mean" else total

    def _regression(self, features: list[Tensor]) -> Tensor:
        if not self.lfs:
            return features[-1]
        link = features[0]
        for stage, own in enumerate(features[1:], start=2):
            if not self.share_gradient:
                link = link.detach()  # also the maps of the earlier links stay as they are
            link = own + (self.embeddings[str(stage)](link) if self.embed == "linear" else link)
        return link
