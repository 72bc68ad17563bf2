"""Studies that are the embedded one but for something."""

from dataclasses import replace
from pathlib import Path

import yaml

from cascadebench.core.configuration import CONFIG, read_yaml
from cascadebench.study.study import Study
from cascadebench.study_loading import load_study


def two_detectors() -> Study:
    """Faster R-CNN FPN and Cascade R-CNN in both frameworks."""
    study = load_study("tiny")
    variants = study.file.variants[:2]
    runs = study.runs[: len(variants) * len(study.file.frameworks)]
    return replace(study, file=study.file.model_copy(update={"variants": variants}), runs=runs)


def changed_study(folder: Path, name: str = "changed", **changes: object) -> str:
    """Write the embedded study with some keys of its file replaced; returns the file's path."""
    content = read_yaml(CONFIG / "studies" / "tiny.yaml") | {"name": name} | changes
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(path)
