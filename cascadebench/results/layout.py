"""Where everything below ``results/`` and ``reports/`` lies: no other module spells these names.

The class of a folder knows its files' names, a folder knows their paths::

    RunFolder.ap                              "ap.parquet"
    ResultsFolder(results).run(run_id).ap     results/runs/<run_id>/ap.parquet

What Snakemake alone writes (logs, benchmarks, ``audit.passed``) stands in its rules.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import overload

RESULTS = Path("results")
REPORTS = Path("reports")


class FileName:
    """A file of a folder: on the folder's class its name, on a folder its path."""

    def __init__(self, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, folder: None, owner: type) -> str: ...
    @overload
    def __get__(self, folder: "Folder", owner: type) -> Path: ...
    def __get__(self, folder: "Folder | None", owner: type) -> str | Path:
        return self.name if folder is None else folder.path / self.name


@dataclass(frozen=True)
class Folder:
    """A folder that need not exist."""

    path: Path


class DetectionFolder(Folder):
    """A folder with detections and what the evaluator made of them, such as ``runs/<run>/proposals_of/<name>/``."""

    detections = FileName("detections.parquet")
    ap = FileName("ap.parquet")


class CheckpointFolder(Folder):
    """``runs/<run>/checkpoints/``."""

    last = FileName("last.pt")
    previous = FileName("previous.pt")
    attempts = FileName("attempts.jsonl")


class RunFolder(DetectionFolder):
    """``runs/<run>/``, with the files in the order in which they are made."""

    run = FileName("run.yaml")
    controls = FileName("controls.json")
    cost = FileName("cost.json")
    witness = FileName("witness.json")
    train_log = FileName("train_log.jsonl")
    stage_log = FileName("stage_statistics.jsonl")
    stage_statistics = FileName("stage_statistics.parquet")
    tensorboard = FileName("tensorboard")
    checkpoints = FileName("checkpoints")
    last_checkpoint = FileName(f"checkpoints/{CheckpointFolder.last}")
    attempts = FileName(f"checkpoints/{CheckpointFolder.attempts}")
    trained = FileName("trained.json")
    proposals = FileName("proposals.parquet")
    localization = FileName("localization.parquet")
    recall = FileName("recall.parquet")
    nms_survivors = FileName("nms_survivors.parquet")
    quality_detections = FileName("quality_detections.parquet")
    predicted = FileName("predicted.json")
    error_kinds = FileName("error_kinds.parquet")
    score_quality = FileName("score_quality.parquet")
    quality_ap = FileName("quality_ap.parquet")
    proposals_of = FileName("proposals_of")
    failed = FileName("failed.json")

    def beside(self, run_id: str) -> "RunFolder":
        """Folder of another run of the same results."""
        return RunFolder(self.path.parent / run_id)

    def proposal_swap(self, name: str) -> DetectionFolder:
        """Folder of the detections on other proposals; `name` says on which."""
        return DetectionFolder(self.proposals_of / name)

    def proposal_swaps(self) -> list[DetectionFolder]:
        """All such folders that exist, by name."""
        return [DetectionFolder(path) for path in sorted(self.proposals_of.glob("*"))]


class DatasetFolder(Folder):
    """``datasets/<dataset>/``: a prepared dataset."""

    lock = FileName("lock.json")
    train = FileName("train.json")
    val = FileName("val.json")
    images = FileName("images")

    pictures_read = FileName(".pictures_read.json")
    """Checksums that ``prepare`` has computed, with the times of the files: of use on this machine alone."""

    def split(self, split: str) -> Path:
        """Annotations of ``train`` or ``val``."""
        return self.path / f"{split}.json"

    def pictures(self, split: str) -> Path:
        """What is recorded of the pictures of ``train`` or ``val``."""
        return self.path / f"{split}_pictures.json"


class ImportedFolder(DetectionFolder):
    """``imported/<name>/``: detections of a model from outside."""

    record = FileName("imported.json")


class StudyFolder(Folder):
    """``studies/<study>/``: registrations, tables, audit and examples."""

    registered = FileName("registered.json")
    audit = FileName("audit.json")
    audit_table = FileName("audit.csv")
    status = FileName("status.csv")
    ap = FileName("ap.csv")
    ap_per_class = FileName("ap_per_class.csv")
    ap_masks = FileName("ap_masks.csv")
    gaps = FileName("gaps.csv")
    cost = FileName("cost.csv")
    intervals = FileName("intervals.csv")
    verdicts = FileName("verdicts.csv")
    claim_terms = FileName("claim_terms.csv")
    claim_samples = FileName("claim_samples.csv")
    examples = FileName("examples.json")
    thumbnails = FileName("examples")

    def table(self, name: str) -> Path:
        """A table by its name, such as ``gaps``."""
        return self.path / f"{name}.csv"


class ResultsFolder(Folder):
    """``results/``, of this project or of somebody else."""

    all_runs = FileName("runs")
    all_imported = FileName("imported")

    def run(self, run_id: str) -> RunFolder:
        """Folder of a run."""
        return RunFolder(self.all_runs / run_id)

    def runs(self) -> list[RunFolder]:
        """Folders of all runs that are written out, by id."""
        return [RunFolder(path.parent) for path in sorted(self.all_runs.glob(f"*/{RunFolder.run}"))]

    def dataset(self, name: str) -> DatasetFolder:
        """Folder of a prepared dataset."""
        return DatasetFolder(self.path / "datasets" / name)

    def imported(self, name: str) -> ImportedFolder:
        """Folder of imported detections."""
        return ImportedFolder(self.all_imported / name)

    def study(self, name: str) -> StudyFolder:
        """Folder of a study."""
        return StudyFolder(self.path / "studies" / name)

    def registered_studies(self) -> list[StudyFolder]:
        """Folders of the studies that are registered, by name."""
        return [StudyFolder(path.parent) for path in sorted(self.path.glob(f"studies/*/{StudyFolder.registered}"))]


def report_of(study: str) -> Path:
    """Report of a study."""
    return REPORTS / f"{study}.html"


TRAINING_FILES = (
    RunFolder.train_log, RunFolder.stage_log, RunFolder.stage_statistics, RunFolder.last_checkpoint,
)  # fmt: skip
"""What a training leaves beside its manifest; the checkpoint, from which another would go on, is copied last."""
PREDICTION_FILES = (
    RunFolder.detections, RunFolder.proposals, RunFolder.localization, RunFolder.recall, RunFolder.nms_survivors,
    RunFolder.quality_detections,
)  # fmt: skip
"""What a prediction leaves beside its manifest, some of them only with diagnostics or several stages."""
EVALUATION_FILES = (RunFolder.ap, RunFolder.error_kinds, RunFolder.score_quality, RunFolder.quality_ap)
"""What evaluation and diagnosis make of a prediction; the last only with several stages."""
