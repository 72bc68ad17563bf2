"""Dataset, versions and hardware: what runs read, with what, when and from which code they were made, and if alike."""

from collections.abc import Iterator
from typing import Any

from cascadebench.report.data.study_results import RunRecord, StudyResults, framework_title
from cascadebench.report.parts.cells import ABSENT, Cell, Column, Group, Row, Table, note, number, plain, text_columns
from cascadebench.report.parts.detector_rows import run_groups, shared_value
from cascadebench.report.parts.section import Section, has_runs

STEPS = {"trained": "Trained", "predicted": "Predicted"}
"""Manifests of a run, and what they say was done."""


def _splits(results: StudyResults) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of every split in ``lock.json``; empty if it has another form."""
    splits = results.lock.get("splits")
    for name, split in splits.items() if isinstance(splits, dict) else ():
        yield name, split if isinstance(split, dict) else {}


def dataset_table(results: StudyResults) -> Table:
    """Counts of each split, as prepared."""
    keys = ("images", "annotations", "crowd", "dropped", "clipped")
    rows = (Row(Cell(name), tuple(_count(split.get(key)) for key in keys)) for name, split in _splits(results))
    titles = ("Images", "Annotations", "Crowd regions", "Dropped", "Clipped")
    columns = (Column("Split", kind="text"), *(Column(title) for title in titles))
    caption = "The dataset as every run reads it: boxes dropped for having no area, boxes clipped at the image border."
    return Table("dataset-splits", caption, columns, (Group("", tuple(rows)),))


def _count(value: Any) -> Cell:
    return Cell(number(value, digits=0) if isinstance(value, int) else ABSENT if value is None else plain(value))


def checksum_table(results: StudyResults) -> Table:
    """SHA-256 of every file that the runs read: annotations as they came and as prepared, and initial weights."""
    rows = []
    for name, split in _splits(results):
        for key, words in (
            ("source_sha256", "annotations as they came"),
            ("prepared_sha256", f"{name}.json as prepared"),
        ):
            rows.append(Row(Cell(f"{name}: {words}"), (Cell(str(split.get(key) or ABSENT)),)))
    weights = {record.run.backbone.name: record.run.backbone.weights for record in results.runs}
    for name, file in weights.items():
        if file:
            rows.append(Row(Cell(f"initial weights of {name}"), (Cell(file.sha256 or ABSENT),)))
    columns = (Column("File", kind="text"), Column("SHA-256", kind="code"))
    caption = "Checksums of the files that the runs read. Pictures are not part of them."
    return Table("file-checksums", caption, columns, (Group("", tuple(rows)),))


def build_dataset(results: StudyResults) -> dict[str, Any]:
    """What the dataset is, its counts, and the checksums of the files that runs read."""
    return {
        "dataset": results.study.dataset,
        "digest": results.lock.get("digest"),
        "splits": dataset_table(results),
        "checksums": checksum_table(results),
    }


DATASET = Section("dataset", "Dataset", build_dataset)


def _mapping(manifest: dict[str, Any], key: str) -> dict[str, Any]:
    """A mapping in a manifest; empty if it has another form."""
    part = manifest.get(key)
    return part if isinstance(part, dict) else {}


def _words(manifest: dict[str, Any], key: str) -> dict[str, str]:
    """The same as text."""
    return {str(name): str(value) for name, value in _mapping(manifest, key).items() if value is not None}


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
    runs_of: dict[str, dict[str, set[str]]] = {}
    for name, value, record in _values(results):
        runs_of.setdefault(name, {}).setdefault(value, set()).add(record.id)
    return [
        f"{name}: "
        + "; ".join(f"{value} in {len(runs)} {'run' if len(runs) == 1 else 'runs'}" for value, runs in by_value.items())
        for name, by_value in runs_of.items()
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
    if 0 < len(times) < len(manifests):
        when += f", as far as it was recorded ({len(times)} of {len(manifests)} steps)"
    if difference_sentences(results):
        return f"{when}. Not all runs were made alike:"
    unrecorded = "" if all(map(commit, manifests)) else " Not recorded in every run: the commit of CascadeBench."
    alike = "All runs were made with the same versions of every package and on the same kind of device."
    return f"{when}. {alike}{unrecorded}"


def promise(results: StudyResults) -> str:
    """Where the study's runs, done again, give the same bytes."""
    file, again = results.study.file, "Done again with the same versions of all packages and one CPU thread"
    if file.execution.gpus or file.execution.cpu_threads > 1:
        return "Runs on a GPU or with several CPU threads, done again, give numbers close to these, not the same bytes."
    if all(record.run.protocol.arithmetic == "portable" for record in results.runs):
        return f"{again}, the runs give the same bytes on every x86-64 Linux machine with AVX2 and the same C library."
    return f"{again}, the runs give the same bytes on the same machine; on another one their numbers may differ."


def origin_table(results: StudyResults) -> Table:
    """When every run was trained and predicted, and from which code."""

    def cells(record: RunRecord) -> Iterator[Cell]:
        manifests = [record.files[step] for step in STEPS]
        for manifest in manifests:
            yield Cell(_time(manifest) or ABSENT, note(_text(manifest, "device")))
        yield Cell(", ".join(dict.fromkeys(filter(None, map(commit, manifests)))) or ABSENT)

    times = (f"{title}, UTC" for title in STEPS.values())
    columns = (*text_columns("Run", *times), Column("Commit of CascadeBench", kind="code"))
    caption = "When each run was made, on what, and from which commit; a dash: not recorded."
    return Table("run-origins", caption, columns, run_groups(results, cells))


def _add(items: dict[str, list[tuple[RunRecord, str]]], record: RunRecord, values: dict[str, Any]) -> None:
    """Add what a run has to the values by item."""
    for name, value in values.items():
        if value is not None:
            items.setdefault(str(name), []).append((record, plain(value)))


def environment_table(results: StudyResults) -> Table:
    """Device, hardware and versions of packages, framework by framework."""
    frameworks = list(results.study.file.frameworks)
    items: dict[str, dict[str, list[tuple[RunRecord, str]]]] = {"Trained on": {}, "Predicted on": {}, "Versions": {}}
    for record in results.runs:
        for step, title in STEPS.items():
            manifest = record.files[step]
            device = {"device": manifest.get("device")}
            _add(items[f"{title} on"], record, device | _mapping(manifest, "hardware"))
        read, trained = (_mapping(record.files[name], "versions") for name in ("controls", "trained"))
        _add(items["Versions"], record, read | trained)
    if items["Predicted on"] == items["Trained on"]:
        items = {"Trained and predicted on": items["Trained on"], "Versions": items["Versions"]}
    groups = []
    for title, by_name in items.items():
        rows = []
        for name, pairs in by_name.items():
            here = ([pair for pair in pairs if pair[0].run.framework == framework] for framework in frameworks)
            rows.append(Row(Cell(name), tuple(shared_value(values) for values in here)))
        groups.append(Group(title, tuple(rows)))
    columns = text_columns("Item", *map(framework_title, frameworks))
    return Table("environment-values", "What the runs were trained with.", columns, tuple(groups))


def build_environment(results: StudyResults) -> dict[str, Any]:
    """Whether all runs were made alike, and the versions, devices and origins of each."""
    return {
        "sameness": sameness(results),
        "promise": promise(results),
        "differences": difference_sentences(results),
        "versions": environment_table(results),
        "origins": origin_table(results),
    }


ENVIRONMENT = Section("environment", "Versions and hardware", build_environment, entry="Versions", needs=has_runs)
