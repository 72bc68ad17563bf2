"""Both frameworks lower the learning rate at the same iterations, by the same factor."""

import pytest
from comparison import run_of

from cascadebench.core.configuration import CONFIG
from cascadebench.detectors.variant_catalog import find_variant
from cascadebench.study.study_file import load_protocol

ALIGNED = [
    name
    for name in sorted(path.stem for path in (CONFIG / "protocols").glob("*.yaml"))
    if load_protocol(name, {}, "test").rules == "aligned"  # others run in one framework alone: nothing to agree with
]


@pytest.mark.parametrize("name", ALIGNED)
def test_learning_rates_agree_at_every_iteration(name):
    """Each framework's own schedule, stepped through, gives one hash."""
    from adapters.detectron2.adapter import ADAPTER as detectron2
    from adapters.mmdet.adapter import ADAPTER as mmdet

    protocol = load_protocol(name, {}, "test")
    hashes = set()
    for adapter, framework in ((mmdet, "mmdet"), (detectron2, "detectron2")):
        run = run_of(framework, find_variant("faster_rcnn", "test")).model_copy(update={"protocol": protocol})
        if run.backbone.base_channels != 16:
            raise AssertionError("the narrow backbone keeps this test quick")
        controls = {control.name: control.value for control in adapter.read_controls(adapter.build(run))}
        hashes.add(controls["schedule.learning_rates_sha256"])
    assert len(hashes) == 1
