"""Writing a study's export."""

import hashlib
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from cascadebench.core.errors import InputError
from cascadebench.core.files import read_object, written_beside
from cascadebench.export.study_crate import Published, describe
from cascadebench.export.study_files import StudyFiles, study_files
from cascadebench.results.layout import REPORTS, RESULTS, ImportedFolder, RunFolder, report_of
from cascadebench.study_loading import load_study

METADATA = "ro-crate-metadata.json"
_WITH_TIMES = {
    RunFolder.trained: "finished",
    RunFolder.predicted: "finished",
    RunFolder.failed: "time",
    ImportedFolder.record: "time",
}
"""Manifests and the key under which they say when."""


def export_study(
    name: str,
    results: Path,
    report: Path | None = None,
    out: Path | None = None,
    detections: bool = False,
    published: Published | None = None,
) -> tuple[Path, StudyFiles]:
    """Write a study's tables, run manifests, report and cards into one zip, an RO-Crate; equal files, equal bytes.

    Parameters
    ----------
    name : str
        As :func:`cascadebench.study_loading.load_study` takes it.
    results : Path
        The folder that holds ``studies/``, ``runs/``, ``datasets/`` and ``imported/``. What is missing there is named
        in the crate's description.
    report : Path, optional
        The HTML report; without it ``reports/<study>.html``.
    out : Path, optional
        The zip; without it ``<study>.zip``.
    detections : bool
        Put detections and proposals in, too.
    published : Published, optional
        Without a date: the day of the last thing that a manifest has a time for, or else of the newest file.

    Returns
    -------
    path : Path
        The zip.
    found : StudyFiles
        What is in it and what is missing.

    Raises
    ------
    InputError
        If the study is none, the date is none, an ORCID comes without an author, `out` is a folder, or there is not a
        single result.
    """
    study, published = load_study(name), published or Published()
    out = out or Path(f"{study.name}.zip")
    if out.is_dir():
        raise InputError(f"export: {out} is a folder; name a file, for instance {out / (study.name + '.zip')}")
    if published.orcid and not published.author:
        raise InputError("export: --orcid: needs --author")
    found = study_files(study, name, results, report or report_of(study.name), detections)
    if not any(file.place.startswith((f"{RESULTS}/", f"{REPORTS}/")) for file in found.files):
        raise InputError(f"export: {results} holds nothing of the study {study.name}")
    manifests = {file.place: read_object(file.source) for file in found.files if file.source.name in _WITH_TIMES}
    said = replace(published, date=_date(published.date, found, manifests))
    with written_beside(out) as temporary, ZipFile(temporary, "w", ZIP_DEFLATED) as archive:
        contents = {}
        for file in found.files:
            content = file.source.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            contents[file.place] = {"contentSize": str(len(content)), "sha256": digest}
            archive.writestr(_entry(file.place), content)
        archive.writestr(_entry(METADATA), describe(study, found, contents, manifests, said))
    return out, found


def _entry(place: str) -> ZipInfo:
    """A file in the zip, of no time and of one system, so that equal files give equal bytes."""
    entry = ZipInfo(place)
    entry.compress_type, entry.create_system, entry.external_attr = ZIP_DEFLATED, 3, 0o644 << 16
    return entry


def _date(said: str, found: StudyFiles, manifests: dict[str, dict[str, Any]]) -> str:
    """The date of publication."""
    if said:
        try:
            return date.fromisoformat(said).isoformat()
        except ValueError as error:
            raise InputError(f"export: --date: {said!r} is no date such as 2026-01-31") from error
    times = [str(content[key]) for place, content in manifests.items()
             if (key := _WITH_TIMES[place.rpartition("/")[2]]) in content]  # fmt: skip
    if times:
        return max(times)[:10]
    newest = max(file.source.stat().st_mtime for file in found.files)
    return datetime.fromtimestamp(newest, UTC).date().isoformat()
