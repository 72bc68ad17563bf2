"""A variant from outside the project that adds one layer, in both frameworks."""

import re
from pathlib import Path

import pytest
import torch
from trainings import control_values, run_of

from adapters.commands import load_adapter
from cascadebench.core.configuration import PROJECT
from cascadebench.core.errors import InputError
from cascadebench.detectors.new_variant import new_variant
from cascadebench.detectors.variant_catalog import find_variant
from cascadebench.determinism.initial_weights import initial_tensor

PAGE = (PROJECT / "docs" / "adding-a-variant.md").read_text(encoding="utf-8")
(COMMON_NAME,) = re.findall(r"<!-- what both modules have for a layer -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL)
LAYERS = """
from torch import nn

class Gate(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)

"""
HEADS = """
class GatedHeads({base}):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.gate = Gate()

    def stage_forward(self, stage, pooled):
        logits, deltas = super().stage_forward(stage, pooled)
        return logits, deltas + self.gate(deltas)

"""
MODULES = {
    "mmdet": "from adapters.mmdet.stages import ControlledRoIHeads\nfrom mmdet.registry import MODELS\n"
    + HEADS.format(base="ControlledRoIHeads").replace("class", "@MODELS.register_module(force=True)\nclass", 1)
    + "def configure(config, run):\n    cascade_rcnn.configure(config, run)\n"
    + "    config['roi_head']['type'] = 'GatedHeads'\n",
    "detectron2": "from adapters.detectron2.stages import ControlledRoIHeads\n"
    + HEADS.format(base="ControlledRoIHeads")
    + "def configure(config, run):\n    cascade_rcnn.configure(config, run)\n"
    + "    config.roi_heads['_target_'] = GatedHeads\n",
}


def write_gated(folder: Path, common_name: str = COMMON_NAME) -> None:
    """Write the variant: Cascade R-CNN with one linear layer more."""
    new_variant("gated", "cascade_rcnn", folder)
    (folder / "gated" / "layers.py").write_text(LAYERS + common_name)
    shared = "from .layers import Gate" + (", common_name\n" if common_name else "\n")
    for framework, text in MODULES.items():
        imports = f"from adapters.variants.cascade_rcnn import {framework} as cascade_rcnn\n{shared}"
        (folder / "gated" / f"{framework}.py").write_text(imports + text)


def test_both_frameworks_draw_the_same_numbers(tmp_path):
    write_gated(tmp_path)
    for framework, heads in (("mmdet", "roi_head"), ("detectron2", "roi_heads")):
        adapter, run = load_adapter(framework), run_of(framework, find_variant("gated", "test", [tmp_path]))
        built = adapter.build(run)
        gate = getattr(built.model, heads).gate
        assert torch.equal(gate.weight, torch.from_numpy(initial_tensor("variant.gate.weight", (4, 4), run.seed)))
        assert 0.3 < float(gate.weight.detach().std()) < 0.7
        assert not gate.bias.any()
        assert adapter.common_names(run)(f"{heads}.gate.weight") == "variant.gate.weight"
        controls = {control.name: control.value for control in adapter.read_controls(built)}
        others = control_values(run_of(framework, "cascade_rcnn"))
        assert controls.pop("model.trainable_parameters") == others.pop("model.trainable_parameters") + 20
        assert controls == others


@pytest.mark.parametrize("hook", ["", COMMON_NAME.replace("variant.gate", "gate")], ids=["none", "another name"])
def test_a_layer_without_a_name_is_one_line_that_says_what_to_do(framework, hook, tmp_path):
    write_gated(tmp_path, hook)
    with pytest.raises(InputError, match=r"gate\.weight' has no common name; .*docs/adding-a-variant\.md, New layers"):
        load_adapter(framework).build_model(run_of(framework, find_variant("gated", "test", [tmp_path])))
