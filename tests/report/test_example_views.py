"""The section of examples: the boxes of the file over embedded pictures, and words where something is missing."""

import base64
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_results import HOSTILE, write_results
from parsed_page import Page, report_on
from PIL import Image

from cascadebench.study.study import Study


def box(x: float, category: str = "disc", **more: object) -> dict:
    return {"category": category, "x": x, "y": 20.0, "w": 30.0, "h": 40.0, **more}


def write_examples(root: Path, study: Study, **changes: object) -> Path:
    """Two images: on the first every run finds one of two objects and draws one box more; the second has nothing."""
    folder = root / "studies" / study.name
    (folder / "examples").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 16), "teal").save(folder / "examples" / "7.jpg")
    detections = [box(11.0, score=0.93, matched=True), box(50.5, "ring", score=0.5, matched=False)]
    detected = [{"run": run, "detections": detections, "missed": [1]} for run in study.run_ids]
    size = {"width": 128, "height": 64}
    first = {"id": 7, "file_name": "a.png", **size, "reason": "more found", "difference": 3}
    first |= {"thumbnail": "examples/7.jpg", "objects": [box(10.0), box(90.0, "star")], "detected": detected}
    nothing = [{"run": run, "detections": [], "missed": []} for run in study.run_ids]
    second = {"id": 9, "file_name": "b.png", **size, "reason": "evenly spaced", "difference": -1}
    second |= {"thumbnail": None, "objects": [], "detected": nothing}
    content = {"score": 0.5, "iou": 0.5, "baseline": "Faster R-CNN FPN", "compared": "Cascade R-CNN"}
    content |= {"compared_runs": [["a", "b"], ["c", "d"]], "images_in_all": 100, "images": [first, second]}
    (folder / "examples.json").write_text(json.dumps(content | changes), encoding="utf-8")
    return folder / "examples.json"


class Drawings(HTMLParser):
    """Every picture with a text for those who do not see it: its boxes by kind, its texts, its use of a picture."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[dict] = []
        self._kind, self._text = "", False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "svg" and values.get("role") == "img":
            self.found.append({"words": values["aria-label"], "boxes": [], "texts": [], "picture": None})
        elif tag == "g":
            self._kind = values["class"]
        elif tag == "rect" and values.get("class") != "edge":
            place = tuple(float(values[name]) for name in ("x", "y", "width", "height"))
            self.found[-1]["boxes"].append((self._kind, *place))
        elif tag == "use":
            self.found[-1]["picture"] = values["href"]
        self._text = tag == "text"

    def handle_data(self, data: str) -> None:
        if self._text and data.strip():
            self.found[-1]["texts"].append(data.strip())


@pytest.fixture(scope="module")
def complete(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with examples; not to be changed."""
    root = write_results(tmp_path_factory.mktemp("results"), study)
    write_examples(root, study)
    return root


def test_boxes_of_the_file_are_drawn_over_the_embedded_picture(page: Page, study: Study, complete: Path) -> None:
    drawings = Drawings(page.html).found
    # In each of two frameworks the ground truth and two detectors, for two images.
    assert len(drawings) == 2 * 2 * 3
    truth, cascade = drawings[0], drawings[2]
    assert truth["boxes"] == [("object", 10, 20, 30, 40), ("object", 90, 20, 30, 40)]
    assert truth["texts"] == ["disc", "star"]
    assert truth["words"] == "Ground truth of image 7, 2 objects: 1 disc, 1 star."
    assert cascade["boxes"] == [
        ("missed", 90, 20, 30, 40), ("unmatched", 50.5, 20, 30, 40), ("matched", 11, 20, 30, 40),
    ]  # fmt: skip
    assert cascade["texts"] == ["ring 0.50", "disc 0.93"]
    assert cascade["words"] == (
        "Cascade R-CNN, MMDetection, image 7: 1 of 2 objects found; found: 1 disc; detected without an object: 1 ring; "
        "missed: 1 star."
    )
    assert {drawing["picture"] for drawing in drawings} == {"#example-1-picture", None}
    embedded = [attributes["href"] for tag, attributes in page.tags if tag == "image"]
    assert len(embedded) == 1  # once, however often it is shown
    content = base64.b64decode(embedded[0].removeprefix("data:image/jpeg;base64,"), validate=True)
    assert content == (complete / "studies" / study.name / "examples" / "7.jpg").read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (32, 16)


def test_the_rule_and_the_reasons_are_told(page: Page) -> None:
    text = " ".join(page.text.split())
    assert (
        "Chosen by rule, not by eye: 1 on which Cascade R-CNN finds most objects more than Faster R-CNN FPN, over 2 "
        "frameworks together, 0 on which it finds most objects fewer, and 1 at evenly spaced positions among all 100"
    ) in text
    assert "Cascade R-CNN finds 3 objects more than Faster R-CNN FPN; among the largest differences for it." in text
    assert "Image 9, b.png: Cascade R-CNN finds 1 object fewer than Faster R-CNN FPN; chosen for its evenly" in text
    assert "The picture is not there any more: boxes alone." in text


def test_nothing_but_a_jpeg_of_the_studys_folder_is_embedded(study: Study, tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", study)
    path = write_examples(results, study)
    (path.parent / "examples" / "text.jpg").write_text(HOSTILE)
    content = json.loads(path.read_text())
    thumbnails = ["../../lock.json", "/etc/hostname", "examples/none.jpg", "examples/text.jpg", "examples"]
    content["images"] = [content["images"][0] | {"thumbnail": one, "file_name": HOSTILE} for one in thumbnails]
    path.write_text(json.dumps(content))
    page = report_on(study, results, tmp_path)
    assert not [tag for tag, _ in page.tags if tag == "image"]
    assert page.text.count("The picture is not there any more: boxes alone.") == len(thumbnails)
    assert page.text.count(f"Image 7, {HOSTILE}") == len(thumbnails)
    assert "alert(1)" not in "".join(page.executed)


def test_holes_are_named(study: Study, complete: Path, tmp_path: Path) -> None:
    results = shutil.copytree(complete, tmp_path / "results")
    path = results / "studies" / study.name / "examples.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["detected"] = [one for one in image["detected"] if one["run"] != study.run_ids[-1]]
        image["detected"].append({"run": "of another study", "detections": [], "missed": []})
    path.write_text(json.dumps(content))
    text = report_on(study, results, tmp_path).text
    assert "No examples of: Cascade R-CNN (Detectron2)." in text
    assert "examples.json has 1 runs that this study does not have" in text
    path.unlink()
    text = report_on(study, results, tmp_path).text
    assert "examples.json is missing." in text
    assert "No examples: examples.json is missing or unreadable." in text
    path.write_text('{"score": 2}')
    assert "examples.json is unreadable." in report_on(study, results, tmp_path).text
