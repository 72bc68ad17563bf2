"""How trainings of a study scatter, and what the interval of a number takes from it."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_results import misses, study_of, write_run, write_truth
from scipy import stats

from cascadebench.uncertainty.curves import Measured, signed_sum
from cascadebench.uncertainty.gaps import Curve
from cascadebench.uncertainty.intervals import interval, over_seeds
from cascadebench.uncertainty.resampled_study import ResampledStudy
from cascadebench.uncertainty.seed_scatter import PRIOR_FREEDOM, SeedScatter, seed_scatter, stages_and_gaps

RESAMPLES = 1999


def trainings(random, seeds, scatter, alone, resamples=RESAMPLES, shape=()):
    """A number by seed: its trainings scatter, and the images change each of them alone and all of them together."""
    together = 0.003 * random.standard_normal((resamples, *shape))
    found = {}
    for seed in range(seeds):
        value = 0.4 + np.hypot(scatter, alone) * random.standard_normal(shape)
        found[seed] = Measured(value, value + together + alone * random.standard_normal((resamples, *shape)))
    return found


def test_the_ratio_is_the_variance_between_seeds_over_what_the_images_explain_of_it():
    random = np.random.default_rng(0)
    detectors = [[trainings(random, 3, 0.004, 0.002, 400, (10,))] for _ in range(40)]
    found = seed_scatter(detectors)
    assert found.ratio == pytest.approx((0.004**2 + 0.002**2) / 0.002**2, rel=0.1)
    assert found.freedom == 80
    assert seed_scatter(reversed(detectors)) == found, "to the last digit"


def test_detectors_count_by_their_seeds_and_one_seed_says_nothing():
    random = np.random.default_rng(1)
    two, five, one = (trainings(random, seeds, 0.004, 0.002) for seeds in (2, 5, 1))
    alone = [seed_scatter([[numbers]]).ratio for numbers in (two, five)]
    both = seed_scatter([[two], [one], [five]])
    assert both.ratio == pytest.approx((alone[0] + 4 * alone[1]) / 5)
    assert both.freedom == 5
    assert seed_scatter([[one]]) is None
    assert seed_scatter([]) is None


def test_numbers_that_the_images_do_not_change_say_nothing():
    same = {seed: Measured(np.float64(0.4 + seed / 100), np.full(50, 0.4 + seed / 100)) for seed in range(3)}
    assert seed_scatter([[same]]) is None
    varied = trainings(np.random.default_rng(2), 3, 0.004, 0.002)
    assert seed_scatter([[same, varied]]) == seed_scatter([[varied]])


def test_a_resample_without_ground_truth_is_left_out():
    varied = trainings(np.random.default_rng(2), 3, 0.004, 0.002)
    holed = {seed: Measured(one.point, np.append(one.samples, np.nan)) for seed, one in varied.items()}
    assert seed_scatter([[holed]]).ratio == pytest.approx(seed_scatter([[varied]]).ratio)
    pooled = over_seeds(holed, 0, scatter=SeedScatter(2.0, 12))
    assert np.isnan(pooled.samples).nonzero()[0].tolist() == [RESAMPLES]


def test_gaps_between_test_stages_count_too():
    random = np.random.default_rng(3)
    first, second = (trainings(random, 2, 0.004, 0.002, shape=(10,)) for _ in "ab")
    stages = stages_and_gaps([first, second])
    assert [list(one) for one in stages] == [[0, 1]] * 3
    assert stages[2][1].samples == pytest.approx(second[1].samples - first[1].samples)


@pytest.mark.parametrize(
    ("freedom", "seeds", "prior"), [(12, 3, PRIOR_FREEDOM), (4, 3, 2), (2, 3, 0), (2, 2, 1), (8, 5, 4), (40, 5, 4)]
)
def test_the_own_seeds_are_not_counted_twice(freedom, seeds, prior):
    """Two detectors of three seeds have four degrees of freedom, of which a gap between them has two itself."""
    assert SeedScatter(1.0, freedom).prior_freedom(seeds) == prior


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_part_of_the_seeds_is_student_t_of_both_degrees_of_freedom(seeds):
    """Nothing of it is left out where the images explain next to nothing of the scatter."""
    random, alone = np.random.default_rng(seeds), 0.0001
    numbers, ratio = trainings(random, seeds, 0.004, alone), 1600.0
    pooled = over_seeds(numbers, 7, scatter=SeedScatter(ratio, 40))
    values = np.array([one.point for one in numbers.values()])
    pooled_variance = (4 * ratio * alone**2 + (seeds - 1) * values.var(ddof=1)) / (seeds + 3)
    part = (pooled.samples - pooled.over_images) / np.sqrt(pooled_variance / seeds)
    assert stats.kstest(part, stats.t(seeds + 3).cdf).pvalue > 0.01
    assert abs(stats.spearmanr(part, pooled.over_images).statistic) < 0.06, "apart from the images"


def test_what_the_images_explain_is_counted_once():
    """Trainings that differ by what they find on the images alone: their mean varies by that and nothing else."""
    random, widths = np.random.default_rng(4), []
    for scatter in (SeedScatter(1.0, 400), None):
        found = [over_seeds(trainings(random, 5, 0.0, 0.004), number, scatter=scatter) for number in range(40)]
        widths.append(np.mean([one.samples.std() / one.over_images.std() for one in found]))
    assert 1.0 < widths[0] < 1.2 < widths[1]


def test_samples_of_a_difference_are_differences_of_samples():
    random, scatter = np.random.default_rng(5), SeedScatter(2.5, 12)
    first, second = (trainings(random, 3, 0.004, 0.002, 99, (10,)) for _ in "ab")
    difference = {seed: signed_sum([(1, first[seed]), (-1, second[seed])]) for seed in first}
    samples = [over_seeds(one, 4, scatter=scatter).samples for one in (first, second, difference)]
    assert samples[2] == pytest.approx(samples[0] - samples[1])
    of_one = {seed: Measured(one.point[3], one.samples[:, 3]) for seed, one in first.items()}
    assert over_seeds(of_one, 4, scatter=scatter).samples == pytest.approx(samples[0][:, 3])


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_covers_the_truth_with_the_scatter_that_the_study_itself_estimates(seeds, factor):
    """Also of a detector whose trainings scatter twice as much as those of the five others; with two seeds in 89%."""
    random, covered, studies = np.random.default_rng(seeds), 0, 300
    for study in range(studies):
        detectors = [trainings(random, seeds, 0.004 * (factor if n == 0 else 1), 0.002, 199) for n in range(6)]
        common = 0.003 * random.standard_normal()
        number = {seed: Measured(one.point + common, one.samples + common) for seed, one in detectors[0].items()}
        found = interval(number, study, scatter=seed_scatter([[one] for one in detectors]))
        covered += found.low < 0.4 < found.high
    assert (0.86 if (seeds, factor) == (2, 2) else 0.92) <= covered / studies <= 0.995


def test_numbers_without_resamples_and_single_seeds_take_nothing_from_the_study():
    scatter = SeedScatter(100.0, 12)
    bare = {0: Measured(0.3), 1: Measured(0.5)}
    assert over_seeds(bare, 0, 500, scatter).samples.tolist() == over_seeds(bare, 0, 500).samples.tolist()
    one = trainings(np.random.default_rng(0), 1, 0.004, 0.002)
    assert over_seeds(one, 0, scatter=scatter).samples.tolist() == one[0].samples.tolist()


def test_a_study_estimates_it_from_all_detectors_with_several_seeds(tmp_path):
    variants = [{"variant": "faster_rcnn"}, {"variant": "cascade_rcnn"}]
    study = study_of(tmp_path, variants=variants, baseline="Faster R-CNN FPN", seeds=[0, 1], frameworks=["mmdet"])
    truth = write_truth(tmp_path, study)
    for planned in study.runs:
        write_run(tmp_path, planned.run, truth, misses({"(3,3)": 0.7 + 0.1 * planned.run.seed}))
    resampled = ResampledStudy(study, tmp_path, 99)
    numbers = []
    for runs in (study.runs[:2], study.runs[2:]):
        stages = [stage.label for stage in runs[0].run.variant.test_stages]
        numbers.append(
            stages_and_gaps(
                {one.run.seed: resampled.curve(Curve(one.run.id, label)) for one in runs} for label in stages
            )
        )
    assert {planned.label for planned in study.runs[:2]} == {"Faster R-CNN FPN"}
    assert resampled.scatter == seed_scatter(numbers)
    assert resampled.scatter.freedom == 2
    backwards = replace(study, runs=tuple(reversed(study.runs)))
    assert ResampledStudy(backwards, tmp_path, 99).scatter == resampled.scatter
