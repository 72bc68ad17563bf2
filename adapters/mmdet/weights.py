"""MMDetection's names of weights and the common ones."""

from functools import partial

from adapters.weights.weight_names import common_name as translated

COMMON_NAMES = {
    r"backbone\.conv1": "backbone.stem.conv",
    r"backbone\.[bg]n1": "backbone.stem.norm",
    r"backbone\.layer(\d)\.(\d+)\.conv(\d)": "backbone.stage{1}.{2}.conv{3}",
    r"backbone\.layer(\d)\.(\d+)\.[bg]n(\d)": "backbone.stage{1}.{2}.norm{3}",
    r"backbone\.layer(\d)\.(\d+)\.downsample\.0": "backbone.stage{1}.{2}.shortcut.conv",
    r"backbone\.layer(\d)\.(\d+)\.downsample\.1": "backbone.stage{1}.{2}.shortcut.norm",
    # Levels of the pyramid are counted from 0.
    r"neck\.lateral_convs\.(\d)\.conv": "neck.lateral{1+2}",
    r"neck\.lateral_convs\.(\d)\.gn": "neck.lateral{1+2}.norm",
    r"neck\.fpn_convs\.(\d)\.conv": "neck.output{1+2}",
    r"neck\.fpn_convs\.(\d)\.gn": "neck.output{1+2}.norm",
    r"rpn_head\.rpn_conv": "rpn.conv",
    r"rpn_head\.rpn_cls": "rpn.objectness",
    r"rpn_head\.rpn_reg": "rpn.deltas",
    # Heads and their layers are counted from 0, mask branches and what FSCascade adds from 1.
    r"roi_head\.bbox_head\.(\d)\.shared_fcs\.([01])": "heads.{1+1}.fc{2+1}",
    r"roi_head\.bbox_head\.(\d)\.cls_fcs\.([01])": "heads.{1+1}.classification.fc{2+1}",
    r"roi_head\.bbox_head\.(\d)\.reg_fcs\.([01])": "heads.{1+1}.regression.fc{2+1}",
    r"roi_head\.bbox_head\.(\d)\.regression_convolutions\.blocks\.(.*)": "heads.{1+1}.regression.block{2}",
    r"roi_head\.bbox_head\.(\d)\.fc_cls": "heads.{1+1}.classifier",
    r"roi_head\.bbox_head\.(\d)\.fc_reg": "heads.{1+1}.regressor",
    r"roi_head\.sharing\.embeddings\.(\d)": "heads.{1}.embedding",
    r"roi_head\.sharing\.reductions\.(\d)": "heads.{1}.reduction",
    r"roi_head\.mask_head\.(\d)\.convs\.(\d)\.conv": "heads.{1}.mask.conv{2+1}",
    r"roi_head\.mask_head\.(\d)\.upsample": "heads.{1}.mask.deconv",
    r"roi_head\.mask_head\.(\d)\.conv_logits": "heads.{1}.mask.predictor",
}
common_name = partial(translated, COMMON_NAMES)
