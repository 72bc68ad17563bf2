"""Which images are shown, and what of them is written: compared with counting by hand and with COCO's matching."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from detection_cases import annotations, detections
from PIL import Image
from small_studies import two_detectors

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_json, sha256_of
from cascadebench.datasets.pictures import PictureFile, write_pictures
from cascadebench.examples.choice import chosen_images
from cascadebench.examples.records import read_examples
from cascadebench.examples.write import write_examples
from cascadebench.metrics.coco.detections import write_detections
from cascadebench.metrics.coco.ground_truth import read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import ground_truth_table
from cascadebench.metrics.coco.stage_matches import match_stages
from cascadebench.study.study import Study

IMAGES, WIDTH, HEIGHT = 12, 640, 400
CATEGORIES = ("disc", "square", "triangle", "ring", "star")


def test_the_rule_takes_both_directions_alike_and_spaces_the_rest_evenly() -> None:
    differences = {1: 3, 2: -1, 3: 3, 4: 5, 5: 0, 6: -4, 7: -4, 8: 0, 9: 1, 10: 0}
    chosen = chosen_images(range(1, 11), differences)
    assert chosen == [
        (4, "more found"), (1, "more found"), (6, "fewer found"), (7, "fewer found"),
        # Left are 2, 3, 5, 8, 9, 10: a quarter and three quarters of the way.
        (3, "evenly spaced"), (9, "evenly spaced"),
    ]  # fmt: skip
    assert chosen_images([1, 2], {}) == [(1, "evenly spaced"), (2, "evenly spaced")]
    assert chosen_images([1], {1: -1}) == [(1, "fewer found")]
    assert chosen_images([], {}) == []


def test_the_other_sign_gives_the_same_images() -> None:
    random = np.random.default_rng(3)
    differences = dict(enumerate(random.integers(-5, 6, 50).tolist()))
    names = {"more found": "fewer found", "fewer found": "more found", "evenly spaced": "evenly spaced"}
    turned = chosen_images(range(50), {image: -value for image, value in differences.items()})
    assert {(image, names[reason]) for image, reason in turned} == set(chosen_images(range(50), differences))


@pytest.fixture(scope="module")
def study() -> Study:
    """Two detectors in two frameworks."""
    return two_detectors()


def write_results(root: Path, study: Study) -> None:
    """A prepared dataset with pictures, and detections that hit or miss at random."""
    random = np.random.default_rng(0)
    data = root / "datasets" / study.dataset.name
    (data / "images" / "val").mkdir(parents=True)
    boxes, names = [], []
    for number in range(1, IMAGES + 1):
        name = f"{number:06d}.png"
        noise = random.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(noise).save(data / "images" / "val" / name)
        names.append(name)
        for _ in range(int(random.integers(1, 6))):
            x, y, w, h = (int(v) for v in (*random.integers(0, 200, 2), *random.integers(40, 160, 2)))
            crowd = random.random() < 0.1
            boxes.append((number, random.integers(1, 6), x, y, w, h, crowd))
    content = annotations(boxes, range(1, IMAGES + 1), CATEGORIES, width=WIDTH, height=HEIGHT)
    content["images"] = [image | {"file_name": name} for image, name in zip(content["images"], names, strict=True)]
    (data / "val.json").write_text(json.dumps(content))
    prepared = sha256_of(data / "val.json")
    files = [PictureFile((data / "images" / "val" / name).stat().st_size) for name in names]
    write_pictures(data / "val_pictures.json", range(1, IMAGES + 1), files)
    split = {"image_root": "images/val", "prepared_sha256": prepared}
    split |= {"pictures": "sizes", "pictures_sha256": sha256_of(data / "val_pictures.json")}
    lock = {"categories": content["categories"], "splits": {"val": split}}
    (data / "lock.json").write_text(json.dumps(lock))
    for planned in study.runs:
        folder = root / "runs" / planned.run.id
        folder.mkdir(parents=True)
        (folder / "ap.parquet").touch()
        rows, others = [], []
        for image, category, x, *rest, _ in boxes:
            for _ in range(2):
                shift = float(random.choice([0, 6, 30]))
                rows.append((image, category, random.random(), x + shift, *rest))
            others.append((image, category, 0.99, x, *rest))
        tables = [detections(rows, planned.run.variant.headline), detections(others, "(9,9)")]
        write_detections(folder / "detections.parquet", pd.concat(tables))


@pytest.fixture(scope="module")
def results(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with examples; not to be changed."""
    root = tmp_path_factory.mktemp("results")
    write_results(root, study)
    write_examples(study, root, 0.4)
    return root


def matched_per_image(results: Path, study: Study, run: str) -> np.ndarray:
    """Objects that the evaluation's own matching finds at IoU 0.5 in every image, with scores from 0.4."""
    table = ground_truth_table(read_ground_truth(results / "datasets" / study.dataset.name / "val.json"))
    rows = pd.read_parquet(results / "runs" / run / "detections.parquet")
    headline = study.run(run).variant.headline
    rows = rows[(rows["test_stage"] == headline) & (rows["score"] >= 0.4)]
    matches = dict(match_stages(table, rows, [headline]))[headline]
    return np.bincount(matches.image, weights=matches.matched[0] & 1, minlength=IMAGES).astype(int)


def test_differences_are_those_of_the_evaluations_matching(study: Study, results: Path) -> None:
    examples = read_examples(results / "studies" / study.name / "examples.json")
    of_run = {(p.label, p.run.framework): matched_per_image(results, study, p.run.id) for p in study.runs}
    expected = sum(of_run["Cascade R-CNN", one] - of_run["Faster R-CNN FPN", one] for one in study.file.frameworks)
    differences = dict(enumerate(expected.tolist(), 1))
    assert [(image.id, image.reason) for image in examples.images] == chosen_images(range(1, IMAGES + 1), differences)
    assert {image.reason for image in examples.images} == {"more found", "fewer found", "evenly spaced"}
    assert [image.difference for image in examples.images] == [differences[image.id] for image in examples.images]
    assert (examples.score, examples.iou, examples.compared) == (0.4, 0.5, "Cascade R-CNN")
    for image in examples.images:
        for one in image.detected:
            found = sum(detection.matched for detection in one.detections)
            of = study.run(one.run)
            label = next(p.label for p in study.runs if p.run is of)
            assert found == of_run[label, of.framework][image.id - 1]
            assert found + len(one.missed) == len(image.objects)
            scores = [detection.score for detection in one.detections]
            assert scores == sorted(scores, reverse=True)
            assert all(score >= 0.4 for score in scores)


def test_thumbnails_are_small_jpegs_of_the_pictures(study: Study, results: Path) -> None:
    folder = results / "studies" / study.name
    examples = read_examples(folder / "examples.json")
    for image in examples.images:
        content = (folder / image.thumbnail).read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            assert (picture.format, picture.size) == ("JPEG", (320, 200))
        assert len(content) < 100_000
    assert len(list((folder / "examples").iterdir())) == len(examples.images)


def test_the_same_results_give_the_same_bytes_and_old_thumbnails_go(study: Study, results: Path) -> None:
    folder = results / "studies" / study.name
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    (folder / "examples" / "999.jpg").write_bytes(b"old")
    write_examples(study, results, 0.4)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_lost_pictures_and_runs_are_no_failure(study: Study, tmp_path: Path) -> None:
    write_results(tmp_path, study)
    lost = next(p.run.id for p in study.runs if (p.label, p.run.framework) == ("Cascade R-CNN", "detectron2"))
    (tmp_path / "runs" / lost / "ap.parquet").unlink()
    for path in (tmp_path / "datasets").rglob("*.png"):
        path.unlink()
    write_examples(study, tmp_path, 0.4)
    examples = read_examples(tmp_path / "studies" / study.name / "examples.json")
    assert {image.thumbnail for image in examples.images} == {None}
    assert len(examples.compared_runs) == 1
    assert lost not in {one.run for image in examples.images for one in image.detected}


def test_without_a_second_detector_images_are_evenly_spaced(study: Study, results: Path, tmp_path: Path) -> None:
    alone = replace(study, runs=tuple(p for p in study.runs if p.label == study.file.baseline))
    for name in ("datasets", "runs"):
        (tmp_path / name).symlink_to(results / name)
    write_examples(alone, tmp_path, 0.4)
    examples = read_examples(tmp_path / "studies" / study.name / "examples.json")
    assert examples.compared is None
    assert [image.id for image in examples.images] == [4, 10]


def test_a_file_name_may_not_leave_its_folder(study: Study, tmp_path: Path) -> None:
    write_results(tmp_path, study)
    path = tmp_path / "datasets" / study.dataset.name / "val.json"
    content = json.loads(path.read_text())
    content["images"][3]["file_name"] = "../../../../secret.png"
    path.write_text(json.dumps(content))
    lock = read_json(path.with_name("lock.json"))
    lock["splits"]["val"]["prepared_sha256"] = sha256_of(path)
    path.with_name("lock.json").write_text(json.dumps(lock))
    with pytest.raises(InputError, match="leaves its folder"):
        write_examples(study, tmp_path, 0.4)
    assert not (tmp_path / "studies" / study.name / "examples.json").exists()
