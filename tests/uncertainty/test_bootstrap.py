"""Resamples by weights against copies of images, pairing, and the same bytes again."""

import itertools

import numpy as np
import pytest
from drawn_problems import drawn
from pycocotools_reference import pycocotools_evaluation
from test_kernel import matched

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.accumulation import accumulate
from cascadebench.metrics.coco.rules import AREAS, RECALLS, SPACING
from cascadebench.uncertainty.bootstrap import Bootstrap, bootstrap, image_weights
from cascadebench.uncertainty.weighted_ap import weighted_ap, weighted_recall, weighting_plan

PROBLEMS = 200


def untied(results):
    """Scores that differ within a class and image, and still tie between images."""
    seen = {}
    changed = []
    for result in results:
        cell = result["image_id"], result["category_id"]
        seen[cell] = seen.get(cell, 0) + 1
        changed.append(result | {"score": round(result["score"], 1) + 1e-4 * seen[cell]})
    return changed


def duplicated(truth, results, weights):
    """The problem with each image really there as often as it is drawn; copies stand side by side."""
    image_ids = sorted(image["id"] for image in truth["images"])
    drawn = dict(zip(image_ids, weights.tolist(), strict=True))

    def copies(entries, key):
        for entry in entries:
            for number in range(drawn[entry[key]]):
                yield entry | {key: entry[key] * 1000 + number}

    annotations = [
        entry | {"id": number} for number, entry in enumerate(copies(truth["annotations"], "image_id"), start=1)
    ]
    images = list(copies(truth["images"], "id"))
    return truth | {"images": images, "annotations": annotations}, list(copies(results, "image_id"))


def drawn_weights(number, images):
    """Weights of a small problem, zeros and large ones among them."""
    random = np.random.default_rng([30, number])
    weights = random.integers(0, 5, size=images).astype(np.uint8)
    weights[random.integers(images)] = max(weights.max(), 1)
    return weights


def test_weights_equal_copies_of_images():
    compared = 0
    for number, (truth, results) in enumerate(drawn(PROBLEMS)):
        results = untied(results)
        table, matches = matched(truth, results)
        weights = drawn_weights(number, len(table.image_ids))
        copies = pycocotools_evaluation(*duplicated(truth, results, weights)).eval
        expected, recalls = copies["precision"].mean(axis=1), copies["recall"]
        for (a, area), (m, max_dets) in itertools.product(enumerate(AREAS), enumerate((1, 10, 100))):
            plan = weighting_plan(table, matches, area=area, max_dets=max_dets)
            (found,), (recall,) = weighted_ap(plan, weights[None]), weighted_recall(plan, weights[None])
            np.testing.assert_allclose(found.T, expected[:, :, a, m], atol=1e-12, rtol=0)
            np.testing.assert_allclose(recall.T, recalls[:, :, a, m], atol=1e-12, rtol=0)
            compared += ((found > 0) & (found < 1)).sum()
    assert compared > 2000


def by_hand(plan, weights, category):
    """AP of a class from a list in which every detection stands as often as its image is drawn."""
    rows = slice(plan.start[category], plan.start[category + 1])
    image = plan.image[rows]
    objects = weights[plan.object_image[plan.object_start[category] : plan.object_start[category + 1]]].sum()
    if objects == 0:
        return np.full(10, -1.0)
    ap = []
    for t in range(10):
        hit, ignored = (np.repeat((bits[rows] >> t) & 1, weights[image]) for bits in (plan.matched, plan.ignored))
        hits, seen = np.cumsum(hit), np.cumsum(1 - ignored)
        precision = np.maximum.accumulate((hits / (seen + SPACING))[::-1])[::-1]
        place = np.searchsorted(hits / objects, RECALLS, side="left")
        ap.append(np.append(precision, 0.0)[place].mean())
    return np.array(ap)


def test_ties_within_an_image_put_the_copies_of_a_detection_together():
    ties = 0
    for number, (truth, results) in enumerate(drawn(PROBLEMS)):
        cells = [(r["image_id"], r["category_id"], r["score"]) for r in results]
        ties += len(set(cells)) < len(cells)
        table, matches = matched(truth, results)
        weights = drawn_weights(number, len(table.image_ids))
        for area in AREAS:
            plan = weighting_plan(table, matches, area=area)
            (found,) = weighted_ap(plan, weights[None])
            expected = [by_hand(plan, weights, category) for category in range(table.classes)]
            np.testing.assert_allclose(found, expected, atol=1e-12, rtol=0)
    assert ties > 50


def test_each_image_once_is_the_evaluation():
    for problem in drawn(PROBLEMS):
        table, matches = matched(*problem)
        ones = np.ones((1, len(table.image_ids)), dtype=np.uint8)
        ap = accumulate(table, matches).ap[:, :, 0, 2].T
        np.testing.assert_allclose(weighted_ap(weighting_plan(table, matches), ones)[0], ap, atol=1e-13, rtol=0)


def test_recalls_are_whole_multiples_of_their_step():
    """On which the number of recalls reached is computed."""
    np.testing.assert_array_equal(RECALLS, np.arange(101) * RECALLS[1])


def larger_problem():
    """Enough images that resamples differ."""
    truths, all_results = zip(*drawn(PROBLEMS)[-40:], strict=True)
    truth = {"images": [], "categories": [{"id": 1, "name": "c1"}, {"id": 2, "name": "c2"}], "annotations": []}
    results = []
    for n, (part, found) in enumerate(zip(truths, all_results, strict=True)):
        truth["images"] += [{"id": 1000 * n + image["id"]} for image in part["images"]]
        for entries, target in ((part["annotations"], truth["annotations"]), (found, results)):
            target += [
                entry | {"image_id": 1000 * n + entry["image_id"], "category_id": 1 + entry["category_id"] % 2}
                for entry in entries
            ]
    for n, annotation in enumerate(truth["annotations"]):
        annotation["id"] = n + 1
    return truth, results


def test_all_sets_share_the_resamples():
    truth, results = larger_problem()
    table, matches = matched(truth, results)
    _, others = matched(truth, [result | {"score": -result["score"]} for result in results])
    both = bootstrap(table, {"a": matches, "b": others, "a again": matches}, seed=3, resamples=70)
    alone = bootstrap(table, {"b": others}, seed=3, resamples=70)
    np.testing.assert_array_equal(both.draws["a"], both.draws["a again"])
    np.testing.assert_array_equal(both.draws["b"], alone.draws["b"])
    assert not np.array_equal(both.draws["a"], both.draws["b"])
    # Every draw is that of its row of the one matrix of weights.
    weights = image_weights(len(table.image_ids), 70, 3)
    for name, of_set in (("a", matches), ("b", others)):
        np.testing.assert_array_equal(
            both.draws[name][41], weighted_ap(weighting_plan(table, of_set), weights[41:42])[0]
        )
    np.testing.assert_array_equal(both.ap["a"], accumulate(table, matches).ap[:, :, 0, 2].T)


def test_same_bytes_whatever_the_threads():
    table, matches = matched(*larger_problem())
    first = bootstrap(table, {"a": matches}, seed=5, resamples=200)
    for threads in (1, 2, 5):
        again = bootstrap(table, {"a": matches}, seed=5, resamples=200, threads=threads)
        assert again.draws["a"].tobytes() == first.draws["a"].tobytes()
    other = bootstrap(table, {"a": matches}, seed=6, resamples=200)
    assert not np.array_equal(other.draws["a"], first.draws["a"])


def test_weights_draw_as_many_images_as_there_are():
    weights = image_weights(400, 300, 8)
    assert (weights.sum(axis=1) == 400).all()
    assert weights.var() == pytest.approx(1, abs=0.02)  # of a Poisson number, nearly
    np.testing.assert_array_equal(image_weights(400, 20, 8), weights[:20])
    assert not (image_weights(400, 20, 9) == weights[:20]).all(axis=1).any()


def test_a_class_that_a_resample_lacks_is_minus_one():
    truth, results = larger_problem()
    lonely = truth["annotations"][0]["image_id"]
    truth["categories"].append({"id": 3, "name": "c3"})
    truth["annotations"].append(truth["annotations"][0] | {"id": 9999, "category_id": 3, "iscrowd": 0})
    table, matches = matched(truth, results)
    draws = bootstrap(table, {"a": matches}, seed=1, resamples=100).draws["a"]
    lacks = image_weights(len(table.image_ids), 100, 1)[:, np.searchsorted(table.image_ids, lonely)] == 0
    np.testing.assert_array_equal((draws[:, 2] == -1).all(axis=1), lacks)
    assert 10 < lacks.sum() < 60
    assert (draws[~lacks, 2] == 0).all()


def test_other_areas_and_limits():
    table, matches = matched(*larger_problem())
    found = bootstrap(table, {"a": matches}, seed=1, resamples=3, area="small", max_dets=10)
    np.testing.assert_array_equal(found.ap["a"], accumulate(table, matches).ap[:, :, 1, 1].T)
    assert found.draws["a"].shape == (3, table.classes, 10)


def test_a_curve_is_the_mean_over_the_classes_that_are_there():
    ap = np.full((2, 3, 10), -1.0)
    ap[0, 0], ap[0, 2] = np.linspace(0.9, 0, 10), 0.1
    curve = Bootstrap({"a": ap[0]}, {"a": ap}, np.array([9, 0, 2])).curve("a")
    assert curve.point == pytest.approx((np.linspace(0.9, 0, 10) + 0.1) / 2)
    assert curve.samples[0] == pytest.approx(curve.point)
    assert np.isnan(curve.samples[1]).all(), "without any class"


def test_samples_lie_about_the_value_and_a_class_in_few_images_scatters_more():
    random = np.random.default_rng(0)
    ap, draws = np.full((3, 10), 0.4), random.uniform(0.4, 0.6, (500, 3, 10))

    def curve(*images):
        return Bootstrap({"a": ap}, {"a": draws}, np.array(images)).curve("a")

    for images in ((1000, 1000, 1000), (2, 3, 1)):
        assert curve(*images).samples.mean(axis=0) == pytest.approx(ap[0])
        assert curve(*images).within == (0, 1)
    away = draws - draws.mean(axis=0)
    assert curve(1000, 1000, 1000).samples == pytest.approx(0.4 + away.mean(axis=1), abs=1e-5)
    # 1 + 1/(m - 1)^2 times the variance; a class in one image varies as the two others do on the average.
    wider = away * np.sqrt(1.5 * np.array([2, 1.25, 1]))[:, None]
    assert curve(2, 3, 1).samples == pytest.approx(0.4 + wider.mean(axis=1))


def test_images_of_a_class_are_those_with_an_object_that_counts():
    truth, results = larger_problem()
    table, matches = matched(truth, results)
    for area, limits in (("all", (0, np.inf)), ("small", (0, 32**2))):
        images = {1: set(), 2: set()}
        for one in truth["annotations"]:
            if not one.get("iscrowd") and limits[0] <= one["area"] <= limits[1]:
                images[one["category_id"]].add(one["image_id"])
        found = bootstrap(table, {"a": matches}, seed=0, resamples=2, area=area).images_of_class
        assert found.tolist() == [len(images[1]), len(images[2])]


def test_recall_is_resampled_as_ap_is():
    table, matches = matched(*larger_problem())
    found = bootstrap(table, {"a": matches}, seed=1, resamples=50, max_dets=10, recall=True)
    np.testing.assert_array_equal(found.ap["a"], accumulate(table, matches).recall[:, :, 0, 1].T)
    plan, weights = weighting_plan(table, matches, max_dets=10), image_weights(len(table.image_ids), 50, 1)
    np.testing.assert_array_equal(found.draws["a"], weighted_recall(plan, weights))


def test_absent_classes_are_the_same_for_all_sets_and_gaps_are_paired():
    truth, results = larger_problem()
    table, matches = matched(truth, results)
    worse = [result | {"bbox": [0.9 * value for value in result["bbox"]]} for result in results]
    drawn = bootstrap(table, {"a": matches, "b": matched(truth, worse)[1]}, seed=7, resamples=300)
    for draws in drawn.draws.values():
        np.testing.assert_array_equal((draws[..., 0] < 0).sum(axis=1), drawn.absent_classes)
    samples = [drawn.curve(name).samples.mean(axis=1) for name in ("a", "b")]
    # The images that are hard for one are hard for the other.
    assert np.std(samples[0] - samples[1]) < np.hypot(*np.std(samples, axis=1))


@pytest.mark.parametrize("wrong", [{"resamples": 1}, {"resamples": 100_001}, {"seed": -1}])
def test_impossible_settings_are_refused(wrong):
    table, matches = matched(*drawn(PROBLEMS)[-1])
    with pytest.raises(InputError, match="at least 1 image, 2 to 100000 resamples"):
        bootstrap(table, {"a": matches}, **({"seed": 0} | wrong))


def test_weights_of_another_shape_are_refused():
    table, matches = matched(*drawn(PROBLEMS)[-1])
    with pytest.raises(ValueError, match=r"uint8 \[resamples, \d\]"):
        weighted_ap(weighting_plan(table, matches), np.ones((2, 99), dtype=np.uint8))
