"""Detectron2's names of weights and the common ones."""

from functools import partial

from adapters.weights.weight_names import common_name as translated

COMMON_NAMES = {
    r"pixel_mean|pixel_std|proposal_generator\.anchor_generator\.cell_anchors\.\d+": None,
    r"backbone\.bottom_up\.stem\.conv1\.norm": "backbone.stem.norm",
    r"backbone\.bottom_up\.stem\.conv1": "backbone.stem.conv",
    # Residual stages are counted from res2.
    r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.norm": "backbone.stage{1-1}.{2}.norm{3}",
    r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)": "backbone.stage{1-1}.{2}.conv{3}",
    r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.norm": "backbone.stage{1-1}.{2}.shortcut.norm",
    r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut": "backbone.stage{1-1}.{2}.shortcut.conv",
    r"backbone\.fpn_(lateral|output)(\d)": "neck.{1}{2}",
    r"backbone\.fpn_(lateral|output)(\d)\.norm": "neck.{1}{2}.norm",
    r"proposal_generator\.rpn_head\.conv": "rpn.conv",
    r"proposal_generator\.rpn_head\.objectness_logits": "rpn.objectness",
    r"proposal_generator\.rpn_head\.anchor_deltas": "rpn.deltas",
    # Heads are counted from 0, mask branches and what FSCascade adds from 1.
    r"roi_heads\.box_head\.(\d+)\.((?:(?:classification|regression)\.)?fc\d)": "heads.{1+1}.{2}",
    r"roi_heads\.box_head\.(\d+)\.regression\.blocks\.(.*)": "heads.{1+1}.regression.block{2}",
    r"roi_heads\.box_predictor\.(\d+)\.cls_score": "heads.{1+1}.classifier",
    r"roi_heads\.box_predictor\.(\d+)\.bbox_pred": "heads.{1+1}.regressor",
    r"roi_heads\.sharing\.embeddings\.(\d+)": "heads.{1}.embedding",
    r"roi_heads\.sharing\.reductions\.(\d+)": "heads.{1}.reduction",
    r"roi_heads\.mask_heads\.(\d+)\.mask_fcn(\d)": "heads.{1}.mask.conv{2}",
    r"roi_heads\.mask_heads\.(\d+)\.(deconv|predictor)": "heads.{1}.mask.{2}",
}
common_name = partial(translated, COMMON_NAMES)
