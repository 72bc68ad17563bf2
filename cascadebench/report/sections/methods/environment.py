"""Dataset, versions and hardware: what runs read, with what, when and from which code they were made, and if alike."""

from collections.abc import Iterator
from typing import Any

from cascadebench.report.data.study_results import RunRecord, StudyResults, framework_title
from cascadebench.report.parts.cells import (
    ABSENT,
    Cell,
    Column,
    Group,
    Row,
    Table,
    listing,
    note,
    number,
    plain,
    text_columns,
)  # fmt: skip
from cascadebench.report.parts.detector_rows import run_groups, shared_value
from cascadebench.report.parts.section import Section, has_runs

STEPS = {"trained": "Trained", "predicted": "Predicted"}
"""Manifests of a run, and what they say was done."""
PACKAGES = "the versions of all installed packages"
RECORDED = {"sha256": "SHA-256", "sizes": "sizes"}
"""What ``lock.json`` says is recorded of every picture, in words."""
SHOWN = 12
"""Differences of one kind that are told one by one."""


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
            ("pictures_sha256", f"{RECORDED.get(split.get('pictures'), 'files')} of every picture"),
            ("image_ids_sha256", "ids of images"),
            ("annotations_sha256", "boxes, categories, areas and crowd marks, in any order"),
        ):
            rows.append(Row(Cell(f"{name}: {words}"), (Cell(str(split.get(key) or ABSENT)),)))
    weights = {record.run.backbone.name: record.run.backbone.weights for record in results.runs}
    for name, file in weights.items():
        if file:
            rows.append(Row(Cell(f"initial weights of {name}"), (Cell(file.sha256 or ABSENT),)))
    columns = (Column("File", kind="text"), Column("SHA-256", kind="code"))
    caption = "Checksums of what the runs read."
    return Table("file-checksums", caption, columns, (Group("", tuple(rows)),))


def pictures_sentence(results: StudyResults) -> str:
    """Whether the pictures that were read are those that the dataset was prepared with."""
    told = [record.files[step].get("pictures") for record in results.runs for step in STEPS if record.files[step]]
    parts = []
    if "sha256" in told:
        parts.append(f"{told.count('sha256')} compared every picture that they read with its recorded SHA-256")
    if "sizes" in told:
        parts.append(f"{told.count('sizes')} compared the size of its file alone, which misses one of equal size")
    if rest := len(told) - told.count("sha256") - told.count("sizes"):
        parts.append(f"of {rest} it was not recorded")
    return f"Of {len(told)} trainings and predictions {listing(parts)}." if told else ""


def build_dataset(results: StudyResults) -> dict[str, Any]:
    """What the dataset is, its counts, and the checksums of the files that runs read."""
    return {
        "dataset": results.study.dataset,
        "digest": results.lock.get("digest"),
        "splits": dataset_table(results),
        "checksums": checksum_table(results),
        "pictures": pictures_sentence(results),
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


def _alike(record: RunRecord, step: str) -> dict[str, dict[str, str]]:
    """What should be equal in all runs, as the manifest of a step says it: by kind, name and value."""
    manifest = record.files[step]
    settings = {f"torch: {name.replace('_', ' ')}": value for name, value in _words(manifest, "arithmetic").items()}
    return {
        PACKAGES: _words(manifest, "packages"),
        "the versions of Python and of what the frameworks import": _words(manifest, "versions"),
        "the digests of the lock files": _words(manifest, "locks"),
        "processor, system and, on a GPU, its driver": _words(manifest, "hardware"),
        "the device": {"device": _text(manifest, "device")} if _text(manifest, "device") else {},
        "torch's switches and threads": settings,
        "the commit of CascadeBench": {"commit of CascadeBench": commit(manifest)} if commit(manifest) else {},
    }


def _steps(results: StudyResults) -> list[tuple[str, dict[str, dict[str, str]]]]:
    """Every training and prediction that there is: id of its run, and what should be equal."""
    return [(record.id, _alike(record, step)) for record in results.runs for step in STEPS if record.files[step]]


def _differing(steps: list[tuple[str, dict[str, dict[str, str]]]], kind: str) -> dict[str, str]:
    """What differs of a kind: name, and in how many runs it has which value."""
    recorded = [(run, told[kind]) for run, told in steps if told[kind]]
    runs_of: dict[str, dict[str, set[str]]] = {}
    for run, values in recorded:
        # Of two environments one may lack a package; frameworks name versions of their own.
        names = dict.fromkeys(name for _, other in recorded for name in other) if kind == PACKAGES else values
        for name in names:
            runs_of.setdefault(name, {}).setdefault(values.get(name, "not installed"), set()).add(run)
    return {
        name: "; ".join(
            f"{value} in {len(runs)} {'run' if len(runs) == 1 else 'runs'}" for value, runs in by_value.items()
        )
        for name, by_value in runs_of.items()
        if len(by_value) > 1
    }


def difference_sentences(results: StudyResults) -> list[str]:
    """What trainings and predictions were made with that differs; of many packages the first."""
    steps, found = _steps(results), {}
    for kind in steps[0][1] if steps else ():
        differing = _differing(steps, kind)
        found |= dict(list(differing.items())[:SHOWN])
        if len(differing) > SHOWN:
            found[f"{len(differing) - SHOWN} more"] = "trained.json and predicted.json of the runs list them"
    return [f"{name}: {words}" for name, words in found.items()]


def sameness(results: StudyResults) -> str:
    """When the runs were made, what was compared between them, and whether it is equal."""
    steps = _steps(results)
    if not steps:
        return ""
    manifests = [record.files[step] for record in results.runs for step in STEPS if record.files[step]]
    times = sorted(filter(None, map(_time, manifests)))
    span = f"from {times[0]} to {times[-1]}" if len(set(times)) > 1 else f"at {times[0]}" if times else ""
    when = f"Made {span} UTC" if times else "When the runs were made was not recorded"
    if 0 < len(times) < len(manifests):
        when += f", as far as it was recorded ({len(times)} of {len(manifests)} steps)"
    kinds = {kind: [told[kind] for _, told in steps] for kind in steps[0][1]}
    unrecorded = [kind for kind, values in kinds.items() if not all(values)]
    differing = [kind for kind in kinds if _differing(steps, kind)]
    equal = [kind for kind in kinds if kind not in unrecorded and kind not in differing]
    if PACKAGES in equal:
        equal[equal.index(PACKAGES)] = f"{PACKAGES} ({len(kinds[PACKAGES][0])})"
    sentences = [f"{when}."]
    if equal:
        sentences.append(f"Compared and equal in all {len(steps)} trainings and predictions: {listing(equal)}.")
    if unrecorded:
        sentences.append(f"Not recorded in every one: {listing(unrecorded)}.")
    if differing:
        sentences.append("Not all runs were made alike:")
    return " ".join(sentences)


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
    titles = ("Trained on", "Predicted on", "Versions", "Torch")
    items: dict[str, dict[str, list[tuple[RunRecord, str]]]] = {title: {} for title in titles}
    for record in results.runs:
        for step, title in STEPS.items():
            manifest = record.files[step]
            device = {"device": manifest.get("device")}
            _add(items[f"{title} on"], record, device | _mapping(manifest, "hardware"))
        read, trained = (_mapping(record.files[name], "versions") for name in ("controls", "trained"))
        _add(items["Versions"], record, read | trained)
        manifest = record.files["trained"]
        packages = len(_mapping(manifest, "packages"))
        listed = {"all installed packages": f"{packages}, digest {_text(manifest, 'packages_sha256')[:12]}"}
        _add(items["Versions"], record, listed if packages else {})
        _add(items["Versions"], record, {name: digest[:12] for name, digest in _words(manifest, "locks").items()})
        _add(items["Torch"], record, _mapping(manifest, "arithmetic"))
    if items["Predicted on"] == items["Trained on"]:
        items = {"Trained and predicted on": items.pop("Predicted on"), **items}
        del items["Trained on"]
    groups = []
    for title, by_name in items.items():
        rows = []
        if not by_name:
            continue
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
