"""The embedded study with its first two detectors alone, for tests that count or compare runs."""

from dataclasses import replace

from cascadebench.study.study import Study
from cascadebench.study_loading import load_study


def two_detectors() -> Study:
    """Faster R-CNN FPN and Cascade R-CNN in both frameworks."""
    study = load_study("tiny")
    variants = study.file.variants[:2]
    runs = study.runs[: len(variants) * len(study.file.frameworks)]
    return replace(study, file=study.file.model_copy(update={"variants": variants}), runs=runs)
