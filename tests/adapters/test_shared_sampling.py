"""One sampler for both frameworks: what it draws, from which seeds, and that both train on it."""

import numpy as np
import pytest
import torch
from head_sides import DETECTORS, TRUTH, crowd
from trainings import changed, run_of

from adapters.training.seeding import seed_everything
from adapters.training.shared_sampling import FIRST_STAGE, RPN, ImageSampling, draw
from cascadebench.determinism.training_order import sampling_seed


def candidates(positives: int, negatives: int, ignored: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Positives and negatives of an image, bool [N] each, in a mixed order."""
    kinds = np.repeat([1, 0, -1], [positives, negatives, ignored])
    labels = torch.from_numpy(np.random.default_rng(0).permutation(kinds))
    return labels == 1, labels == 0


# What is drawn


@pytest.mark.parametrize(
    ("positives", "negatives", "number", "share", "drawn"),
    [
        (40, 300, 64, 0.25, (16, 48)),
        (10, 300, 64, 0.25, (10, 54)),
        (10, 30, 64, 0.25, (10, 30)),
        (40, 0, 64, 0.25, (16, 0)),
        (0, 300, 64, 0.25, (0, 64)),
        (100, 300, 64, 1.0, (64, 0)),
        (10, 300, 7, 0.5, (3, 4)),
        (0, 0, 64, 0.5, (0, 0)),
        (200, 200_000, 256, 0.5, (128, 128)),
    ],
)
def test_quotas(positives, negatives, number, share, drawn):
    both = candidates(positives, negatives)
    chosen = draw(*both, number, share, seed=1)
    assert tuple(map(len, chosen)) == drawn
    for places, kind in zip(chosen, both, strict=True):
        assert places.dtype == torch.int64
        assert bool(kind[places].all())
        assert places.unique().tolist() == places.tolist()  # rising, none twice


def test_the_seed_decides():
    positive, negative = candidates(40, 3000)
    first, again, other = (torch.cat(draw(positive, negative, 64, 0.25, seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    seed_everything(5)
    assert torch.equal(torch.cat(draw(positive, negative, 64, 0.25, 1)), first)


def test_every_candidate_is_as_likely():
    positive, negative = candidates(12, 30, 0)
    counts = torch.zeros(42)
    for seed in range(4000):
        counts[torch.cat(draw(positive, negative, 10, 0.4, seed))] += 1
    for kind, share in ((positive, 4 / 12), (negative, 6 / 30)):
        deviation = (4000 * share * (1 - share)) ** 0.5
        assert ((counts[kind] - 4000 * share).abs() < 4.5 * deviation).all()


def test_numpy_draws_as_it_did():
    """Every number of a study follows from these; NumPy does not promise them to later versions."""
    positive = torch.arange(100_000) % 1000 == 0
    positives, negatives = draw(positive, ~positive, 12, 0.25, sampling_seed(0, 1, 2, RPN))
    assert positives.tolist() == [88000, 94000, 99000]
    assert negatives.tolist() == [5567, 17934, 23448, 41542, 41662, 54255, 55074, 76946, 99157]


# From which seeds


class Sampler:
    """What notes the seed that every image is sampled by."""

    image_seed = 0

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def sample(self, image: str) -> str:
        """Note."""
        self.seeds.append(self.image_seed)
        return image


def test_every_image_of_a_step_has_its_seed():
    first, second, sampling = Sampler(), Sampler(), ImageSampling(seed=3, first_column=4)
    sampling.govern(first, "sample", RPN)
    sampling.govern(second, "sample", FIRST_STAGE)
    for step in (7, 8):
        sampling.begin(step)
        for image in "ab":
            assert first.sample(image) == image
        second.sample("a")
    assert first.seeds == [sampling_seed(3, step, column, RPN) for step in (7, 8) for column in (4, 5)]
    assert second.seeds == [sampling_seed(3, step, 4, FIRST_STAGE) for step in (7, 8)]


# That both frameworks train on it


def anchors_drawn(framework: str, model: torch.nn.Module, labels: torch.Tensor) -> list[list[int]]:
    """Anchors, positive and negative, that a framework's RPN samples by their labels, int64 [N], 1, 0 or -1."""
    if framework == "detectron2":
        drawn = model.proposal_generator._subsample_labels(labels.to(torch.int8))
        return [(drawn == value).nonzero()[:, 0].tolist() for value in (1, 0)]
    from mmdet.models.task_modules.assigners import AssignResult
    from mmengine.structures import InstanceData

    truth = InstanceData(bboxes=TRUTH[:1], labels=torch.zeros(1, dtype=torch.int64))
    matched = AssignResult(1, labels.clone(), torch.zeros(len(labels)), torch.zeros_like(labels))
    drawn = model.rpn_head.sampler.sample(matched, InstanceData(priors=torch.zeros(len(labels), 4)), truth)
    return [drawn.pos_inds.tolist(), drawn.neg_inds.tolist()]


def test_equal_anchors_from_equal_candidates():
    positive, negative = candidates(70, 4000)
    labels = positive.long() - (~positive & ~negative).long()
    drawn = [anchors_drawn(framework, detector_of(framework).model, labels) for framework in DETECTORS]
    assert drawn[0] == drawn[1] == [places.tolist() for places in draw(positive, negative, 64, 0.5, 0)]


def test_mmdetections_bound_on_negatives_holds():
    model = detector_of("mmdet").model
    model.rpn_head.sampler.neg_pos_ub = 2
    labels = torch.cat([torch.ones(10), torch.zeros(4000)]).long()
    assert list(map(len, anchors_drawn("mmdet", model, labels))) == [10, 20]


def detector_of(framework: str, rules: str = "aligned", **heads):
    """Decoupled R-CNN, which has samplers of all kinds; some values of its heads changed."""
    return DETECTORS[framework](
        changed(run_of(framework, "decoupled_rcnn", regression_ground_truth=True), rules, heads=heads)
    )


@pytest.mark.parametrize("joins", [True, False])
def test_equal_rois_from_equal_candidates(joins):
    """Both tasks of Decoupled R-CNN, with ground truth that joins before the proposals, behind them, or not at all."""
    proposals = crowd(90, 200)[np.random.default_rng(0).permutation(290)]
    rois = []
    for framework in DETECTORS:
        calls = detector_of(framework, add_ground_truth=joins).train(proposals).calls
        rois.append([rows(calls[task, 0].rois) for task in ("classification", "regression")])
    assert rois[0] == rois[1]
    assert list(map(len, rois[0])) == [2 * 64, 2 * 64]


def rows(rois: torch.Tensor) -> list[list[float]]:
    """RoIs [R, 5] in an order that does not depend on the framework's."""
    return sorted(rois.tolist())


def test_own_rules_draw_by_themselves_and_by_the_image(framework):
    """The framework's own sampler, from torch's random state, which is that of the image and of no other."""
    labels = torch.cat([torch.ones(70), torch.zeros(4000)]).long()
    positive, negative = labels == 1, labels == 0
    model = detector_of(framework, rules=framework).model
    sampling = ImageSampling(seed=3, first_column=0)
    owner = model.rpn_head.sampler if framework == "mmdet" else model.proposal_generator
    sampling.govern(owner, "sample" if framework == "mmdet" else "_subsample_labels", RPN)
    drawn = []
    for _ in range(2):
        torch.rand(5)
        sampling.begin(7)
        drawn.append([anchors_drawn(framework, model, labels) for _ in range(2)])
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]
    assert drawn[0][0] != [places.tolist() for places in draw(positive, negative, 64, 0.5, sampling_seed(3, 7, 0, RPN))]


def test_own_rules_leave_no_shared_sampler():
    heads = detector_of("detectron2", rules="detectron2").model.roi_heads
    assert heads.image_seed is None and heads.regression_sampler.image_seed is None
    heads = detector_of("mmdet", rules="mmdet").heads
    samplers = [*heads.bbox_sampler, heads.regression_sampler]
    assert not any(hasattr(sampler, "image_seed") for sampler in samplers)
