"""Exports: equal bytes for equal files, all that is there and a word on what is not, and a crate that validates."""

import hashlib
import json
import re
import shutil
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
import rocrate
from commands import call
from detection_cases import annotations, detections
from rocrate.rocrate import ROCrate
from small_studies import changed_study

from cascadebench.core.errors import InputError
from cascadebench.detectors.new_variant import new_variant
from cascadebench.export import Published, export_study
from cascadebench.metrics.coco.detections import write_detections
from cascadebench.report import write_report
from cascadebench.study_loading import load_study
from cascadebench.tables.aggregate import aggregate
from cascadebench.tables.run_evaluation import evaluate_run

FINISHED = "2026-02-03T04:05:06+00:00"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with results of the embedded study: one run evaluated, one failed, six not run; and the report."""
    folder = tmp_path_factory.mktemp("made")
    study, results = load_study("tiny"), folder / "results"
    data = results / "datasets" / "shapes"
    data.mkdir(parents=True)
    (data / "lock.json").write_text("{}")
    truth = annotations([(1, 1, 1, 1, 9, 9)], [1], ["disc", "square", "triangle"], file_name="-", width=20, height=20)
    (data / "val.json").write_text(json.dumps(truth))
    good, bad = (results / "runs" / planned.run.id for planned in study.runs[:2])
    for planned, run in zip(study.runs, (good, bad), strict=False):
        planned.run.write(run / "run.yaml")
        (run / "cost.json").write_text(json.dumps({"parameters": 12}))
    write_detections(good / "detections.parquet", detections([(1, 1, 0.5, 1, 1, 9, 9)]))
    evaluate_run(good, data)
    versions = {"torch": "2.0", "mmcv operators": "torchvision"}
    trained = {"resumes": 0, "wall_seconds": 66.0, "finished": "2026-02-03T04:00:06+00:00", "versions": versions}
    (good / "trained.json").write_text(json.dumps(trained))
    (good / "predicted.json").write_text(json.dumps({"finished": FINISHED, "versions": versions}))
    (good / "checkpoints").mkdir()
    (good / "checkpoints" / "last.pt").write_bytes(b"weights")
    failure = {"command": "train", "message": "<no> memory", "time": "2026-02-01T00:00:00+00:00", "log": []}
    (bad / "failed.json").write_text(json.dumps(failure))
    aggregate(study, results)
    picture = results / "studies" / "tiny" / "examples" / "1.jpg"
    picture.parent.mkdir()
    picture.write_bytes(b"picture")
    write_report(study, results, folder / "tiny.html")
    return folder


def exported(made: Path, out: Path, detections: bool = False, **said) -> Path:
    """Export the study of a folder."""
    return export_study("tiny", made / "results", made / "tiny.html", out, detections, Published(**said))[0]


def graph(path: Path) -> dict[str, dict]:
    """Entities of a crate by id."""
    with ZipFile(path) as archive:
        content = json.loads(archive.read("ro-crate-metadata.json"))
    assert content["@context"] == "https://w3id.org/ro/crate/1.1/context"
    return {entity["@id"]: entity for entity in content["@graph"]}


@pytest.fixture(scope="module")
def crate(made, tmp_path_factory) -> Path:
    return exported(made, tmp_path_factory.mktemp("crate") / "tiny.zip")


def test_equal_files_give_equal_bytes(made, crate, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(made, copy, copy_function=shutil.copyfile)
    assert exported(copy, tmp_path / "again.zip").read_bytes() == crate.read_bytes()


def test_every_file_is_described_as_it_is(crate):
    entities = graph(crate)
    with ZipFile(crate) as archive:
        places = set(archive.namelist()) - {"ro-crate-metadata.json"}
        for place in places:
            entity = entities[place]
            assert entity["sha256"] == hashlib.sha256(archive.read(place)).hexdigest()
            assert entity["contentSize"] == str(archive.getinfo(place).file_size)
            assert entity["encodingFormat"]
    assert {part["@id"] for part in entities["./"]["hasPart"]} == places
    run = load_study("tiny").runs[0].run.id
    expected = {
        "reports/tiny.html", "results/studies/tiny/ap.csv", "results/studies/tiny/status.csv",
        "results/datasets/shapes/lock.json", "config/studies/tiny.yaml", "config/protocols/tiny.yaml",
        "config/datasets/shapes.yaml", "adapters/variants/cascade_rcnn/card.yaml",
        *(f"results/runs/{run}/{name}" for name in ("run.yaml", "cost.json", "trained.json", "predicted.json")),
    }  # fmt: skip
    assert expected <= places
    assert not any("checkpoints" in place or "detections" in place for place in places)


def test_the_code_of_variants_goes_in(made, tmp_path):
    new_variant("mine", "cascade_rcnn", tmp_path / "variants")
    (tmp_path / "variants" / "mine" / "parts.py").write_text("")
    variants = [{"variant": "faster_rcnn"}, {"variant": "mine"}]
    mine = changed_study(tmp_path, "mine", variants=variants, variant_folders=["variants"], proposal_swaps=[])
    path, _ = export_study(mine, made / "results", tmp_path / "no.html", tmp_path / "mine.zip")
    entities = graph(path)
    assert {place for place in entities if place.startswith("adapters/variants/")} == {
        *(f"adapters/variants/faster_rcnn/{name}" for name in ("card.yaml", "mmdet.py", "detectron2.py")),
        *(f"adapters/variants/mine/{name}" for name in ("card.yaml", "mmdet.py", "detectron2.py", "parts.py")),
        *(f"adapters/variants/cascade_rcnn/{name}" for name in ("mmdet.py", "detectron2.py")),  # `mine` is built on it
    }
    assert entities["adapters/variants/mine/mmdet.py"]["encodingFormat"] == "text/x-python"


def test_detections_go_in_when_asked_for(made, tmp_path):
    entities = graph(exported(made, tmp_path / "all.zip", detections=True))
    assert f"results/runs/{load_study('tiny').runs[0].run.id}/detections.parquet" in entities


def test_the_description_names_what_is_missing(crate):
    said = graph(crate)["./"]["description"]
    runs = load_study("tiny").run_ids
    assert runs[0] not in said
    assert f"{runs[1]}: failed (train: <no> memory)" in said
    assert all(f"{run}: not run" in said for run in runs[2:])
    assert re.search(r"tables intervals\.csv, [^;]*audit\.json;", said)


def test_runs_are_actions_with_times_and_software(crate):
    entities, runs = graph(crate), load_study("tiny").run_ids
    actions = [f"#run-{run}" for run in runs[:2]]
    assert [one["@id"] for one in entities["./"]["mentions"]] == actions
    good, bad = (entities[action] for action in actions)
    assert (good["startTime"], good["endTime"]) == ("2026-02-03T03:59:00+00:00", FINISHED)
    assert {"@id": f"results/runs/{runs[0]}/run.yaml"} in good["object"]
    assert {"@id": f"results/runs/{runs[0]}/ap.parquet"} in good["result"]
    software = [entities[one["@id"]] for one in good["instrument"]]
    assert [one["name"] for one in software] == ["CascadeBench", "torch"]
    assert software[1]["softwareVersion"] == "2.0"
    assert bad["actionStatus"].endswith("FailedActionStatus")
    assert bad["error"] == "<no> memory"
    assert entities["./"]["datePublished"] == FINISHED[:10]
    assert entities["./"]["license"] == {"@id": "https://spdx.org/licenses/Apache-2.0"}


def test_what_the_user_says_goes_in(made, tmp_path):
    said = {"date": "2027-01-02", "license": "CC-BY-4.0", "author": "Ada", "orcid": "https://orcid.org/0"}
    entities = graph(exported(made, tmp_path / "said.zip", **said))
    assert entities["./"]["datePublished"] == "2027-01-02"
    assert entities["./"]["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert entities["https://orcid.org/0"]["name"] == "Ada"


def test_rocrate_reads_it_back(crate):
    found = ROCrate(crate)
    assert found.mainEntity.id == "reports/tiny.html"
    assert len(found.get_by_type("CreateAction")) == 2


def test_the_report_can_be_written_again_from_it(made, crate, tmp_path):
    with ZipFile(crate) as archive:
        archive.extractall(tmp_path)
    write_report(load_study("tiny"), tmp_path / "results", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "reports/tiny.html").read_bytes()


def test_the_public_validator_finds_nothing_that_is_required(crate, tmp_path):
    profiles = ["ro-crate-1.1", "process-run-crate-0.5"]
    assert required_issues(crate, profiles, tmp_path) == {profile: [] for profile in profiles}


def test_the_public_validator_can_find_something(crate, tmp_path):
    with ZipFile(crate) as archive:
        archive.extractall(tmp_path / "broken")
    path = tmp_path / "broken" / "ro-crate-metadata.json"
    content = json.loads(path.read_text())
    for entity in content["@graph"]:
        entity.pop("instrument", None)
        entity.pop("license", None)
    path.write_text(json.dumps(content))
    found = required_issues(tmp_path / "broken", ["ro-crate-1.1", "process-run-crate-0.5"], tmp_path)
    assert all(found.values())


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"date": "yesterday"}, "--date: 'yesterday' is no date"),
        ({"orcid": "https://orcid.org/0"}, "--orcid: needs --author"),
    ],
)
def test_wrong_words_are_refused(made, tmp_path, said, message):
    with pytest.raises(InputError, match=message):
        exported(made, tmp_path / "no.zip", **said)
    assert list(tmp_path.iterdir()) == []


def test_no_results_are_no_export(tmp_path):
    with pytest.raises(InputError, match="holds nothing of the study tiny"):
        export_study("tiny", tmp_path / "results", tmp_path / "no.html", tmp_path / "no.zip")


def test_the_command_says_what_is_missing(made, tmp_path):
    done = call("export", "tiny", "--results", made / "results", "--out", tmp_path / "x.zip", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "missing: reports/tiny.html (report of the study" in done.stdout


def required_issues(crate: Path, profiles: list[str], folder: Path) -> dict[str, list[str]]:
    """What a crate lacks of what each profile requires, by the public validator (PyPI: roc-validator), offline.

    Skips if the validator is not installed.
    """
    pytest.importorskip("rocrate_validator", reason="the package roc-validator is not installed")
    from rocrate_validator.models import Severity
    from rocrate_validator.services import ValidationSettings, validate

    cache = folder / "documents"
    keep_context(cache, "https://w3id.org/ro/crate/1.1/context")
    found = {}
    for profile in profiles:
        settings = {
            "rocrate_uri": str(crate),
            "profile_identifier": profile,
            "requirement_severity": Severity.REQUIRED,
            "offline": True,
            "cache_path": str(cache),
        }
        found[profile] = [issue.message for issue in validate(ValidationSettings.parse(settings)).get_issues()]
    return found


def keep_context(cache: Path, url: str) -> None:
    """Put the JSON-LD context that rocrate carries into the validator's store of documents.

    It is that of a later version, in which every term of the asked one means the same.
    """
    from requests import Response
    from requests.adapters import BaseAdapter
    from requests_cache import CachedSession
    from urllib3 import HTTPResponse

    text = (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_bytes()

    class Shelf(BaseAdapter):
        def send(self, request, **_) -> Response:
            response = Response()
            response.status_code, response.url, response.request = 200, request.url, request
            response.headers["Content-Type"] = "application/ld+json"
            response.raw = HTTPResponse(BytesIO(text), response.headers, preload_content=False, request_url=request.url)
            return response

        def close(self) -> None:
            pass

    with CachedSession(cache_name=str(cache), backend="sqlite", expire_after=-1) as session:
        session.mount("https://", Shelf())
        session.get(url)
