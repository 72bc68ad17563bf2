"""One change behind the configuration's back, in one run of a study: the audit names it.

What each framework built for the embedded study's Cascade R-CNN is changed in one place and read back; the other three
runs stay as they are. `pytest -s` prints what was caught and what was missed.
"""

from dataclasses import asdict

import detectron2_mutations
import mmdet_mutations
import pytest
import torch

from adapters.commands import load_adapter
from cascadebench.controls.audit import audit
from cascadebench.controls.definitions import CONTROLS

torch.set_num_threads(1)
MUTATIONS = {"mmdet": mmdet_mutations.MUTATIONS, "detectron2": detectron2_mutations.MUTATIONS}


def readings(framework: str, built) -> list[dict]:
    """Read every control of what was built."""
    return [asdict(control) for control in load_adapter(framework).read_controls(built)]


@pytest.fixture(scope="module")
def clean(study):
    """Readings of all its runs, unchanged."""
    return {
        planned.run.id: readings(planned.run.framework, load_adapter(planned.run.framework).build(planned.run))
        for planned in study.runs
    }


def test_the_unchanged_study_has_no_violation(study, clean):
    assert audit(study, clean).of_kind("violation") == []


@pytest.mark.parametrize("framework", MUTATIONS)
def test_every_change_is_caught_by_name(framework, study, clean, capsys):
    run = next(p.run for p in study.runs if (p.run.framework, p.run.variant.name) == (framework, "cascade_rcnn"))
    caught, missed = [], []
    for control, mutate in MUTATIONS[framework]:
        built = load_adapter(framework).build(run)
        mutate(built)
        found = audit(study, clean | {run.id: readings(framework, built)}).of_kind("violation")
        named = {finding.control for finding in found if run.id in (finding.run, finding.other_run)}
        name = getattr(mutate, "__name__", type(mutate).__name__)
        (caught if control in named else missed).append(f"{control} ({name})")
    with capsys.disabled():
        print(f"\n{framework}: {len(caught)} changes caught, {len(missed)} missed {missed or ''}")
    assert missed == []
    assert len(caught) >= 40


@pytest.mark.parametrize("framework", MUTATIONS)
def test_the_changes_cover_many_controls(framework):
    """At least forty different controls, all of them known."""
    changed = {control for control, _ in MUTATIONS[framework]}
    assert changed <= set(CONTROLS)
    assert len(changed) >= 40
