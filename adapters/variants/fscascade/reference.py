"""What the card says that FSCascade's stages read, written out a second time for the witness."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from cascadebench.study.run import Run
from cascadebench.study.stage_settings import stage_settings


def features(
    run: Run, stage: int, own: Callable[[int, str], Tensor], weights: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """What classifier and regressor of a stage, from 0, read: float [R, width] each.

    Parameters
    ----------
    own : callable
        From a head, from 0, and a task to what its layers make of the stage's RoIs.
    weights : mapping of str to Tensor
        By common names.
    """
    options, trunk = run.variant.options, [one.trunk_gradient for one in stage_settings(run)]
    passed = (lambda value: value) if options["share_gradient"] else torch.Tensor.detach

    def share(head: int) -> float:
        return trunk[stage] / trunk[head] if options["borrowed_loss"] == "relative" else 1.0

    # A constant and a share of what learns: the same value, whose gradient in the layers is that share. The RoIs, which
    # learn nothing here, are a constant to both.
    made = [_learning_by(share(head), passed(own(head, ""))) for head in range(stage)] + [own(stage, "")]
    classified = regressed = made[-1]
    if options["cfs"] and stage:
        if options["merge"] == "concat":
            classified = torch.cat(made, 1) @ weights[f"heads.{stage + 1}.reduction.weight"].T
        else:
            classified = sum(made) / (len(made) if options["merge"] == "mean" else 1)
    if options["lfs"]:
        regressed = made[0]
        for head in range(1, stage + 1):
            carried = passed(regressed)
            if options["embed"] == "linear":
                embedding = weights[f"heads.{head + 1}.embedding.weight"]
                carried = carried @ _learning_by(share(head), embedding).T
            regressed = made[head] + carried
    return classified, regressed


def _learning_by(share: float, value: Tensor) -> Tensor:
    """The same value, of whose gradient a share goes on."""
    return share * value + (1 - share) * value.detach()
