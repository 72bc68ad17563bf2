"""Where the numbers come from: when, from which code, by which commands, and whether all runs were made alike."""

from collections.abc import Iterator
from typing import Any

from cascadebench.report.data.study_results import RunRecord, StudyResults
from cascadebench.report.parts.cells import ABSENT, Cell, Column, Group, Line, Row, Table, listing

STEPS = {"trained": "Trained", "predicted": "Predicted"}
"""Manifests of a run, and what they say was done."""


def _words(manifest: dict[str, Any], key: str) -> dict[str, str]:
    """A mapping in a manifest as text; empty if it has another form."""
    part = manifest.get(key)
    return (
        {str(name): str(value) for name, value in part.items() if value is not None} if isinstance(part, dict) else {}
    )


def _text(manifest: dict[str, Any], key: str) -> str:
    value = manifest.get(key)
    return value if isinstance(value, str) else ""


def _time(manifest: dict[str, Any]) -> str:
    """When a step ended, to the minute; empty if it was not recorded."""
    return _text(manifest, "finished").replace("T", " ")[:16]


def commit(manifest: dict[str, Any]) -> str:
    """Commit of the project, marked if its files were changed since; empty if it was not recorded."""
    project = _words(manifest, "project")
    if "commit" not in project:
        return ""
    return project["commit"] + (" with changes" if project.get("changed") == "True" else "")


def _values(results: StudyResults) -> Iterator[tuple[str, str, RunRecord]]:
    """What should be equal in all runs: name, value and run, of every training and prediction."""
    for record in results.runs:
        for step in STEPS:
            manifest = record.files[step]
            yield from ((name, value, record) for name, value in _words(manifest, "versions").items())
            for name, value in (("device", _text(manifest, "device")), ("commit of CascadeBench", commit(manifest))):
                if value:
                    yield name, value, record


def difference_sentences(results: StudyResults) -> list[str]:
    """What runs were made with in differing versions, on differing devices or from differing code."""
    found: dict[str, dict[str, set[str]]] = {}
    for name, value, record in _values(results):
        found.setdefault(name, {}).setdefault(value, set()).add(record.run.id)
    return [
        f"{name}: "
        + "; ".join(f"{value} in {len(runs)} {'run' if len(runs) == 1 else 'runs'}" for value, runs in by_value.items())
        for name, by_value in found.items()
        if len(by_value) > 1
    ]


def sameness(results: StudyResults) -> str:
    """Whether all runs were made with the same versions, on the same device, from the same code, and when."""
    manifests = [record.files[step] for record in results.runs for step in STEPS if record.files[step]]
    if not manifests:
        return ""
    times = sorted(filter(None, map(_time, manifests)))
    span = f"from {times[0]} to {times[-1]}" if len(set(times)) > 1 else f"at {times[0]}" if times else ""
    when = f"Made {span} UTC" if times else "When the runs were made was not recorded"
    when += (
        f", as far as it was recorded ({len(times)} of {len(manifests)} steps). "
        if 0 < len(times) < len(manifests)
        else ". "
    )
    if difference_sentences(results):
        return when + "Not all runs were made alike:"
    untold = [] if all(map(commit, manifests)) else ["the commit of CascadeBench"]
    silence = f" Not recorded in every run: {listing(untold)}." if untold else ""
    return f"{when}All runs were made with the same versions of every package and on the same kind of device.{silence}"


def origin_table(results: StudyResults) -> Table:
    """When every run was trained and predicted, and from which code."""
    groups = []
    for title, detectors in results.panels():
        rows = []
        for record in (record for detector in detectors for record in detector.runs):
            cells = []
            for step in STEPS:
                manifest = record.files[step]
                note = (Line(text, "muted"),) if (text := _text(manifest, "device")) else ()
                cells.append(Cell(_time(manifest) or ABSENT, note))
            commits = list(dict.fromkeys(filter(None, (commit(record.files[step]) for step in STEPS))))
            cells.append(Cell(", ".join(commits) or ABSENT))
            rows.append(Row(Cell(record.label, (Line(f"seed {record.run.seed}", "muted"),)), tuple(cells)))
        groups.append(Group(title, tuple(rows)))
    columns = (
        Column("Run", kind="text"),
        *(Column(f"{title}, UTC", kind="text") for title in STEPS.values()),
        Column("Commit of CascadeBench", kind="code"),
    )
    caption = "When each run was made, on what, and from which commit; a dash: not recorded."
    return Table("run-origins", caption, columns, tuple(groups))


def command_table(results: StudyResults) -> Table:
    """Command lines of every training and prediction, as they were given."""
    groups = []
    for title, detectors in results.panels():
        rows = []
        for record in (record for detector in detectors for record in detector.runs):
            lines = [Line(_text(record.files[step], "command")) for step in STEPS]
            if any(line.text for line in lines):
                head = Cell(record.label, (Line(f"seed {record.run.seed}", "muted"),))
                rows.append(Row(head, (Cell("", tuple(line for line in lines if line.text)),)))
        groups.append(Group(title, tuple(rows)))
    columns = (Column("Run", kind="text"), Column("Command lines", kind="code"))
    caption = "Command lines of each training and prediction, as the pipeline gave them in its folder."
    return Table("run-commands", caption, columns, tuple(groups))


def checksum_table(results: StudyResults) -> Table:
    """SHA-256 of every file that the runs read: annotations as they came and as prepared, and initial weights."""
    splits = results.lock.get("splits")
    rows = []
    for name, split in splits.items() if isinstance(splits, dict) else ():
        for key, words in (
            ("source_sha256", "annotations as they came"),
            ("prepared_sha256", f"{name}.json as prepared"),
        ):
            digest = split.get(key) if isinstance(split, dict) else None
            rows.append(Row(Cell(f"{name}: {words}"), (Cell(str(digest or ABSENT)),)))
    weights = {one.run.backbone.name: one.run.backbone.weights for one in results.runs}
    for name, file in weights.items():
        if file:
            rows.append(Row(Cell(f"initial weights of {name}"), (Cell(file.sha256 or ABSENT),)))
    columns = (Column("File", kind="text"), Column("SHA-256", kind="code"))
    caption = "Checksums of the files that the runs read. Pictures are not part of them."
    return Table("file-checksums", caption, columns, (Group("", tuple(rows)),))
