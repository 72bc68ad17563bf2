"""The worked example of docs/adding-a-variant.md, done as the page says in an empty folder outside the project."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cascadebench.core.configuration import PROJECT
from cascadebench.detectors.variant_sources import variant_digest

PAGE = (PROJECT / "docs" / "adding-a-variant.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL))
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]
FEW = {"schedule": {"iterations": 4, "batch_size": 2, "base_lr": 0.005, "warmup_iterations": 2, "steps": [3]}}


def run(command: str, folder: Path) -> str:
    """Run a command of the page in a folder, with the programs of this Python; return what it printed."""
    words = shlex.split(command.replace("CASCADEBENCH", shlex.quote(str(PROJECT))))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path}
    )
    assert done.returncode == 0, (command, (done.stdout + done.stderr)[-4000:])
    return done.stdout + done.stderr


def state_of_the_project() -> str:
    """What git sees of the project's folder."""
    done = subprocess.run(["git", "status", "--short"], cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Follow the page up to the study."""
    place = tmp_path_factory.mktemp("outside")
    written = run(COMMANDS[0], place).split()
    assert [name for name in FILES if name.startswith("my_variants/")] == written
    for name, content in FILES.items():
        (place / name).write_text(content, encoding="utf-8")
    return place


def test_card_and_modules_are_short():
    lines = sum(len(content.splitlines()) for name, content in FILES.items() if name.startswith("my_variants/"))
    assert lines < 120


def test_it_conforms(folder):
    text = run(COMMANDS[1] + " -q", folder)
    assert re.search(r"\d+ passed", text)
    assert "skipped" not in text


def test_its_study_passes_the_audit_in_both_frameworks(folder):
    (folder / "gentle.yaml").write_text(FILES["gentle.yaml"])
    run(COMMANDS[2].replace("snakemake", "snakemake inspections", 1), folder)
    text = run("cascadebench audit gentle.yaml", folder)
    assert re.search(r"\b0 violations", text), text


def test_it_runs_in_a_study_without_touching_the_project(folder):
    """With few images and iterations, in one framework: training costs minutes."""
    before = state_of_the_project()
    study = yaml.safe_load(FILES["gentle.yaml"])
    card = yaml.safe_load((PROJECT / "config/datasets/shapes.yaml").read_text()) | {"name": "few"}
    card["data"] |= {"train_images": 8, "val_images": 4}
    (folder / "few.yaml").write_text(yaml.safe_dump(card))
    few = {"dataset": str(folder / "few.yaml"), "protocol_override": FEW, "frameworks": ["detectron2"]}
    few["variants"] = [entry for entry in study["variants"] if entry["variant"] != "cascade_rcnn"]
    (folder / "gentle.yaml").write_text(yaml.safe_dump(study | few))
    run(COMMANDS[2], folder)
    assert state_of_the_project() == before
    status = pd.read_csv(folder / "results/studies/gentle/status.csv")
    assert set(status["state"]) == {"evaluated"}
    assert len(status) == 3
    assert "Gentle Cascade R-CNN, 0.02" in (folder / "reports/gentle.html").read_text()
    digest = variant_digest(folder / "my_variants" / "gentle_cascade")
    trained = sorted((folder / "results" / "runs").glob("gentle_cascade-*/trained.json"))
    assert [json.loads(path.read_text())["variant_sha256"] for path in trained] == [digest] * 2


def verdicts_of(folder: Path, study: str) -> pd.DataFrame:
    """The verdicts of a study by claim."""
    return pd.read_csv(folder / "results" / "studies" / study / "verdicts.csv").set_index("claim")


def test_its_hypotheses_were_registered_before_it_trained(folder):
    """By the pipeline: every training has the digest of the one registration."""
    (entry,) = json.loads((folder / "results/studies/gentle/registered.json").read_text())
    for path in (folder / "results/runs").glob("*/trained.json"):
        trained = json.loads(path.read_text())
        assert trained["registered"] == [entry["sha256"]]
        assert entry["time"] <= trained["began"] <= trained["finished"]
    verdicts = verdicts_of(folder, "gentle")
    assert set(verdicts["registered"]) == {"registered before training"}
    assert verdicts.loc["gentle-needs-few-parameters", "verdict"] == "supported"
    assert verdicts.loc["gentler-rise-loses-high-iou", "value"] == pytest.approx(0, abs=1), "measured"
    assert (folder / "reports/gentle.html").read_text().count("registered before training") >= 2


def test_one_that_is_added_after_training_is_exploratory(folder):
    """The pipeline registers it anew, trains nothing, and leaves the others and the old registration as they are."""
    before = (folder / "results/studies/gentle/registered.json").read_text()
    study = yaml.safe_load((folder / "gentle.yaml").read_text())
    late = study["hypotheses"][-1] | {"id": "late", "than": 2}
    (folder / "gentle.yaml").write_text(yaml.safe_dump(study | {"hypotheses": [*study["hypotheses"], late]}))
    text = run(COMMANDS[2], folder)
    assert "rule register:" in text
    assert "rule train:" not in text
    assert "Nothing to be done" in run(COMMANDS[2], folder)
    assert (folder / "results/studies/gentle/registered.json").read_text().startswith(before.removesuffix("\n]\n"))
    verdicts = verdicts_of(folder, "gentle")
    assert list(verdicts["registered"]) == ["registered before training"] * 3 + ["added afterwards, exploratory"]
    assert verdicts.loc["late", "registered_why"] == "the question is not in registration 1"


def test_runs_that_another_study_trained_began_before_the_registration(folder):
    study = yaml.safe_load((folder / "gentle.yaml").read_text()) | {"name": "again"}
    (folder / "again.yaml").write_text(yaml.safe_dump(study))
    said = run("cascadebench register again.yaml", folder)
    assert "registration 1, sha256 " in said
    assert "new: late detectron2 resnet18_narrow\n3 of 3 trainings have begun" in said
    assert "unchanged since registration 1, " in run("cascadebench register again.yaml", folder)
    run("cascadebench intervals again.yaml --resamples 50", folder)
    verdicts = verdicts_of(folder, "again")
    assert set(verdicts["registered"]) == {"added afterwards, exploratory"}
    assert verdicts["registered_why"].str.endswith("its training began before registration 1").all()
