"""A study and its results as the report reads them: runs, detectors, the rows of its tables."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from cascadebench.controls.findings import Audit
from cascadebench.core.errors import InputError
from cascadebench.detectors.cards import load_framework_card
from cascadebench.examples.records import ExamplesFile
from cascadebench.imported.record import FRAMEWORK, NOT_CONTROLLED, ImportedRun
from cascadebench.report.data.diagnostic_files import Diagnostics
from cascadebench.results.layout import StudyFolder
from cascadebench.results.registered import Registration
from cascadebench.study.run import Run
from cascadebench.study.study import Detector, Study, by_detector
from cascadebench.uncertainty.intervals import Ends
from cascadebench.uncertainty.simulated_coverage import coverage_warning, simulated_as

Rows = dict[tuple[Any, ...], dict[str, Any]]

IMPORTED_TITLE = f"Imported, {NOT_CONTROLLED}"


@dataclass(frozen=True)
class RunRecord:
    """One run of the study, its state in ``status.csv``, and what its folder holds."""

    run: Run | ImportedRun
    label: str
    state: str
    detail: str
    files: dict[str, dict[str, Any]]
    """Content of ``controls.json``, ``cost.json``, ``trained.json``, ``predicted.json`` and ``failed.json`` by stem; a
    missing one is an empty mapping."""
    log: pd.DataFrame
    """Iteration, learning rate and loss, from ``train_log.jsonl``."""
    diagnostics: Diagnostics
    """What else its training and its prediction left."""

    @cached_property
    def id(self) -> str:
        """The run's id; it is a checksum, which is not to be computed for every cell of the page."""
        return self.run.id

    @property
    def title(self) -> str:
        """The run in words: label, framework and seed."""
        return f"{self.label}, {framework_title(self.run.framework)}, seed {self.run.seed}"

    @property
    def reason(self) -> str:
        """Why the run failed."""
        return str(self.files["failed"].get("message") or self.detail or "no reason was recorded")

    @property
    def last_lines(self) -> str:
        """Last lines of a failed run's log; empty if there are none."""
        log = self.files["failed"].get("log", "")
        return "\n".join(map(str, log)) if isinstance(log, list) else str(log)


@dataclass(frozen=True)
class DetectorRecord(Detector):
    """A detector with its runs: a row of the tables."""

    framework_title: str
    runs: tuple[RunRecord, ...]
    is_baseline: bool = False

    @property
    def headline(self) -> str:
        """Label of the test stage that stands for the detector."""
        return self.runs[0].run.variant.headline

    @property
    def diagnostics(self) -> list[Diagnostics]:
        """Diagnostics of its runs."""
        return [record.diagnostics for record in self.runs]

    def by_seed(self, rows: Rows, column: str, *key: Any) -> dict[int, float]:
        """Values of a column in the rows of its runs, by seed; seeds without a value are left out.

        The rows are by run and further keys, from :meth:`StudyResults.rows`; `key` are the values of these.
        """
        values = {record.run.seed: rows.get((record.id, *key), {}).get(column) for record in self.runs}
        return {seed: value for seed, value in values.items() if value is not None and not math.isnan(value)}


@dataclass
class StudyResults:
    """A study and all results of it that exist; what is missing is empty or None."""

    study: Study
    folder: StudyFolder
    tables: dict[str, pd.DataFrame]
    """The study's ``*.csv`` by stem, numbers as floats."""
    runs: tuple[RunRecord, ...]
    lock: dict[str, Any]
    audit: Audit | None
    examples: ExamplesFile | None
    missing: list[str]
    """One sentence for everything that could not be read."""
    imported: tuple[ImportedRun, ...]
    """Imported detections that the study names, in its order."""
    registrations: tuple[Registration, ...] = ()
    """What the study registered, the first first."""

    @property
    def baseline(self) -> str:
        """Label of the variant that the others are compared with."""
        return self.study.file.baseline

    @property
    def failed(self) -> list[RunRecord]:
        """Runs that failed."""
        return [record for record in self.runs if record.state == "failed"]

    @cached_property
    def detectors(self) -> tuple[DetectorRecord, ...]:
        """All detectors: by framework, by backbone, the baseline first, then in the order of the study."""
        records = {(record.label, record.id): record for record in self.runs}
        runs_of = by_detector(self.study.runs)
        frameworks, backbones = list(self.study.file.frameworks), list(self.study.file.backbones)
        return tuple(
            DetectorRecord(
                *(one.label, one.framework, one.backbone, framework_title(one.framework)),
                tuple(records[one.label, planned.run.id] for planned in runs_of[one]),
                one.label == self.baseline,
            )
            for one in sorted(
                runs_of,
                key=lambda one: (
                    frameworks.index(one.framework),
                    backbones.index(one.backbone),
                    one.label != self.baseline,
                ),
            )
        )

    @property
    def several_seeds(self) -> bool:
        """Whether values are means over seeds."""
        return len(self.study.file.seeds) > 1

    @property
    def labels(self) -> list[str]:
        """Labels of the variants, the baseline first."""
        return list(dict.fromkeys(detector.label for detector in self.detectors))

    def with_backbone(self, title: str, backbone: str) -> str:
        """A title, with the backbone after it if the study has several."""
        return f"{title}, {backbone}" if len(self.study.file.backbones) > 1 else title

    def panels(self) -> Iterator[tuple[str, list[DetectorRecord]]]:
        """Detectors that are compared with each other, framework by framework, under a title."""
        titles: dict[str, list[DetectorRecord]] = {}
        for detector in self.detectors:
            titles.setdefault(self.with_backbone(detector.framework_title, detector.backbone), []).append(detector)
        yield from titles.items()

    def panels_with_imported(self) -> Iterator[tuple[str, list[DetectorRecord]]]:
        """The panels of :meth:`panels`, and one more with what was imported."""
        yield from self.panels()
        records = [RunRecord(run, run.file.title, "evaluated", "", {}, pd.DataFrame(), {}) for run in self.imported]
        if records:
            yield IMPORTED_TITLE, [DetectorRecord(one.label, FRAMEWORK, "", IMPORTED_TITLE, (one,)) for one in records]

    def titled_detectors(self) -> Iterator[tuple[str, DetectorRecord]]:
        """Every detector under a title of its own."""
        for title, detectors in self.panels():
            yield from ((f"{title}: {detector.label}", detector) for detector in detectors)

    def rows(self, table: str, *keys: str) -> Rows:
        """Rows of a table by run and by the values of its columns `keys`."""
        return {(row["run"], *(row[key] for key in keys)): row for row in self.tables[table].to_dict("records")}

    @cached_property
    def headline_rows(self) -> Rows:
        """Rows of the headline test stages in ``ap.csv``, by run."""
        rows = self.tables["ap"].to_dict("records")
        return {(row["run"],): row for row in rows if row["headline"].lower() == "true"}

    @cached_property
    def intervals(self) -> Mapping[tuple[str, ...], Ends]:
        """The rows of ``intervals.csv`` that have an interval, by what it is of."""
        words = ("label", "framework", "backbone", "test_stage", "gap", "quantity")
        return {
            tuple(row[word] for word in words): (row["low"], row["high"])
            for row in self.tables["intervals"].to_dict("records")
            if math.isfinite(row["low"]) and math.isfinite(row["high"])
        }

    def interval(self, detector: DetectorRecord, quantity: str, *, test_stage: str = "", gap: str = "") -> Ends | None:
        """Interval of a quantity of ``intervals.csv`` at a test stage, or of a gap; None if there is none.

        ``AP`` stands for what the file calls ``0.50-0.95``.
        """
        quantity = "0.50-0.95" if quantity == "AP" else quantity
        return self.intervals.get((detector.label, *detector.conditions, test_stage, gap, quantity))

    def coverage_warning(self, *, gaps_alone: bool = False) -> str:
        """Where intervals of the study do not hold as they should in simulation, in a sentence; else empty.

        Parameters
        ----------
        gaps_alone : bool
            Leave out the intervals of AP itself.
        """
        rows = self.tables["intervals"].dropna(subset=["low", "high", "images", "classes", "seeds"])
        rows = rows[rows["gap"] != ""] if gaps_alone else rows
        if rows.empty:
            return ""
        numbers = dict.fromkeys(simulated_as(row.quantity, row.gap) for row in rows.itertuples())
        sizes = (int(rows[name].min()) for name in ("images", "classes", "seeds"))
        return coverage_warning(numbers, *sizes)


def framework_title(name: str) -> str:
    """Title of a framework as its card says it; its name if there is no card."""
    try:
        return load_framework_card(name).title
    except InputError:
        return name
