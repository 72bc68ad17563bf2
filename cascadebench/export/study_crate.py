"""The description of an export: every file, every run as an action, and with what software."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rocrate.model import ContextEntity, File, Person, SoftwareApplication
from rocrate.rocrate import ROCrate

from cascadebench import __version__
from cascadebench.core.configuration import PROJECT, read_yaml
from cascadebench.export.study_files import StudyFiles
from cascadebench.results.layout import RESULTS, ResultsFolder, report_of
from cascadebench.study.study import PlannedRun, Study

CRATE_VERSION = "1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
"""Process Run Crate: a description of runs of software, each an action with what it read and wrote."""
_FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
    ".py": "text/x-python",
    ".yaml": "application/yaml",
}


@dataclass(frozen=True)
class Published:
    """What the one who exports says."""

    date: str = ""
    """Of publication, such as ``2026-01-31``."""
    license: str = ""
    """Identifier of a licence at SPDX, or a URL; empty: that of ``CITATION.cff``."""
    author: str = ""
    """Name of a person; empty: the authors in ``CITATION.cff``."""
    orcid: str = ""
    """The person's address at orcid.org."""


def describe(
    study: Study,
    found: StudyFiles,
    contents: Mapping[str, Mapping[str, str]],
    manifests: Mapping[str, Mapping[str, Any]],
    published: Published,
) -> bytes:
    """Write ``ro-crate-metadata.json``, whose date is `published`'s; equal arguments give equal bytes.

    Parameters
    ----------
    contents : mapping of str to mapping
        ``contentSize`` and ``sha256`` of the files by their place in the export.
    manifests : mapping of str to mapping
        Content of ``trained.json``, ``predicted.json`` and ``failed.json`` by their place.
    """
    crate = ROCrate(version=CRATE_VERSION)
    root = crate.root_dataset
    crate.name = f"{study.file.title}: results of the CascadeBench study {study.name}"
    crate.description = _description(study, found)
    crate.datePublished = published.date
    citation = read_yaml(PROJECT / "CITATION.cff")
    author = root["author"] = _author(crate, published, citation["authors"])
    crate.license = crate.add(_license(crate, published.license or citation["license"]))
    profile = {"@type": "CreativeWork", "name": "Process Run Crate", "version": PROFILE.rpartition("/")[2]}
    root["conformsTo"] = crate.add(ContextEntity(crate, PROFILE, properties=profile))
    files = {}
    for file in found.files:
        about = {"name": file.words, "encodingFormat": _FORMATS[Path(file.place).suffix], **contents[file.place]}
        files[file.place] = crate.add(File(crate, file.source, file.place, properties=about))
    report = files.get(str(report_of(study.name)))
    if report:
        root["mainEntity"] = report
    actions = [_action(crate, study, planned, found, files, manifests, author) for planned in study.runs]
    root["mentions"] = [action for action in actions if action]
    (_, text), *_ = crate.metadata.stream()
    return text + b"\n"


def _description(study: Study, found: StudyFiles) -> str:
    """The study in words, and what is missing of its results."""
    runs = f"{len(study.runs)} runs planned" if study.runs else "no runs of its own"
    parts = [study.file.description, f"Tables, run manifests and report of the study {study.name}, {runs}."]
    parts.append(f"Missing: {'; '.join(found.missing)}." if found.missing else "Nothing is missing.")
    return " ".join(part for part in parts if part)


def _author(crate: ROCrate, published: Published, otherwise: Sequence[Mapping[str, str]]) -> Any:
    if published.author:
        return crate.add(Person(crate, published.orcid or "#author", properties={"name": published.author}))
    names = [
        one.get("name") or " ".join(one[part] for part in ("given-names", "family-names") if part in one)
        for one in otherwise
    ]
    return crate.add(ContextEntity(crate, "#authors", properties={"@type": "Organization", "name": ", ".join(names)}))


def _license(crate: ROCrate, license: str) -> ContextEntity:
    """A licence at SPDX or elsewhere."""
    url = license if "://" in license else f"https://spdx.org/licenses/{license}"
    words = {"@type": "CreativeWork", "name": license.rpartition("/")[2], "description": f"Licence: {license}"}
    return ContextEntity(crate, url, properties=words)


def _action(
    crate: ROCrate,
    study: Study,
    planned: PlannedRun,
    found: StudyFiles,
    files: Mapping[str, File],
    manifests: Mapping[str, Mapping[str, Any]],
    author: Any,
) -> ContextEntity | None:
    """A run as an action; None if it has left nothing but its plan."""
    folders = ResultsFolder(RESULTS)
    folder = folders.run(planned.run.id)
    own = [file.place for file in found.files if file.run == planned.run.id]
    inputs = [str(folder.run), str(folders.dataset(study.dataset.name).lock)]
    read = [files[place] for place in inputs if place in files]
    written = [files[place] for place in own if place not in inputs]
    if not written:
        return None
    paths = {"trained": folder.trained, "predicted": folder.predicted, "failed": folder.failed}
    of_run = {name: manifests.get(str(path), {}) for name, path in paths.items()}
    failed = of_run["failed"]
    properties = {
        "@type": "CreateAction",
        "name": planned.title,
        "description": f"Training, prediction and evaluation of the run {planned.run.id}",
        "agent": author,
        "instrument": _instruments(crate, [of_run["trained"], of_run["predicted"]]),
        "object": read,
        "result": written,
        "actionStatus": f"http://schema.org/{'Failed' if failed else 'Completed'}ActionStatus",
        **_times(of_run),
    }
    if failed:
        properties["error"] = str(failed.get("message", "no reason was recorded"))
    return crate.add(ContextEntity(crate, f"#run-{planned.run.id}", properties=properties))


def _instruments(crate: ROCrate, manifests: Sequence[Mapping[str, Any]]) -> list[SoftwareApplication]:
    """CascadeBench as it exports, and what the run says that it used."""
    used = {"CascadeBench": __version__}
    for manifest in manifests:
        # Names with a space are remarks, such as what serves a framework's operators.
        used |= {name: version for name, version in manifest.get("versions", {}).items() if " " not in name}
    found = []
    for name, version in used.items():
        identifier = f"#software-{name}-{version}"
        application = SoftwareApplication(crate, identifier, properties={"name": name, "softwareVersion": str(version)})
        found.append(crate.get(identifier) or crate.add(application))
    return found


def _times(of_run: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Start and end of a run, as far as its manifests say; a resumed training does not know when it began."""
    trained, predicted, failed = (of_run[name] for name in ("trained", "predicted", "failed"))
    times = {}
    whole = not trained.get("resumes") and "weights_from" not in trained
    if whole and "finished" in trained and "wall_seconds" in trained:
        began = datetime.fromisoformat(trained["finished"]) - timedelta(seconds=round(trained["wall_seconds"]))
        times["startTime"] = began.isoformat(timespec="seconds")
    end = failed.get("time") or predicted.get("finished") or trained.get("finished")
    return times | ({"endTime": str(end)} if end else {})
