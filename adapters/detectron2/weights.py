"""Weights of Detectron2's detectors: their common names, and ImageNet weights for the residual networks."""

import re
from collections.abc import Callable

from adapters.weights.weight_names import with_own_names
from cascadebench.study.run import Run

# Detectron2's name as a pattern, and the common one; None for what holds no weights.
COMMON_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"(?:.*\.)?num_batches_tracked", None),
    (r"pixel_mean|pixel_std|proposal_generator\.anchor_generator\.cell_anchors\.\d+", None),
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.(\w+)", r"backbone.stem.norm.\1"),
    (r"backbone\.bottom_up\.stem\.conv1\.(\w+)", r"backbone.stem.conv.\1"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.norm\.(\w+)", r"backbone.stage{stage}.\2.norm\3.\4"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.(\w+)", r"backbone.stage{stage}.\2.conv\3.\4"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.norm\.(\w+)", r"backbone.stage{stage}.\2.shortcut.norm.\3"),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.(\w+)", r"backbone.stage{stage}.\2.shortcut.conv.\3"),
    (r"backbone\.fpn_(lateral|output)(\d)\.((?:norm\.)?\w+)", r"neck.\1\2.\3"),
    (r"proposal_generator\.rpn_head\.conv\.(\w+)", r"rpn.conv.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(\w+)", r"rpn.objectness.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(\w+)", r"rpn.deltas.\1"),
    (r"roi_heads\.box_head\.(\d+)\.(fc\d)\.(\w+)", r"heads.{head}.\2.\3"),
    (
        r"roi_heads\.box_head\.(\d+)\.(classification|regression)\.(fc\d)\.(\w+)",
        r"heads.{head}.\2.\3.\4",
    ),
    (r"roi_heads\.box_head\.(\d+)\.regression\.blocks\.(\d)\.([\w.]+)", r"heads.{head}.regression.block\2.\3"),
    (r"roi_heads\.sharing\.embeddings\.(\d+)\.(\w+)", r"heads.\1.embedding.\2"),
    (r"roi_heads\.sharing\.reductions\.(\d+)\.(\w+)", r"heads.\1.reduction.\2"),
    (r"roi_heads\.box_predictor\.(\d+)\.cls_score\.(\w+)", r"heads.{head}.classifier.\2"),
    (r"roi_heads\.box_predictor\.(\d+)\.bbox_pred\.(\w+)", r"heads.{head}.regressor.\2"),
    # Mask branches are counted from 1.
    (r"roi_heads\.mask_heads\.(\d+)\.mask_fcn(\d)\.(\w+)", r"heads.\1.mask.conv\2.\3"),
    (r"roi_heads\.mask_heads\.(\d+)\.(deconv|predictor)\.(\w+)", r"heads.\1.mask.\2.\3"),
)


def common_name(name: str) -> str | None:
    """Translate a name of the model's state dict into the common one; None if it holds no weights.

    Raises
    ------
    ValueError
        If the table has no such name.
    """
    for pattern, common in COMMON_NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            if common is None:
                return None
            # Residual stages count from res2, heads from 0; the common names count both from 1.
            number = int(match[1]) if match[1].isdigit() else 0
            return match.expand(common).format(stage=number - 1, head=number + 1)
    raise ValueError(f"no common name for the weight {name!r}")


def common_names(run: Run) -> Callable[[str], str | None]:
    """Return what translates a run's names: :func:`common_name`, and its variant for the layers that it adds."""
    return with_own_names(common_name, run)
