"""Changes that no control names: the witness of the run differs, and the audit says where.

One run of the embedded study is changed in one place; the others stay as they are. `pytest -s` prints what was missed.
"""

import importlib
from dataclasses import asdict, replace

import pytest
import torch
from confounders import BOTH, FSCASCADE, OF_ONE_FRAMEWORK, Parts

from adapters.witness.witnessing import as_entries, witness
from cascadebench.controls.audit import audit
from cascadebench.study_loading import load_study

torch.set_num_threads(1)
CHANGES = [
    *(("cascade_rcnn", framework, change) for framework in OF_ONE_FRAMEWORK for change in BOTH),
    *(("fscascade", framework, change) for framework in OF_ONE_FRAMEWORK for change in FSCASCADE),
    *(("cascade_rcnn", framework, change) for framework, changes in OF_ONE_FRAMEWORK.items() for change in changes),
]


def adapter(framework: str):
    """Import an adapter."""
    return importlib.import_module(f"adapters.{framework}.adapter").ADAPTER


def inspected(run, change=None) -> tuple[list[dict], list[dict]]:
    """Controls and witness of a run, changed or not."""
    built = adapter(run.framework).build(run)
    if change is not None:
        change(Parts(run.framework, built))
    controls = adapter(run.framework).read_controls(built)
    return [asdict(control) for control in controls], as_entries(witness(adapter(run.framework), built, controls))


@pytest.fixture(scope="module")
def study():
    """The embedded study's first three detectors."""
    study = load_study("tiny")
    variants = study.file.variants[:3]
    return replace(study, file=study.file.model_copy(update={"variants": variants}),
                   runs=study.runs[: len(variants) * len(study.file.frameworks)])  # fmt: skip


@pytest.fixture(scope="module")
def clean(study):
    """What all its runs read and do, unchanged."""
    return {planned.run.id: inspected(planned.run) for planned in study.runs}


def violations(study, inspections):
    """Audit a study from what its runs read and did."""
    parts = ({run: both[number] for run, both in inspections.items()} for number in (0, 1))
    return audit(study, *parts).of_kind("violation")


def test_the_unchanged_study_has_no_violation(study, clean):
    assert violations(study, clean) == []


@pytest.mark.parametrize(("variant", "framework", "change"), CHANGES,
                         ids=[f"{change.__name__}-{framework}" for _, framework, change in CHANGES])  # fmt: skip
def test_a_change_that_no_control_names_is_caught(study, clean, variant, framework, change):
    run = next(p.run for p in study.runs if (p.run.framework, p.run.variant.name) == (framework, variant))
    found = violations(study, clean | {run.id: inspected(run, change)})
    assert any(run.id in (finding.run, finding.other_run) for finding in found)
