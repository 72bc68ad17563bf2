"""A study of imported detections through Snakemake, and Snakemake's own report with the page inside."""

import json
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from cascadebench.configuration import PROJECT


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a study of one model from outside, and its report by Snakemake."""
    place = tmp_path_factory.mktemp("outside")
    truth = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 50, "height": 50} for n in (1, 2)],
        "categories": [{"id": 1, "name": "disc"}],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 20, 20]} for n in (1, 2)],
    }
    (place / "truth.json").write_text(json.dumps(truth))
    found = [{"image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "score": 0.5}]
    (place / "found.json").write_text(json.dumps(found))
    data = {"kind": "annotations", "root": [str(place)], "val": "truth.json"}
    card = {"name": "two", "title": "Two", "categories": ["disc"], "data": data}
    (place / "two.yaml").write_text(yaml.safe_dump(card))
    study = {"name": "outside", "title": "Outside", "dataset": str(place / "two.yaml"), "imported": ["mine"]}
    (place / "outside.yaml").write_text(yaml.safe_dump(study))
    of_card = ["prepare", "two.yaml", "--out", "results/datasets/two"]
    for words in (of_card, ["import", "mine", "--study", "outside.yaml", "found.json", "--title", "A model of mine"]):
        run([sys.executable, "-m", "cascadebench", *words], place)
    snakemake(place)
    return place


def run(command: list[str], folder: Path) -> None:
    """Run a command in a folder; it must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def snakemake(folder: Path, *more: str) -> None:
    """Run Snakemake on the study."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        PROJECT / "Snakefile",
        "--directory",
        folder,
        "--cores",
        "1",
    ]
    profile = ["--workflow-profile", PROJECT / "profiles" / "default", "--config", f"study={folder / 'outside.yaml'}"]
    run([str(word) for word in (*command, *profile, *more)], folder)


def test_the_page_shows_what_was_imported(folder):
    page = (folder / "reports/outside.html").read_text()
    assert "A model of mine" in page
    assert "not controlled" in page


def test_snakemakes_report_holds_the_page_and_needs_no_network(folder):
    snakemake(folder, "--report", "workflow.zip")
    page = (folder / "reports/outside.html").read_bytes()
    with ZipFile(folder / "workflow.zip") as archive:
        assert page in [archive.read(name) for name in archive.namelist()]
