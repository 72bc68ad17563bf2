"""Runs that are made up, as a study would plan them."""

from cascadebench.datasets.card import load_dataset_card
from cascadebench.detectors.backbone import load_backbone
from cascadebench.detectors.variant_catalog import find_variant
from cascadebench.study.run import LIBRARY_REVISION, Revisions, Run
from cascadebench.study.study_file import load_protocol
from cascadebench.study_loading import chosen_variant

SAMPLES = 1999


def make_run(
    variant="faster_rcnn",
    options=None,
    *,
    framework="mmdet",
    backbone="resnet50",
    dataset="coco2017",
    protocol="coco_1x",
    seed=0,
    schedule=None,
    **override,
) -> Run:
    """A run as a study would plan it; `schedule` and the other parts of a protocol replace some of its values."""
    found = find_variant(variant, "test")
    chosen = chosen_variant(found, found.card.complete_options(options or {}, "test"), "test")
    override |= {"schedule": schedule} if schedule else {}
    backbone_card = load_backbone(backbone, "test")
    return Run(
        framework=framework,
        variant=chosen,
        backbone=backbone_card,
        dataset=load_dataset_card(dataset),
        protocol=load_protocol(protocol, override, "test"),
        seed=seed,
        revisions=Revisions(library=LIBRARY_REVISION, adapter=1, variant=found.card.revision),
    )
