"""``registered.json`` of a study: what it asked and how it judged, each time that this was written down.

A list that only grows. Every entry holds the digest of the one before, and its own over everything in it, its time too:
an entry that was edited or removed is found. A training notes the digests that it found when it began, so that no entry
can be dated back either.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import field_validator

from cascadebench.core.configuration import Configuration, validated
from cascadebench.core.errors import InputError
from cascadebench.core.files import canonical_json, now, read_json, read_text, write_text
from cascadebench.core.lease import one_at_a_time
from cascadebench.results.layout import ResultsFolder


class RegisteredQuestion(Configuration):
    """A claim or hypothesis as it is asked in one framework on one backbone."""

    question: str
    """Its name in all tables of the study."""
    asked: dict[str, Any]
    """The claim as written, without its defaults."""
    runs: tuple[str, ...]
    """Ids of the planned runs that it is about."""
    sha256: str
    """Over all of this."""


class Registration(Configuration):
    """One entry of ``registered.json``."""

    study: str
    dataset: dict[str, str]
    """Name, and digest of its card."""
    rule: dict[str, Any]
    """How verdicts are given."""
    runs: tuple[str, ...]
    """Ids of all planned runs."""
    questions: tuple[RegisteredQuestion, ...]
    project: dict[str, Any]
    """Version of the project, commit of its checkout, and whether tracked files were changed."""
    time: str
    """UTC."""
    previous: str | None
    """Digest of the entry before; null in the first."""
    sha256: str
    """Over all of this."""

    @field_validator("time")
    @classmethod
    def _is_a_time(cls, text: str) -> str:
        if datetime.fromisoformat(text).tzinfo is None:
            raise ValueError("a time with its offset from UTC is expected")
        return text

    @property
    def digests(self) -> dict[str, str]:
        """Digest of every question by its name."""
        return {one.question: one.sha256 for one in self.questions}

    @property
    def content(self) -> dict[str, Any]:
        """What is registered, without when and by which code."""
        return self.model_dump(mode="json", exclude={"project", "time", "previous", "sha256"})


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def read_registrations(path: Path) -> list[Registration]:
    """Read ``registered.json``; none if there is no such file.

    Raises
    ------
    InputError
        If it is malformed, or an entry or the order of the entries is not what its digests say.
    """
    if not path.exists():
        return []
    entries = read_json(path)
    if not isinstance(entries, list):
        raise InputError(f"{path}: a list of registrations is expected, found {type(entries).__name__}")
    found: list[Registration] = []
    for number, entry in enumerate(entries):
        place = f"{path}: [{number}]"
        one = validated(Registration, entry, place)
        rest = {key: value for key, value in entry.items() if key != "sha256"}
        if digest(rest) != one.sha256:
            raise InputError(f"{place}: sha256: not that of its content; it was edited: put the file back")
        if one.previous != (found[-1].sha256 if found else None):
            raise InputError(f"{place}: previous: not the entry before; one was removed or moved: put the file back")
        found.append(one)
    return found


def register(path: Path, content: Mapping[str, Any], project: Mapping[str, Any]) -> Registration | None:
    """Write down what a study asks, if its last registration says otherwise; older entries stay byte for byte.

    Parameters
    ----------
    content : mapping
        ``study``, ``dataset``, ``rule``, ``runs`` and ``questions`` of :class:`Registration`.
    project : mapping
        State of the code, as :func:`cascadebench.execution.provenance.project_state` says it.

    Returns
    -------
    Registration or None
        The new entry; None: nothing has changed since the last.

    Raises
    ------
    InputError
        If the file that is there is malformed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(path.parent):
        before = read_registrations(path)
        if before and before[-1].content == json.loads(json.dumps(content)):
            return None
        entry = {**content, "project": dict(project), "time": now()}
        entry["previous"] = before[-1].sha256 if before else None
        entry["sha256"] = digest(entry)
        text = json.dumps([entry], indent=2, allow_nan=False, ensure_ascii=False).removeprefix("[\n") + "\n"
        kept = read_text(path).rstrip().removesuffix("]").rstrip() + ",\n" if before else "[\n"
        write_text(path, kept + text)
    return validated(Registration, entry, path)


def known_registrations(folder: Path, run_id: str) -> list[str]:
    """Digests of all registrations, of whichever studies, that plan a run; `folder` is the run's.

    A file that cannot be read is named and passed over.
    """
    found: list[str] = []
    for study in ResultsFolder(folder.resolve().parent.parent).registered_studies():
        try:
            found += [one.sha256 for one in read_registrations(study.registered) if run_id in one.runs]
        except InputError as error:  # perhaps another study's, and no reason not to train
            print(f"note: {error}; its registrations are not noted", flush=True)
    return found


def said(registration: Registration) -> str:
    """A registration by its digest, time and code, for people."""
    commit, changed = registration.project.get("commit"), registration.project.get("changed")
    code = f"commit {commit[:12]}{' with changes' if changed else ''}" if commit else "no checkout"
    return f"sha256 {registration.sha256[:12]}, {registration.time}, {code}"


def changes(before: Sequence[Registration], questions: Mapping[str, str]) -> dict[str, list[str]]:
    """Names of questions that are ``new``, ``changed``, ``unchanged`` or ``no longer asked`` since the last entry."""
    old = before[-1].digests if before else {}
    return {
        "new": [name for name in questions if name not in old],
        "changed": [name for name in questions if name in old and old[name] != questions[name]],
        "unchanged": [name for name in questions if old.get(name) == questions[name]],
        "no longer asked": [name for name in old if name not in questions],
    }
