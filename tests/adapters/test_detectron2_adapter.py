"""The Detectron2 adapter: what it builds, how it trains, resumes and predicts."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

pytest.importorskip("detectron2")

from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from adapters.data.training_dataset import TrainingDataset
from adapters.detectron2.adapter import ADAPTER
from adapters.detectron2.config import FixedStatisticsBatchNorm2d
from adapters.detectron2.data import ImageReader
from adapters.detectron2.inference import predict_one
from adapters.detectron2.training import build_optimizer, build_schedulers
from adapters.inspection.cost import count_cost
from adapters.training.seeding import seed_everything
from adapters.training.training_session import TrainingSession
from cascadebench.core.errors import InputError
from cascadebench.datasets.card import load_dataset_card
from cascadebench.datasets.prepared import ImageRecord
from cascadebench.detectors.backbone import load_backbone
from cascadebench.detectors.variant_catalog import find_variant
from cascadebench.determinism.training_order import TrainingOrder, training_order
from cascadebench.study.run import Revisions, Run
from cascadebench.study.study_file import Execution, load_protocol
from cascadebench.study_loading import chosen_variant

SMALL = {
    "schedule": {"iterations": 6, "batch_size": 2, "warmup_iterations": 2, "steps": [4]},
    "input": {"train_short_sides": [48, 64], "test_short_side": 64, "max_long_side": 80},
    "neck": {"channels": 16},
    "rpn": {"train_pre_nms": 60, "test_pre_nms": 60, "train_post_nms": 30, "test_post_nms": 30},
    "heads": {"width": 32, "rois_per_image": 16},
    "inference": {"score_threshold": 0.01},
}
BOTH = pytest.mark.parametrize("variant", ["faster_rcnn", "cascade_rcnn"])


def make_run(variant: str, override: dict | None = None, protocol: str = "tiny", **options) -> Run:
    """Make a run of a few small images and a narrow ResNet-18, unless `override` says otherwise."""
    found = find_variant(variant, "test")
    return Run(
        framework="detectron2",
        variant=chosen_variant(found, found.card.complete_options(options, "test"), "test"),
        backbone=load_backbone("resnet18_narrow").model_copy(update={"base_channels": 8}),
        dataset=load_dataset_card("shapes"),
        protocol=load_protocol(protocol, SMALL if override is None else override, "test"),
        seed=0,
        revisions=Revisions(library=1, adapter=1, variant=1),
    )


@pytest.fixture
def records(tmp_path: Path) -> list[ImageRecord]:
    """Six pictures of one to three rectangles."""
    random = np.random.default_rng(0)
    made = []
    for number in range(6):
        width, height = (72, 56) if number % 2 else (56, 72)
        picture = Image.new("RGB", (width, height), (30, 60, 90))
        boxes = []
        for _ in range(1 + number % 3):
            left, top = random.uniform(0, 30, 2)
            box = [left, top, left + random.uniform(10, 25), top + random.uniform(10, 25)]
            ImageDraw.Draw(picture).rectangle(box, fill=tuple(random.integers(0, 255, 3)))
            boxes.append(box)
        path = tmp_path / f"{number}.png"
        picture.save(path)
        labels = random.integers(0, 5, len(boxes))
        made.append(ImageRecord(number + 1, path, width, height, np.array(boxes, dtype=np.float32), labels))
    return made


def build(run: Run, seed: int = 0) -> torch.nn.Module:
    """Build the detector with the weights of a seed."""
    torch.set_num_threads(1)
    seed_everything(seed)
    return ADAPTER.build_model(run)


def train(run: Run, records: list[ImageRecord], out: Path, stop: int | None = None, workers: int = 0) -> dict:
    """Train up to iteration `stop` in one session; return the model's state."""
    session = TrainingSession(run, out, torch.device("cpu"), Execution(checkpoint_interval=3, loader_workers=workers))
    session.iterations = stop or session.iterations
    model = build(run)
    ADAPTER.train(run, model, records, training_order(records, run.protocol, run.seed), session)
    session.finish()
    return model.state_dict()


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_learning_rate_of_every_iteration():
    schedules = [
        {},
        {"schedule": {"iterations": 90, "steps": [3, 4, 89], "warmup_iterations": 2, "gamma": 0.3}},
        {"schedule": {"iterations": 7, "steps": [], "warmup_iterations": 6, "warmup_factor": 0.0}},
        {"schedule": {"iterations": 50, "steps": [1], "warmup_iterations": 0}},
    ]
    runs = [make_run("faster_rcnn", schedule) for schedule in schedules]
    for run in [*runs, make_run("faster_rcnn", {}, "coco_1x")]:
        optimizer = build_optimizer(torch.nn.Linear(1, 1), run)
        (scheduler,) = build_schedulers(optimizer, run)
        optimizer.step()
        for iteration in range(run.protocol.schedule.iterations):
            wanted = run.learning_rate(iteration)
            assert abs(optimizer.param_groups[0]["lr"] - wanted) <= 1e-12 * wanted, iteration
            scheduler.step()


def test_a_schedule_too_long_for_the_scheduler_is_refused():
    run = make_run("faster_rcnn", {"schedule": {"iterations": 4_000_000, "steps": [2_000_000]}})
    with pytest.raises(InputError, match=r"schedule\.iterations"):
        build_schedulers(build_optimizer(torch.nn.Linear(1, 1), run), run)


def consumed(log: str) -> list[str]:
    """Hashes of the images that every step was trained on."""
    return [json.loads(line)["consumed_sha256"] for line in log.splitlines()]


def consumed_by_order(records: list[ImageRecord], run: Run, steps: int) -> list[str]:
    """The same, from the order of a run."""
    order, hashes = training_order(records, run.protocol, run.seed), [""]
    for images, flips in list(zip(order.images, order.flips, strict=True))[:steps]:
        step = "".join(f"{records[image].id}{'-' if flip else '+'}" for image, flip in zip(images, flips, strict=True))
        hashes.append(hashlib.sha256(f"{hashes[-1]}{step}".encode()).hexdigest())
    return hashes[1:]


@BOTH
def test_resumed_training_equals_an_uninterrupted_one(variant, records, tmp_path):
    run = make_run(variant)
    straight = train(run, records, tmp_path / "straight")
    train(run, records, tmp_path / "resumed", stop=3)
    assert same(straight, train(run, records, tmp_path / "resumed"))
    assert not same(straight, build(run).state_dict())
    log = (tmp_path / "straight" / "train_log.jsonl").read_text()
    assert consumed(log) == consumed((tmp_path / "resumed" / "train_log.jsonl").read_text())
    assert consumed(log)[:2] == consumed_by_order(records, run, 2)
    assert ("stage3_regression" in log) == (variant == "cascade_rcnn")
    assert '"rpn_classification"' in log
    assert same(straight, train(run, records, tmp_path / "workers", workers=1))


@BOTH
def test_predictions_keep_the_contract(variant, records):
    run = make_run(variant)
    model = build(run).eval()
    predictions = list(ADAPTER.predict(run, model, records))
    assert [one.image_id for one in predictions] == [record.id for record in records]
    labels = [stage.label for stage in run.variant.test_stages]
    for record, one in zip(records, predictions, strict=True):
        assert list(one.test_stages) == labels
        for found in (one.proposals, *one.test_stages.values()):
            assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int64)
            assert len(found.boxes) == len(found.scores) == len(found.labels) > 0
            assert (found.boxes >= 0).all() and (found.boxes <= [record.width, record.height] * 2).all()
            assert (found.boxes[:, :2] < found.boxes[:, 2:]).all()
            assert (np.diff(found.scores) <= 0).all() and (found.scores >= 0).all() and (found.scores <= 1).all()
            assert (found.labels < len(run.dataset.categories)).all()
    for first, second in zip(predictions, ADAPTER.predict(run, model, records), strict=True):
        for label in labels:
            for field in ("boxes", "scores", "labels"):
                again = getattr(second.test_stages[label], field)
                assert getattr(first.test_stages[label], field).tobytes() == again.tobytes()


@pytest.mark.parametrize(("variant", "options"), [
    ("faster_rcnn", {"regression": "class_specific"}), ("faster_rcnn", {}), ("cascade_rcnn", {}),
])  # fmt: skip
def test_headline_is_what_detectron2_itself_detects(variant, options, records):
    run = make_run(variant, **options)
    model = build(run).eval()
    image = ImageReader(run).test_image(records[0])
    ours = predict_one(model, records[0], image, run.variant.test_stages).test_stages[run.variant.headline]
    with torch.no_grad():
        theirs = model([image])[0]["instances"]
    np.testing.assert_allclose(ours.boxes, theirs.pred_boxes.tensor, atol=1e-4)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)


def test_last_rois_rule_pools_every_head_at_the_last_stage(records):
    run = make_run("cascade_rcnn")
    model = build(run).eval()
    with torch.no_grad():
        images = model.preprocess_image([ImageReader(run).test_image(records[0])])
        features = model.backbone(images.tensor)
        (proposals,), _ = model.proposal_generator(images, features, None)
        heads = model.roi_heads
        given = features, proposals.proposal_boxes.tensor, proposals.image_size
        outputs = heads.run_stages(*given, run.variant.test_stages)
        assert heads.run_stages(*given, run.variant.test_stages[:6]).last_logits == []
        entering = Instances(proposals.image_size, proposal_boxes=Boxes(outputs.boxes[1]))
        levels = [features[name] for name in heads.box_in_features]
        for stage in range(3):
            logits, _ = heads._run_stage(levels, [entering], stage)
            torch.testing.assert_close(outputs.last_logits[stage], logits)
    assert not torch.equal(outputs.last_logits[0], outputs.logits[0])


def test_an_image_without_proposals_has_no_detections(records):
    run = make_run("cascade_rcnn")
    model = build(run).eval()
    model.proposal_generator.min_box_size = 1e6
    (one,) = ADAPTER.predict(run, model, records[:1])
    for found in (one.proposals, *one.test_stages.values()):
        assert found.boxes.shape == (0, 4) and found.scores.shape == found.labels.shape == (0,)


def test_an_image_whose_ground_truth_lies_outside_trains(records, tmp_path):
    outside = np.array([[-30, -30, -10, -10]], dtype=np.float32)
    odd = ImageRecord(9, records[0].path, records[0].width, records[0].height, outside, np.array([1]))
    state = train(make_run("cascade_rcnn"), [odd, records[1]], tmp_path / "run", stop=3)
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_one_stage_trains_as_detectron2s_standard_heads(records):
    run = make_run("faster_rcnn")
    heads = build(run).roi_heads.train()
    shared = {name: getattr(heads, name) for name in (
        "num_classes", "batch_size_per_image", "positive_fraction", "proposal_matcher", "proposal_append_gt",
        "box_in_features", "box_pooler",
    )}  # fmt: skip
    standard = StandardROIHeads(box_head=heads.box_head[0], box_predictor=heads.box_predictor[0], **shared).train()
    maps = {f"p{level}": torch.randn(1, 16, 64 // 2**level, 64 // 2**level) for level in range(2, 6)}
    target = ImageReader(run).training_image(records[2], 64, flip=True)["instances"]
    losses = []
    for one in (heads, standard):
        boxes = Boxes(torch.rand(40, 4, generator=torch.Generator().manual_seed(0)) * 20 + torch.tensor([0, 0, 20, 20]))
        proposals = Instances(target.image_size, proposal_boxes=boxes, objectness_logits=torch.zeros(40))
        torch.manual_seed(0)
        with EventStorage():
            losses.append([value.item() for value in one(None, maps, [proposals], [target])[1].values()])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("variant", "options", "parameters"), [
    ("faster_rcnn", {"regression": "class_specific"}, 41_527_712), ("cascade_rcnn", {}, 69_169_422),
])  # fmt: skip
def test_published_parameter_counts(variant, options, parameters):
    run = make_run(variant, {}, "coco_1x", **options)
    coco = run.dataset.model_copy(update={"categories": tuple(f"category {number}" for number in range(80))})
    run = run.model_copy(update={"dataset": coco, "backbone": load_backbone("resnet50")})
    with torch.device("meta"):
        model = ADAPTER.build_model(run)
    assert sum(one.numel() for one in model.parameters() if one.requires_grad) == parameters


def test_cost_grows_with_rois():
    run = make_run("cascade_rcnn")
    more = make_run("cascade_rcnn", SMALL | {"rpn": SMALL["rpn"] | {"test_post_nms": 60}})
    flops = [count_cost(ADAPTER, build(one), one)["flops"] for one in (run, more)]
    per_roi = 16 * 49 * 32 + 32 * 32 + 32 * (6 + 4)
    assert flops[1] - flops[0] == 3 * 30 * per_roi


def test_training_image_is_resized_and_mirrored(records):
    run, record = make_run("faster_rcnn"), records[1]
    made = ImageReader(run).training_image(record, 64, flip=True)
    with Image.open(record.path) as picture:
        wanted = np.asarray(picture.resize((80, 62), Image.Resampling.BILINEAR))[:, ::-1]
    assert np.array_equal(made["image"].permute(1, 2, 0), wanted)
    left, top, right, bottom = record.boxes.T * np.array([[80 / 72], [62 / 56]] * 2)
    np.testing.assert_allclose(
        made["instances"].gt_boxes.tensor, np.stack([80 - right, top, 80 - left, bottom], 1), rtol=1e-5
    )
    order = TrainingOrder(np.array([[0, 1]]), np.array([[False, True]]), np.array([[48, 64]]))
    assert torch.equal(TrainingDataset(ImageReader(run), records, order)[1]["image"], made["image"])


def test_pixels_are_those_of_the_file(records, tmp_path):
    run, path = make_run("faster_rcnn"), tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[274] = 6  # a viewer would turn it by a quarter
    Image.new("RGB", (40, 20), (255, 0, 0)).save(path, exif=exif)
    record = ImageRecord(1, path, 40, 20, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert ImageReader(run).read(record)[0, 0, 0] > 250
    bgr = run.model_copy(update={"backbone": run.backbone.model_copy(update={"channel_order": "bgr"})})
    assert ImageReader(bgr).read(record)[0, 0, 2] > 250
    with pytest.raises(InputError, match="40 x 20"):
        ImageReader(run).read(ImageRecord(1, path, 20, 40, record.boxes, record.labels))
    path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be read"):
        ImageReader(run).read(record)


@pytest.mark.parametrize("batch_norm", ["trained", "fixed_statistics", "frozen"])
def test_what_of_the_backbone_learns(batch_norm, records, tmp_path):
    run = make_run("faster_rcnn", SMALL | {"backbone": {"batch_norm": batch_norm, "frozen_stages": 2}})
    before, after = build(run), train(run, records, tmp_path / "run", stop=3)
    backbone = before.backbone.bottom_up
    changed = {name for name, value in before.state_dict().items() if not torch.equal(value, after[name])}
    changed = {name.removeprefix("backbone.bottom_up.") for name in changed}
    assert not any(name.startswith(("stem", "res2")) for name in changed)
    assert "res3.0.conv1.weight" in changed
    assert ("res3.0.conv1.norm.weight" in changed) == (batch_norm != "frozen")
    assert ("res3.0.conv1.norm.running_mean" in changed) == (batch_norm == "trained")
    norm = {"trained": torch.nn.BatchNorm2d, "fixed_statistics": FixedStatisticsBatchNorm2d}.get(batch_norm)
    assert type(backbone.res4[0].conv1.norm) is (norm or FrozenBatchNorm2d)
    assert type(backbone.stem.conv1.norm) is FrozenBatchNorm2d
    values = {control.name: control.value for control in ADAPTER.read_controls(ADAPTER.build(run))}
    assert values["backbone.batch_norm"] == batch_norm


@pytest.mark.parametrize(("rule", "shares"), [("decay", [1.0, 0.5, 0.25]), ("avg", [0.3333333] * 3)])
def test_controls_of_a_cascade(rule, shares):
    built = ADAPTER.build(make_run("cascade_rcnn", stage_loss=rule))
    values = {control.name: control.value for control in ADAPTER.read_controls(built)}
    assert values["heads.trunk_gradient"] == shares
    assert values["heads.iou_threshold"] == [0.5, 0.6, 0.7]
    assert values["heads.target_stds"][2] == [0.0333333333, 0.0333333333, 0.0666666667, 0.0666666667]
    assert values["schedule.milestones"] == [4] and values["schedule.warmup_iterations"] == 2
    assert values["optimizer.parameter_groups"] == 1 and values["optimizer.gradient_clip_norm"] == 10.0
    assert values["input.train_short_sides"] == [48, 64] and values["input.max_long_side"] == 80
    assert values["input.resize"] == "pillow_bilinear" and values["input.channel_order"] == "rgb"


def test_clipping_bounds_the_whole_gradient():
    run = make_run("faster_rcnn", {"optimizer": {"gradient_clip_norm": 0.5, "weight_decay": 0.0}})
    model = torch.nn.Linear(3, 3)
    optimizer = build_optimizer(model, run)
    (model(torch.ones(1, 3)) * 100).sum().backward()
    optimizer.step()
    norm = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    torch.testing.assert_close(norm, torch.tensor(0.5), rtol=1e-5, atol=0)


def test_size_divisor_must_suit_the_pyramid():
    with pytest.raises(InputError, match="multiple of 32"):
        build(make_run("faster_rcnn", SMALL | {"input": SMALL["input"] | {"size_divisor": 16}}))
