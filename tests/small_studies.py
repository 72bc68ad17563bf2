"""Studies that are the embedded one but for something, and Snakemake on a study of a folder."""

from dataclasses import replace
from pathlib import Path

import commands
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


def write_few_shapes(folder: Path, train_images: int = 12, val_images: int = 6) -> str:
    """Write the card of the embedded dataset with so few images into a folder; returns its path."""
    card = read_yaml(CONFIG / "datasets" / "shapes.yaml") | {"name": "few_shapes"}
    card["data"] |= {"train_images": train_images, "val_images": val_images}
    path = folder / "few_shapes.yaml"
    path.write_text(yaml.safe_dump(card), encoding="utf-8")
    return str(path)


def small_study(folder: Path, name: str = "small", **changes: object) -> Study:
    """Write the embedded study with few images into a folder, some of its keys changed, and load it."""
    folder.mkdir(parents=True, exist_ok=True)
    few = {"dataset": write_few_shapes(folder), "proposal_swaps": []}
    return load_study(changed_study(folder, name, **few | changes))


def of_iterations(iterations: int, step: int) -> dict[str, object]:
    """A protocol's override for trainings so short that they detect nothing with much of a score."""
    schedule = {"iterations": iterations, "batch_size": 2, "base_lr": 0.005, "warmup_iterations": 2, "steps": [step]}
    return {"schedule": schedule, "inference": {"score_threshold": 0.001}}


def snakemake(folder: Path, *arguments: str, study: str = "small", cores: int = 1, expected: int = 0) -> str:
    """Run Snakemake on a study of a folder, which must end with a code; returns what it printed."""
    done = commands.snakemake(folder / f"{study}.yaml", folder, *arguments, cores=cores)
    text = done.stdout + done.stderr
    assert done.returncode == expected, text[-6000:]
    return text
