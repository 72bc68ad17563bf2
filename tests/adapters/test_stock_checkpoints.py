"""Checkpoints from elsewhere: each framework's own configuration and weights, made here from tiny random models."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from adapters.command_line import main
from cascadebench.core.files import sha256_of
from cascadebench.datasets.pictures import PictureFile, write_pictures
from cascadebench.imported.record import read_imported
from cascadebench.metrics.coco.ap_table import read_ap
from cascadebench.metrics.coco.detections import read_detections
from cascadebench.results.layout import ImportedFolder

STAGES = ["(1,1)", "(2,1)", "(2,2)", "(3,1)", "(3,2)", "(3,3)", "(3,1-3) probabilities", "(3,1-3) logits", "final"]
ENSEMBLE = {"mmdet": "(3,1-3) logits", "detectron2": "(3,1-3) probabilities"}
"""By which rule the framework itself takes the mean over the classifiers."""

MMDET = """
_base_ = {base!r}
model = dict(
    backbone=dict(depth=18, base_channels=4, init_cfg=None),
    neck=dict(in_channels=[4, 8, 16, 32], out_channels=8),
    rpn_head=dict(in_channels=8, feat_channels=8),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=8),
        bbox_head=[dict(type='Shared2FCBBoxHead', in_channels=8, fc_out_channels=16, roi_feat_size=7,
                        num_classes={classes}, reg_class_agnostic=True,
                        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
                        loss_cls=dict(type='CrossEntropyLoss'), loss_bbox=dict(type='SmoothL1Loss'))] * 3),
    test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=20), rcnn=dict(score_thr=0.05, max_per_img=20)))
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(128, 96), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
test_dataloader = dict(dataset=dict(pipeline=pipeline))
"""
DETECTRON2 = {
    "_BASE_": "",
    "MODEL": {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "RESNETS": {
            "DEPTH": 50,
            "RES2_OUT_CHANNELS": 8,
            "WIDTH_PER_GROUP": 8,
            "STEM_OUT_CHANNELS": 8,
            "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        },
        "FPN": {"OUT_CHANNELS": 8},
        "RPN": {"PRE_NMS_TOPK_TEST": 50, "POST_NMS_TOPK_TEST": 20},
        "ROI_HEADS": {"NAME": "CascadeROIHeads", "SCORE_THRESH_TEST": 0.05},
        "ROI_BOX_HEAD": {"FC_DIM": 16, "CLS_AGNOSTIC_BBOX_REG": True},
    },
    "INPUT": {"MIN_SIZE_TEST": 96, "MAX_SIZE_TEST": 128},
    "TEST": {"DETECTIONS_PER_IMAGE": 20},
}


def mmdet_files(folder: Path, classes: int) -> tuple[Path, Path]:
    """A configuration of MMDetection's Cascade R-CNN, made small, and random weights for it."""
    import adapters.mmdet  # noqa: F401, I001 (serves mmcv's operators)
    import mmdet
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    base = Path(mmdet.__file__).parent / ".mim/configs/_base_/models/cascade-rcnn_r50_fpn.py"
    config, checkpoint = folder / "small.py", folder / "small.pth"
    config.write_text(MMDET.format(base=str(base), classes=classes))
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    torch.save({"meta": {"epoch": 1}, "state_dict": model.state_dict()}, checkpoint)
    return config, checkpoint


def detectron2_files(folder: Path, classes: int) -> tuple[Path, Path]:
    """A configuration of Detectron2's Cascade R-CNN, made small, and random weights as its zoo has them."""
    from detectron2 import model_zoo
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    config, checkpoint = folder / "small.yaml", folder / "small.pkl"
    content = DETECTRON2 | {"_BASE_": model_zoo.get_config_file("Base-RCNN-FPN.yaml")}
    content["MODEL"]["ROI_HEADS"]["NUM_CLASSES"] = classes
    config.write_text(yaml.safe_dump(content))
    cfg = get_cfg()
    cfg.merge_from_file(str(config), allow_unsafe=False)
    cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(0)
    state = build_model(cfg).state_dict()
    for value in state.values():
        if value.ndim > 1:
            value.normal_(0, 0.05)  # its own initial values blow up without trained batch norms
    arrays = {name: value.numpy() for name, value in state.items()}
    checkpoint.write_bytes(pickle.dumps({"model": arrays, "__author__": "nobody"}))
    return config, checkpoint


FILES = {"mmdet": mmdet_files, "detectron2": detectron2_files}


@pytest.fixture(scope="module")
def results(tmp_path_factory, records) -> Path:
    """A prepared dataset of the drawn images, and its card."""
    folder = tmp_path_factory.mktemp("stock")
    data = folder / "results" / "datasets" / "drawn"
    data.mkdir(parents=True)
    categories = [{"id": 3, "name": "one"}, {"id": 8, "name": "two"}]
    images = [{"id": r.id, "file_name": r.path.name, "width": r.width, "height": r.height} for r in records]
    boxes = [(r, box, int(label)) for r in records for box, label in zip(r.boxes, r.labels, strict=True)]
    annotations = [
        {
            "id": number,
            "image_id": record.id,
            "category_id": categories[label]["id"],
            "bbox": [float(x) for x in (*box[:2], *(box[2:] - box[:2]))],
            "area": float(np.prod(box[2:] - box[:2])),
            "iscrowd": 0,
        }
        for number, (record, box, label) in enumerate(boxes, 1)
    ]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (data / "val.json").write_text(json.dumps(truth))
    files = [PictureFile(record.path.stat().st_size, sha256_of(record.path)) for record in records]
    write_pictures(data / "val_pictures.json", (record.id for record in records), files)
    split = {"image_root": str(records[0].path.parent), "prepared_sha256": sha256_of(data / "val.json")}
    split |= {"pictures": "sha256", "pictures_sha256": sha256_of(data / "val_pictures.json")}
    lock = {"categories": categories, "splits": {"val": split}}
    (data / "lock.json").write_text(json.dumps(lock))
    split = {"annotations": "val.json", "images": "."}
    card = {"name": "drawn", "title": "Drawn", "categories": ["one", "two"]}
    card["data"] = {"root": [str(data)], "train": split, "val": split}
    (folder / "drawn.yaml").write_text(yaml.safe_dump(card))
    return folder / "results"


def predict(framework: str, results: Path, config: Path, checkpoint: Path, *more: str) -> int:
    """Run the command."""
    dataset, out = results.parent / "drawn.yaml", results / "imported" / framework
    words = ["--config", config, "--checkpoint", checkpoint, "--dataset", dataset, "--out", out]
    return main([framework, "predict-checkpoint", *map(str, words), *more])


def test_a_cascade_from_elsewhere_is_read_at_every_stage(framework, results, tmp_path):
    config, checkpoint = FILES[framework](tmp_path, classes=2)
    assert predict(framework, results, config, checkpoint, "--title", "Tiny", "--notes", "random") == 0
    folder = results / "imported" / framework
    imported = read_imported(ImportedFolder(folder))
    assert list(imported.test_stages) == STAGES
    assert (imported.headline, imported.made_with["framework"]) == ("final", framework)
    assert [one.name for one in imported.files] == [config.name, checkpoint.name]
    rows = read_detections(folder / "detections.parquet")
    assert set(rows["category_id"]) <= {3, 8}
    assert set(read_ap(folder / "ap.parquet")["test_stage"]) == set(STAGES)
    # The stages are those of the pass: by the framework's own rule they give what it puts out itself.
    own, ours = (rows[rows["test_stage"] == stage].reset_index(drop=True) for stage in ("final", ENSEMBLE[framework]))
    assert len(own) > 20
    columns = ["image_id", "category_id", "score", "x", "y", "w", "h"]
    pd.testing.assert_frame_equal(own[columns], ours[columns], atol=1e-4, rtol=1e-5)
    first = rows[rows["test_stage"] == "(1,1)"].reset_index(drop=True)
    assert not np.allclose(first["x"][:20], own["x"][:20])


def test_other_classes_or_weights_are_refused_in_one_line(framework, results, tmp_path, capsys):
    config, checkpoint = FILES[framework](tmp_path, classes=3)
    assert predict(framework, results, config, checkpoint) == 2
    assert "tells 3 classes apart, dataset drawn has 2" in capsys.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    config, _ = FILES[framework](other, classes=2)
    assert predict(framework, results, config, checkpoint) == 2
    assert "has in another shape roi_heads" in capsys.readouterr().err.replace("roi_head.", "roi_heads.")


class Evil:
    """A pickle that would run a command."""

    def __reduce__(self):
        return (Path.touch, (Path("evil"),))


@pytest.mark.parametrize("name", ["evil.pth", "evil.pkl"])
def test_a_checkpoint_that_asks_for_code_is_refused(name, results, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config, _ = detectron2_files(tmp_path, classes=2)
    if name.endswith("pth"):
        torch.save({"model": Evil()}, name)
    else:
        Path(name).write_bytes(pickle.dumps({"model": Evil()}))
    assert predict("detectron2", results, config, tmp_path / name) == 2
    assert "not read as a" in capsys.readouterr().err
    assert not Path("evil").exists()
