"""Controls of the pooling of RoIs."""

from collections.abc import Iterator

import torch
from torch import nn

from adapters.inspection.probe_inputs import probe_boxes
from adapters.mmdet.controls.control_rows import Row, joined_digest, one_value
from adapters.training.assembly import Built


def pooling_rows(built: Built) -> Iterator[Row]:
    """RoIAlign of every stage and level, and the levels that boxes are pooled from."""
    extractors = built.model.roi_head.bbox_roi_extractor
    layers = [layer for extractor in extractors for layer in extractor.roi_layers]
    where = "roi_head.bbox_roi_extractor[t].roi_layers[level]"
    sizes = one_value(one_value(layer.output_size) for layer in layers)
    yield "heads.pool_size", sizes, f"{where}.output_size"
    yield "heads.sampling_ratio", one_value(layer.sampling_ratio for layer in layers), f"{where}.sampling_ratio"
    yield "heads.pooling_aligned", one_value(bool(layer.aligned) for layer in layers), f"{where}.aligned"
    digests = one_value(level_map_digest(extractor) for extractor in extractors)
    yield "heads.level_map_sha256", digests, "probe: roi_head.bbox_roi_extractor[t].map_roi_levels()"


def level_map_digest(extractor: nn.Module) -> str:
    """Hash the level, from 0 for the finest, that each of the probes' boxes is pooled from."""
    boxes = 8 * probe_boxes()  # large enough for all levels
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], 1)
    return joined_digest(extractor.map_roi_levels(rois, extractor.num_inputs).tolist())
