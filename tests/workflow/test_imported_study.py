"""A study of imported detections through Snakemake, and Snakemake's own report with the page inside."""

import json
import re
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from commands import call, snakemake
from detection_cases import annotations

from cascadebench.core.configuration import PROJECT

EXAMPLE = PROJECT.parent / "shared" / "data" / "cocoapi_fakebbox100"
"""Ground truth of 100 images of COCO val2014 and made-up detections, the example of the COCO API."""
EXAMPLE_TRUTH = EXAMPLE / "instances_val2014_100.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a study of one model from outside, and its report by Snakemake."""
    place = tmp_path_factory.mktemp("outside")
    boxes = [(n, 1, 5, 5, 20, 20) for n in (1, 2)]
    truth = annotations(boxes, images=[1, 2], categories=["disc"], file_name="-", width=50, height=50)
    (place / "truth.json").write_text(json.dumps(truth))
    found = [{"image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "score": 0.5}]
    (place / "found.json").write_text(json.dumps(found))
    bring_in(place, place / "truth.json", place / "found.json")
    return place


def bring_in(place: Path, truth: Path, found: Path) -> None:
    """Import detections into a study of their own, and have Snakemake write its report."""
    categories = sorted(json.loads(truth.read_text())["categories"], key=lambda one: one["id"])
    data = {"kind": "annotations", "root": [str(truth.parent)], "val": truth.name}
    card = {"name": "theirs", "title": "Theirs", "categories": [one["name"] for one in categories], "data": data}
    (place / "theirs.yaml").write_text(yaml.safe_dump(card))
    study = {"name": "outside", "title": "Outside", "dataset": str(place / "theirs.yaml"), "imported": ["mine"]}
    (place / "outside.yaml").write_text(yaml.safe_dump(study))
    of_card = ["prepare", "theirs.yaml", "--out", "results/datasets/theirs"]
    of_file = ["import", "mine", "--study", "outside.yaml", str(found), "--title", "A model of mine"]
    done = [call(*words, folder=place) for words in (of_card, of_file)]
    done.append(snakemake(place / "outside.yaml", place))
    assert [one.stdout + one.stderr for one in done if one.returncode] == []


def test_the_page_shows_what_was_imported(folder):
    page = (folder / "reports/outside.html").read_text()
    assert "A model of mine" in page
    assert "not controlled" in page


@pytest.mark.skipif(not EXAMPLE_TRUTH.is_file(), reason=f"the example of the COCO API is not there: {EXAMPLE}")
def test_the_example_of_the_coco_api_appears_as_not_controlled_with_its_own_ap(tmp_path):
    bring_in(tmp_path, EXAMPLE_TRUTH, EXAMPLE / "instances_val2014_fakebbox100_results.json")
    table = (tmp_path / "reports/outside.html").read_text().split('<table id="headline"')[1].split("</table>")[0]
    (row,) = (row for row in table.split("<tr>") if "A model of mine" in row)
    head, *cells = (re.findall(r">\s*([^<>]*[^<>\s])\s*<", cell) for cell in re.split(r"<t[dh]", row)[1:])
    assert head[:2] == ["A model of mine", "test stage final, not controlled"]
    ap, *by_iou = (cell[0] for cell in cells[:11])
    assert (ap, by_iou[0], by_iou[5]) == ("50.5", "69.7", "57.3"), "AP, AP50 and AP75 as pycocotools prints them"
    assert [cell[0] for cell in cells[11:14]] == ["58.6", "51.9", "50.1"], "small, medium and large objects"


def test_snakemakes_report_holds_the_page_and_needs_no_network(folder):
    assert snakemake(folder / "outside.yaml", folder, "--report", "workflow.zip").returncode == 0
    page = (folder / "reports/outside.html").read_bytes()
    with ZipFile(folder / "workflow.zip") as archive:
        assert page in [archive.read(name) for name in archive.namelist()]
