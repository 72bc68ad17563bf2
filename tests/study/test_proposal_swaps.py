"""Which runs a study's proposal swaps are about."""

import pytest
from small_studies import changed_study

from cascadebench.core.errors import InputError
from cascadebench.study.proposal_swaps import ProposalSource
from cascadebench.study_loading import load_study

BASELINE, CASCADE = "Faster R-CNN FPN", "Cascade R-CNN"


@pytest.fixture
def study_with(tmp_path):
    """Load the embedded study with swaps and two seeds."""
    return lambda *swaps: load_study(changed_study(tmp_path, seeds=[0, 1], proposal_swaps=list(swaps)))


def test_a_swap_pairs_runs_of_one_framework_backbone_and_seed(study_with):
    study = study_with({"variant": BASELINE, "proposals_of": CASCADE, "stage": 2})
    runs = {planned.run.id: planned for planned in study.runs}
    assert len(study.swaps) == 4
    for run_id, sources in study.swaps.items():
        (source,) = sources
        one, other = runs[run_id], runs[source.run_id]
        assert (one.label, other.label, source.stage) == (BASELINE, CASCADE, 2)
        assert (one.run.framework, one.run.seed) == (other.run.framework, other.run.seed)
        assert source.name == f"{source.run_id}-stage2"


def test_ground_truth_and_several_stages_stand_side_by_side(study_with):
    swaps = [{"variant": CASCADE, "proposals_of": "ground truth"}]
    swaps += [{"variant": CASCADE, "proposals_of": BASELINE, "stage": stage} for stage in (0, 1)]
    study = study_with(*swaps)
    cascade = next(p.run for p in study.runs if p.label == CASCADE)
    baseline = next(p.run for p in study.runs if p.label == BASELINE)
    names = [source.name for source in study.swaps[cascade.id]]
    assert names == ["ground_truth", baseline.id, f"{baseline.id}-stage1"]
    assert [ProposalSource.parse(name) for name in names] == list(study.swaps[cascade.id])


def test_swaps_train_nothing_anew(study_with):
    assert study_with().run_ids == study_with({"variant": CASCADE, "proposals_of": "ground truth"}).run_ids


@pytest.mark.parametrize(
    ("swaps", "message"),
    [
        (
            [{"variant": "X", "proposals_of": CASCADE}],
            r"proposal_swaps\[0\]\.variant: 'X' is no variant's label; labels: ",
        ),
        (
            [{"variant": CASCADE, "proposals_of": "X"}],
            r"proposal_swaps\[0\]\.proposals_of: 'X' is no variant's label; allowed: ground truth, Cascade R-CNN, ",
        ),
        (
            [{"variant": BASELINE, "proposals_of": CASCADE, "stage": 4}],
            r"proposal_swaps\[0\]\.stage: 4; allowed for 'Cascade R-CNN': 0 to 3$",
        ),
        (
            [{"variant": BASELINE, "proposals_of": "ground truth", "stage": 1}],
            r"proposal_swaps\[0\]\.stage: 1; allowed for 'ground truth': 0$",
        ),
        (
            [{"variant": BASELINE, "proposals_of": CASCADE}] * 2,
            r"proposal_swaps\[1\]: 'Faster R-CNN FPN' on 'Cascade R-CNN' is given twice$",
        ),
        ([{"variant": BASELINE}], r"proposal_swaps\.0\.proposals_of: missing"),
        ([{"variant": BASELINE, "proposals_of": CASCADE, "stage": -1}], r"proposal_swaps\.0\.stage: "),
    ],
)
def test_a_wrong_swap_is_refused_in_one_line(study_with, swaps, message):
    with pytest.raises(InputError, match=message) as caught:
        study_with(*swaps)
    assert "\n" not in str(caught.value)
