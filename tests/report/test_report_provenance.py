"""Where the numbers come from: what the manifests say, and whether runs were made alike."""

import json
import shutil
from pathlib import Path

import pytest
from made_results import write_results
from parsed_page import report_on

from cascadebench.study.study import Study

COMMIT = "0123456789" * 4


@pytest.fixture(scope="module")
def complete(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results whose manifests say everything; not to be changed."""
    root = write_results(tmp_path_factory.mktemp("results"), study)
    for number, run in enumerate(study.run_ids):
        for step, hour in (("trained", 8), ("predicted", 9)):
            change(
                root / "runs" / run / f"{step}.json",
                device="CPU, 1 thread(s)",
                hardware={"machine": "x86_64", "processor": "A processor"},
                versions={"torch": "2.3.1"},
                packages={"torch": "2.3.1", "scipy": "1.14.0"},
                locks={"requirements.lock": "a" * 64, "detectron2.lock": None},
                arithmetic={"threads": 1, "deterministic": True},
                pictures="sha256",
                project={"version": "0.1.0", "commit": COMMIT, "changed": False},
                command=f"python -m adapters {step} <{number}>",
                finished=f"2026-01-0{number + 1}T0{hour}:30:59+00:00",
            )
    return root


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values), encoding="utf-8")


def test_times_commits_and_commands_are_those_of_the_manifests(study: Study, complete: Path, tmp_path: Path) -> None:
    page = report_on(study, complete, tmp_path)
    row = page.row("run-origins", "Cascade R-CNN")
    place = next(n for n, p in enumerate(study.runs) if (p.label, p.run.framework) == ("Cascade R-CNN", "mmdet"))
    day = f"2026-01-0{place + 1}"
    assert row == [
        "Cascade R-CNN|seed 0", f"{day} 08:30|CPU, 1 thread(s)", f"{day} 09:30|CPU, 1 thread(s)", COMMIT,
    ]  # fmt: skip
    commands = page.row("run-commands", "Cascade R-CNN")[1]
    assert commands == f"python -m adapters trained <{place}>|python -m adapters predicted <{place}>"
    text = " ".join(page.text.split())
    assert (
        "Made from 2026-01-01 08:30 to 2026-01-04 09:30 UTC. Compared and equal in all 8 trainings and predictions: "
        "the versions of all installed packages (2), the versions of Python and of what the frameworks import, the "
        "digests of the lock files, processor, system and, on a GPU, its driver, the device, torch's switches and "
        "threads and the commit of CascadeBench."
    ) in text
    assert "Not recorded in every one" not in text and "made alike" not in text
    assert page.row("environment-values", "all installed packages")
    assert page.row("environment-values", "deterministic")[1:] == ["yes", "yes"]
    assert "Of 8 trainings and predictions 8 compared every picture that they read with its recorded SHA-256." in text
    assert page.row("environment-values", "processor")[1:] == ["A processor", "A processor"]
    assert page.row("environment-values", "Trained and predicted on")
    assert "Seed 0. Everything random follows from the seed." in text


def test_differing_versions_devices_and_code_are_named(study: Study, complete: Path, tmp_path: Path) -> None:
    results = shutil.copytree(complete, tmp_path / "results")
    folder = results / "runs" / study.run_ids[0]
    change(folder / "trained.json", versions={"torch": "2.4.0", "mmdet": "3.3.0"})
    change(folder / "predicted.json", device="NVIDIA H100", project={"commit": COMMIT, "changed": True})
    other = {f"package-{number:02d}": "1" for number in range(15)} | {"torch": "2.3.1", "scipy": "1.15.0"}
    change(results / "runs" / study.run_ids[1] / "trained.json", packages=other, pictures="sizes")
    change(results / "runs" / study.run_ids[2] / "trained.json", arithmetic={"threads": 2, "deterministic": True})
    change(results / "runs" / study.run_ids[3] / "trained.json", hardware={"machine": "x86_64", "processor": "Another"})
    change(results / "runs" / study.run_ids[3] / "predicted.json", locks={}, pictures=None)
    page = report_on(study, results, tmp_path)
    text = " ".join(page.text.split())
    assert "Not all runs were made alike:" in text
    assert "torch: 2.4.0 in 1 run; 2.3.1 in 4 runs" in text
    assert "device: CPU, 1 thread(s) in 4 runs; NVIDIA H100 in 1 run" in text
    assert f"commit of CascadeBench: {COMMIT} in 4 runs; {COMMIT} with changes in 1 run" in text
    assert "mmdet:" not in text
    assert "scipy: 1.14.0 in 4 runs; 1.15.0 in 1 run" in text
    assert "package-10: not installed in 4 runs; 1 in 1 run" in text and "package-11" not in text
    assert "4 more: trained.json and predicted.json of the runs list them" in text
    assert "torch: threads: 2 in 1 run; 1 in 4 runs" in text or "torch: threads: 1 in 4 runs; 2 in 1 run" in text
    assert "processor: A processor in 4 runs; Another in 1 run" in text
    assert "Compared and equal in all 8 trainings and predictions" not in text
    assert "Not recorded in every one: the digests of the lock files. Not all runs were made alike:" in text
    assert (
        "Of 8 trainings and predictions 6 compared every picture that they read with its recorded SHA-256, 1 compared "
        "the size of its file alone, which misses one of equal size and of 1 it was not recorded."
    ) in text
    assert page.row("environment-values", "Predicted on")


def test_what_was_not_recorded_is_said(study: Study, tmp_path: Path) -> None:
    page = report_on(study, write_results(tmp_path / "results", study), tmp_path)
    text = " ".join(page.text.split())
    assert "When the runs were made was not recorded." in text
    assert "Not recorded in every one: the versions of all installed packages, the versions of Python" in text
    assert "Compared and equal" not in text
    assert page.row("run-origins", "Cascade R-CNN")[1:] == ["–|CPU, 1 thread(s)", "–", "–"]
    assert "No command lines were recorded" in text


def test_checksums_of_every_file_are_listed(study: Study, complete: Path, tmp_path: Path) -> None:
    results = shutil.copytree(complete, tmp_path / "results")
    path = results / "datasets" / study.dataset.name / "lock.json"
    lock = json.loads(path.read_text())
    lock["splits"] = {
        name: split
        | {"source_sha256": digit * 64, "prepared_sha256": digit * 63 + "f", "pictures_sha256": digit * 63 + "e"}
        | {"pictures": "sizes" if name == "val" else "sha256", "image_ids_sha256": digit * 63 + "d"}
        for (name, split), digit in zip(lock["splits"].items(), "12", strict=True)
    }
    path.write_text(json.dumps(lock))
    rows = report_on(study, results, tmp_path).tables["file-checksums"][1:]
    assert rows == [
        ["train: annotations as they came", "1" * 64], ["train: train.json as prepared", "1" * 63 + "f"],
        ["train: SHA-256 of every picture", "1" * 63 + "e"], ["train: ids of images", "1" * 63 + "d"],
        ["train: boxes, categories, areas and crowd marks, in any order", "–"],
        ["val: annotations as they came", "2" * 64], ["val: val.json as prepared", "2" * 63 + "f"],
        ["val: sizes of every picture", "2" * 63 + "e"], ["val: ids of images", "2" * 63 + "d"],
        ["val: boxes, categories, areas and crowd marks, in any order", "–"],
    ]  # fmt: skip
