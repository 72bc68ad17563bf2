"""Runs that somebody else has trained and predicted: a folder of results that is read and never written.

What a run there holds is taken when all of it is what its manifests say and what this study asks for; it is copied, so
that nothing that happens there later changes it here.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cascadebench.core.errors import Fault, InputError
from cascadebench.core.files import read_json, read_object, sha256_of, write_json, write_text, written_beside
from cascadebench.results.layout import PREDICTION_FILES, TRAINING_FILES, ResultsFolder, RunFolder
from cascadebench.study.run import Run, read_run

SHARED_RESULTS = "CASCADEBENCH_SHARED_RESULTS"
"""Environment variable by which Snakemake names the folder: as a rule's parameter it would make all run again."""


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of those of the files that exist, by name."""
    return {name: sha256_of(folder / name) for name in names if (folder / name).exists()}


def take_training(shared: Path, run: Run, out: RunFolder, expected: dict[str, Any]) -> None:
    """Copy a finished training into a run's folder, ``trained.json`` last.

    Parameters
    ----------
    shared : Path
        A folder ``results`` of somebody else.
    expected : dict
        What ``trained.json`` there must say, such as the checksum of the training images.

    Raises
    ------
    InputError
        With the first thing for which it cannot be taken.
    """
    there = ResultsFolder(shared).run(run.id)
    manifest = _manifest(there, run, there.trained, expected)
    _check_controls(there, out)
    files = manifest.get("files") or {}
    missing = set(TRAINING_FILES) - set(files)
    if missing or files[RunFolder.last_checkpoint] != manifest.get("checkpoint_sha256"):
        raise InputError(f"{there.trained}: files: the checksums of a training are not all there")
    # Whoever goes on after a kill between the checkpoint and the manifest still says where it comes from.
    note = {"start": 0, "time": manifest.get("began"), "note": f"taken from {there.path}"}
    note["registered"] = manifest.get("registered", [])  # as it was there: the training began before it came here
    write_text(out.attempts, json.dumps(note) + "\n")
    try:
        _copy(there, out, {name: files[name] for name in TRAINING_FILES})
    except InputError:
        out.attempts.unlink()
        raise
    write_json(out.trained, manifest | {"taken_from": str(there.path)})


def take_prediction(shared: Path, run: Run, out: RunFolder, expected: dict[str, Any], names: Iterable[str]) -> None:
    """Copy a finished prediction into a run's folder, ``predicted.json`` last.

    Parameters
    ----------
    expected : dict
        What ``predicted.json`` there must say, such as the checksum of the checkpoint that is used here.
    names : iterable of str
        Files that must be among those of the prediction.

    Raises
    ------
    InputError
        With the first thing for which it cannot be taken.
    """
    there = ResultsFolder(shared).run(run.id)
    manifest = _manifest(there, run, there.predicted, expected)
    files = {name: digest for name, digest in (manifest.get("files") or {}).items() if name in PREDICTION_FILES}
    for name in names:
        if name not in files:
            raise InputError(f"{there.predicted}: files: {name} is not among them")
    _copy(there, out, files)
    write_json(out.predicted, manifest | {"taken_from": str(there.path)})


def shared_folder(path: str, own: Path) -> Path:
    """Check that a folder can be the source of runs; raises InputError if it has none or is our own."""
    folder = Path(path)
    if not ResultsFolder(folder).all_runs.is_dir():
        raise InputError(f"shared_results: {path}: no folder runs/ in it; a project's folder results is expected")
    if own.exists() and folder.samefile(own):
        raise InputError(f"shared_results: {path}: it is this project's own folder of results")
    return folder.resolve()


def check_prediction(folder: Path) -> None:
    """Compare a run's predictions with their manifest, and that with the training; a run without one passes.

    Raises
    ------
    Fault
        If the detections are not those that were written, or of other weights than those that are there.
    """
    path, trained = RunFolder(folder).predicted, RunFolder(folder).trained
    predicted = read_json(path) if path.exists() else {}
    for name, digest in predicted.get("files", {}).items():
        if digests(folder, [name]).get(name) != digest:
            raise Fault(f"{folder / name}: missing, or its checksum is not that of {path.name}; predict again")
    weights = read_json(trained).get("checkpoint_sha256") if trained.exists() else None
    if weights and predicted.get("checkpoint_sha256", weights) != weights:
        raise Fault(f"{path}: its checkpoint is not that of {trained.name}: the run was trained again; predict again")


def _manifest(there: RunFolder, run: Run, path: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """Read a manifest and compare it with what is expected."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    found = read_run(there.run).id
    if found != run.id:
        raise InputError(f"{there.run}: it is the run {found}")
    manifest = read_object(path)
    for key, value in ({"run": run.id} | expected).items():
        if manifest.get(key) != value:
            raise InputError(f"{path}: {key}: is {manifest.get(key)!r}; {value!r} is expected")
    return manifest


def _check_controls(there: RunFolder, out: RunFolder) -> None:
    """The effective values that were read back there are those that were read back here."""
    lists = (read_json(folder.controls)["controls"] for folder in (out, there))
    own, other = ({one["name"]: one["value"] for one in controls} for controls in lists)
    for name in own.keys() | other.keys():
        if name not in own or name not in other or own[name] != other[name]:
            raise InputError(
                f"{there.controls}: {name}: is {other.get(name, 'missing')!r}; here it is {own.get(name, 'missing')!r}"
            )


def _copy(there: RunFolder, out: RunFolder, files: dict[str, str]) -> None:
    """Copy files, and compare what has arrived with its checksum before it gets its name."""
    copied = []
    for name, digest in files.items():
        try:
            with written_beside(out.path / name) as temporary:
                shutil.copyfile(there.path / name, temporary)
                if sha256_of(temporary) != digest:
                    raise InputError(f"{there.path / name}: its checksum is not that of the manifest")
            copied.append(out.path / name)
        except (InputError, FileNotFoundError) as error:
            for path in copied:
                path.unlink()
            words = str(error) if isinstance(error, InputError) else f"{there.path / name}: no such file"
            raise InputError(words) from error
