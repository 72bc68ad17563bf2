"""Results of a study that was never trained: the files that the pipeline leaves, in numbers that a formula gives."""

import csv
import dataclasses
import json
import math
from itertools import product
from pathlib import Path

import pandas as pd
from small_studies import changed_study

from cascadebench.controls.definitions import CONTROLS
from cascadebench.controls.findings import Audit, Finding
from cascadebench.core.configuration import CONFIG, read_yaml
from cascadebench.study.run import Run
from cascadebench.study.study import Study
from cascadebench.study_loading import load_study

AP_NAMES = [f"AP{percent}" for percent in range(50, 100, 5)]
MEASURES = ["AP", *AP_NAMES, "APs", "APm", "APl", "AR1", "AR10", "AR100"]
HOSTILE = "</script><script>alert(1)</script>"


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write rows as the aggregation does: absent values are empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def scores(framework: str, boxes: int, classifier: float, seed: int) -> dict[str, float | None]:
    """AP by IoU of a test stage: later boxes are tighter, later classifiers lose a little at low IoU."""
    shift = (0.006 if framework == "mmdet" else 0) + 0.004 * math.sin(7 * seed)
    values = {}
    for index, name in enumerate(AP_NAMES):
        tight = index / 9
        gain = (boxes - 1) * (0.05 * tight - 0.008) + (classifier - 1) * (0.02 * tight - 0.006)
        values[name] = round(0.62 * (1 - tight**2.2) + 0.03 + gain + shift, 5)
    mean = sum(values.values()) / 10
    values |= {"AP": round(mean, 5), "APs": round(mean * 0.6, 5), "APm": round(mean * 1.1, 5), "APl": None}
    return values | {"AR1": round(mean * 0.8, 5), "AR10": round(mean * 1.2, 5), "AR100": round(mean * 1.25, 5)}


def write_run(folder: Path, study: Study, run_id: str, failed: bool) -> None:
    """The files of one run's folder."""
    run = study.run(run_id)
    folder.mkdir(parents=True)
    run.write(folder / "run.yaml")
    stages = run.variant.stages
    values = {
        "optimizer.lr": (0.04, "optimizer.param_groups[0]['lr']"),
        "rpn.nms_iou": (0.7, "model.rpn_head.test_cfg.nms.iou_threshold"),
        "rpn.delta_clamp": ([-4.135, 4.135] if run.framework == "mmdet" else 4.135, "box_coder.scale_clamp"),
        "heads.stages": (stages, "len(model.roi_head.bbox_head)"),
        "heads.iou_threshold": ([0.5, 0.6, 0.7][:stages], "[a.pos_iou_thr for a in model.roi_head.bbox_assigner]"),
    }
    controls = [{"name": name, "value": value, "read_from": place} for name, (value, place) in values.items()]
    versions = {"torch": "2.3.1", run.framework: "3.3.0" if run.framework == "mmdet" else "0.6"}

    def write(name: str, value: dict) -> None:
        (folder / name).write_text(json.dumps(value), encoding="utf-8")

    write("controls.json", {"run": run_id, "versions": versions, "controls": controls})
    write("cost.json", {"parameters": 1, "flops": 1, "flops_input": {"width": 128, "height": 128, "rois": 100}})
    iterations = 180 if failed else run.protocol.schedule.iterations
    with (folder / "train_log.jsonl").open("w", encoding="utf-8") as log:
        for i in range(iterations):
            loss = (0.4 + 0.3 * stages) * (0.45 + math.exp(-i / 120)) + 0.12 * math.sin(2.7 * i) * math.cos(i)
            lr = run.protocol.schedule.learning_rate(i)
            line = {"iteration": i, "lr": lr, "loss": loss, "losses": {"rpn": loss}, "seconds": 0.2}
            log.write(json.dumps(line) + "\n")
    if failed:
        message = f"DivergedError: the loss is not finite at iteration 180: {HOSTILE}"
        lines = ["Traceback (most recent call last):", '  File "session.py", line 9, in step', message]
        failure = {"command": "train", "message": message, "time": "2025-11-20T10:00:00+00:00"}
        write("failed.json", failure | {"log": lines})
        return
    trained = {"run": run_id, "device": "CPU, 1 thread(s)"}
    trained |= dict.fromkeys(("consumed_sha256", "planned_sha256"), f"{run.seed:064x}")
    write("trained.json", trained | {"versions": versions, "hardware": {"machine": "x86_64", "system": "Linux"}})
    write("predicted.json", {"run": run_id, "seconds_per_image": 0.05})


def write_audit(root: Path, study: Study, *findings: Finding) -> None:
    """The audit of the controls as ``cascadebench audit`` writes it."""
    audit = Audit(study.name, len(study.runs), len(CONTROLS), findings)
    summary = {"passed": audit.passed, "verdict": audit.verdict}
    (root / "studies" / study.name / "audit.json").write_text(json.dumps(summary | dataclasses.asdict(audit)))


def operators(study: Study) -> list[Finding]:
    """A stated difference between the frameworks, of every variant."""
    words = ("vision", "mmcv", "a.nms", "b.nms", "Why.")
    pairs = [
        (one.run.id, other.run.id)
        for one, other in product(study.runs, study.runs)
        if (one.run.framework, other.run.framework) == ("detectron2", "mmdet")
        and (one.label, one.run.seed) == (other.label, other.run.seed)
    ]
    return [Finding("framework difference", "frameworks", "model.operators", *pair, *words) for pair in pairs]


def write_results(root: Path, study: Study, failed: tuple[str, ...] = ()) -> Path:
    """A results tree as the pipeline leaves it; the runs in `failed` broke during training."""
    status, ap, per_class, gaps, cost = [], [], [], [], []
    for planned in study.runs:
        run, run_id = planned.run, planned.run.id
        broke = run_id in failed
        write_run(root / "runs" / run_id, study, run_id, broke)
        head = {"label": planned.label, "framework": run.framework, "backbone": run.backbone.name, "seed": run.seed}
        state = {"state": "failed", "detail": "train"} if broke else {"state": "evaluated", "detail": ""}
        status.append({"run": run_id, **head, "variant": run.variant.name, "dataset": run.dataset.name, **state})
        if broke:
            continue
        stages = run.variant.test_stages
        heads = {stage.label: (stage.boxes, sum(stage.classifiers) / len(stage.classifiers)) for stage in stages}
        table = {label: scores(run.framework, *head, run.seed) for label, head in heads.items()}
        for stage, values in table.items():
            where = {**head, "run": run_id, "test_stage": stage}
            ap.append({**where, "headline": stage == run.variant.headline, **{name: values[name] for name in MEASURES}})
            for position, category in enumerate(study.dataset.categories):
                row = {name: round(values[name] - 0.01 * position, 5) for name in ("AP", "AP50", "AP75")}
                per_class.append({**where, "category": category, **row})
        base = scores(run.framework, 1, 1, run.seed)
        others = {"stage 2": table.get("(2,2)"), "stage 1": table["(1,1)"], "baseline": base}
        for other, theirs in others.items() if run.variant.stages == 3 else ():
            gap = f"stage 3 - {other}"
            for name in AP_NAMES:
                value = table["(3,3)"][name] - theirs[name]
                gaps.append({**head, "run": run_id, "gap": gap, "iou": int(name[2:]) / 100, "gap_ap": round(value, 5)})
        parameters = 3_400_000 + 700_000 * run.variant.stages
        size = {"parameters": parameters, "trainable_parameters": 3_300_000, "flops": 620_000_000}
        speed = {"seconds_per_iteration": 0.21, "seconds_per_image": 0.051, "peak_memory_mb": 812.0}
        speed["train_device"] = "CPU"
        cost.append({**head, "run": run_id, **size, **speed})
    tables = {"status": status, "ap": ap, "ap_per_class": per_class, "gaps": gaps, "cost": cost}
    for name, rows in tables.items():
        write_csv(root / "studies" / study.name / f"{name}.csv", rows)
    write_audit(root, study, *operators(study))
    split = {"images": 400, "annotations": 1203, "crowd": 0, "dropped": 0, "clipped": 2, "source_sha256": "ab" * 32}
    lock = {"dataset": study.dataset.name, "digest": "cd" * 32, "categories": []}
    folder = root / "datasets" / study.dataset.name
    folder.mkdir(parents=True)
    (folder / "lock.json").write_text(json.dumps(lock | {"splits": {"train": split, "val": split}}), encoding="utf-8")
    return root


def variant_of_tiny(folder: Path, **changes: object) -> Study:
    """The first two detectors of the embedded study, with some keys of its file replaced."""
    variants = read_yaml(CONFIG / "studies" / "tiny.yaml")["variants"][:2]
    return load_study(changed_study(folder, "tiny", **({"variants": variants, "proposal_swaps": []} | changes)))


def on_coco(folder: Path, **changes: object) -> Study:
    """The embedded study's detectors as if they were of COCO."""
    about = {"dataset": "coco2017", "protocol": "coco_1x", "backbones": ["resnet50"], "claims": []}
    return variant_of_tiny(folder, **(about | changes))


def run_of(study: Study, label: str, framework: str, seed: int = 0) -> Run:
    """The run of a detector."""
    wanted = label, framework, seed
    return next(p.run for p in study.runs if (p.label, p.run.framework, p.run.seed) == wanted)


def interval(study: Study, label: str, quantity: str, low: float, high: float, **more: object) -> dict:
    """A row of ``intervals.csv``."""
    row = {"label": label, "framework": "mmdet", "backbone": study.runs[0].run.backbone.name, "test_stage": ""}
    row |= {"gap": "", "quantity": quantity, "value": (low + high) / 2, "low": low, "high": high}
    return row | {"seeds": 1, "resamples": 100, "bootstrap_seed": 0, "images": 5000, "classes": 3} | more


def headlines(results: Path) -> pd.DataFrame:
    """The headline rows of ``ap.csv`` by framework and label."""
    table = pd.read_csv(results / "studies" / "tiny" / "ap.csv")
    return table[table["headline"]].set_index(["framework", "label"])
