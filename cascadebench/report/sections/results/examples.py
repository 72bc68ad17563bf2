"""Examples: the same image with its objects and with every detector's detections, side by side."""

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascadebench.core.errors import InputError
from cascadebench.core.files import inside
from cascadebench.examples.records import Box, Detected, ExampleImage, ExamplesFile
from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts.cells import listing
from cascadebench.report.parts.section import Section, has_runs

LARGEST_THUMBNAIL = 200_000
"""Bytes; the page embeds no larger picture."""


def _example(results: StudyResults, examples: ExamplesFile, image: ExampleImage) -> dict[str, Any]:
    """An image: under a title for every framework a row of views, the ground truth first."""
    by_run = {detected.run: detected for detected in image.detected}
    rows = []
    for title, detectors in results.panels():
        views = [
            _view(image, detector.label, f"{detector.label}, {title}", by_run[record.run.id])
            for detector in detectors
            for record in detector.runs
            if record.run.id in by_run
        ]
        if views:
            rows.append((title, [_truth(image), *views]))
    picture = _picture(results.folder.path, image.thumbnail)
    return {
        "width": image.width,
        "height": image.height,
        "text_size": max(image.width, image.height) / 17,  # of the boxes' text, in pixels of the image
        "caption": _caption(examples, image) + ("" if picture else " The picture is not there any more: boxes alone."),
        "picture": picture,
        "rows": rows,
    }


def _caption(file: ExamplesFile, image: ExampleImage) -> str:
    """Why the image is here."""
    name = f"Image {image.id}, {image.file_name}"
    if file.compared is None:
        return f"{name}: at an evenly spaced position."
    by = f"{abs(image.difference)} {'object' if abs(image.difference) == 1 else 'objects'}"
    direction = (
        "as many objects as" if not image.difference else f"{by} {'more' if image.difference > 0 else 'fewer'} than"
    )
    reason = {
        "more found": "among the largest differences for it",
        "fewer found": "among the largest differences against it",
        "evenly spaced": "chosen for its evenly spaced position",
    }[image.reason]
    return f"{name}: {file.compared} finds {direction} {file.baseline}; {reason}."


def _counted(categories: Sequence[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(categories).items())


def _box(kind: str, box: Box, text: str) -> dict[str, Any]:
    """A box over a picture; its kind is object, matched, unmatched or missed, which the style sheet gives looks."""
    return {"kind": kind, "x": box.x, "y": box.y, "w": box.w, "h": box.h, "text": text}


def _truth(image: ExampleImage) -> dict[str, Any]:
    """A picture with its objects: what it shows, in few words and in full."""
    boxes = [_box("object", one, one.category) for one in image.objects]
    count = f"{len(boxes)} {'object' if len(boxes) == 1 else 'objects'}"
    what = f": {_counted([one.category for one in image.objects])}" if boxes else ""
    full = f"Ground truth of image {image.id}, {count}{what}."
    return {"title": "Ground truth", "note": count, "alternative": full, "boxes": boxes}


def _view(image: ExampleImage, label: str, title: str, detected: Detected) -> dict[str, Any]:
    """What one detector makes of the image: its detections, and the objects that it missed."""
    missed = [image.objects[row] for row in detected.missed if row < len(image.objects)]
    matched = [one for one in detected.detections if one.matched]
    others = [one for one in detected.detections if not one.matched]
    # The best are drawn last, over the others.
    boxes = [_box("missed", one, "") for one in missed] + [
        _box("matched" if one.matched else "unmatched", one, f"{one.category} {one.score:.2f}")
        for one in reversed(detected.detections)
    ]
    parts = [f"{title}, image {image.id}: {len(matched)} of {len(image.objects)} objects found"]
    for words, these in (("found", matched), ("detected without an object", others), ("missed", missed)):
        if these:
            parts.append(f"{words}: {_counted([one.category for one in these])}")
    note = f"{len(matched)} of {len(image.objects)} found" + (f", {len(others)} unmatched" if others else "")
    return {"title": label, "note": note, "alternative": "; ".join(parts) + ".", "boxes": boxes}


def _picture(folder: Path, thumbnail: str | None) -> str:
    """Embed a thumbnail of the study's folder; empty if it is no small JPEG there."""
    if thumbnail is None:
        return ""
    try:
        path = inside(folder, thumbnail, "examples.json: thumbnail")
        content = path.read_bytes()
    except (InputError, OSError):
        return ""
    if not content.startswith(b"\xff\xd8\xff") or len(content) > LARGEST_THUMBNAIL:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


def rule_sentence(results: StudyResults) -> str:
    """How the images were chosen."""
    file = results.examples
    count = Counter(image.reason for image in file.images)
    spaced = f"{count['evenly spaced']} at evenly spaced positions among all {file.images_in_all} validation images"
    if file.compared is None:
        return f"Chosen by rule: {spaced}."
    frameworks = f", over {len(file.compared_runs)} frameworks together" if len(file.compared_runs) > 1 else ""
    return (
        f"Chosen by rule, not by eye: {count['more found']} on which {file.compared} finds most objects more than "
        f"{file.baseline}{frameworks}, {count['fewer found']} on which it finds most objects fewer, and {spaced}."
    )


def holes(results: StudyResults) -> str:
    """Which detectors have no examples, and runs that the study does not have; empty if there are none."""
    shown = {one.run for image in results.examples.images for one in image.detected}
    lacking = [
        f"{detector.label} ({title.removesuffix(f': {detector.label}')})"
        for title, detector in results.titled_detectors()
        if not any(record.run.id in shown for record in detector.runs)
    ]
    sentences = [f"No examples of: {listing(lacking)}."] if lacking else []
    strange = shown - set(results.study.run_ids)
    if strange:
        sentences.append(
            f"examples.json has {len(strange)} runs that this study does not have; “cascadebench examples "
            f"{results.study.name}” writes it anew."
        )
    return " ".join(sentences)


def build(results: StudyResults) -> dict[str, Any]:
    """Every image of ``examples.json``, how they were chosen, and what is missing among them."""
    examples = results.examples
    if not examples:
        return {"examples": []}
    return {
        "examples": [_example(results, examples, image) for image in examples.images],
        "file": examples,
        "rule": rule_sentence(results),
        "holes": holes(results),
    }


SECTION = Section("examples", "Examples", build, needs=has_runs)
