"""Every verdict follows from the tables: values, intervals, p-values, Holm's correction, by another implementation."""

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from made_up_results import FEW_PARAMETERS, misses, study_of, write_clean_audit, write_run, write_truth
from scipy import stats

from cascadebench.evidence.verdict_files import write_verdicts
from cascadebench.metrics.coco.evaluate import evaluate
from cascadebench.uncertainty.resampled_study import ResampledStudy

SEED = 3
ONE_SEED = ("fscascade-narrows-gap", "fscascade-closes-gap", "fscascade-evens-scores", "cascade-loses-low-iou")
"""A gap of gaps over a range of IoU, one within two thresholds, a statistic of scores, a gap."""
SEEDS = ("third-stage-helps", "second-stage-helps", "fscascade-narrows-gap", "fscascade-closes-gap",
         "fscascade-evens-scores")  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Cascade R-CNN and FSCascade in two frameworks with one seed."""
    folder = tmp_path_factory.mktemp("one_seed")
    variants = [{"variant": "cascade_rcnn"}, {"variant": "fscascade"}]
    about = {"variants": variants, "baseline": "Cascade R-CNN", "hypotheses": [FEW_PARAMETERS]}
    study = study_of(folder, **about, claims=list(ONE_SEED))
    truth = write_truth(folder, study)
    found = {"Cascade R-CNN": {"(3,3)": 0.5, "(2,2)": 0.95}, "FSCascade": {"(3,3)": 0.95, "(2,2)": 0.95}}
    for planned in study.runs:
        write_run(folder, planned.run, truth, misses(found[planned.label]))
    write_clean_audit(folder, study)
    write_verdicts(ResampledStudy(study, folder, seed=SEED))
    return folder, truth


@pytest.fixture(scope="module")
def results_of_seeds(tmp_path_factory):
    """Two and three stages and FSCascade with three seeds, and the baseline."""
    folder = tmp_path_factory.mktemp("three_seeds")
    variants = [{"variant": "faster_rcnn"}, {"variant": "cascade_rcnn"}, {"variant": "fscascade"},
                {"variant": "cascade_rcnn", "label": "two", "options": {"stages": 2}}]  # fmt: skip
    study = study_of(folder, variants=variants, baseline="Faster R-CNN FPN", claims=list(SEEDS), seeds=[0, 1, 2],
                     frameworks=["mmdet"])  # fmt: skip
    truth = write_truth(folder, study)
    for planned in study.runs:
        shares = dict.fromkeys(("(3,1-3) last RoIs", "(2,1-2) last RoIs"), 0.8 + 0.03 * planned.run.seed)
        shares["(3,3)"] = 0.6 if planned.label == "Cascade R-CNN" else 0.95
        write_run(folder, planned.run, truth, misses(shares))
    write_clean_audit(folder, study)
    write_verdicts(ResampledStudy(study, folder, seed=SEED))
    return folder


def tables(folder):
    """The three tables."""
    names = ("verdicts", "claim_terms", "claim_samples")
    return [pd.read_csv(folder / "studies" / "made_up" / f"{name}.csv") for name in names]


def values_by_seed(terms):
    """The quantity of every seed of one question."""
    values = []
    for _, rows in terms.groupby("seed"):
        if rows["value"].isna().any():
            continue
        products = (rows["coefficient"] * rows["value"]).groupby(rows["divides"]).sum()
        values.append(products[False] / products.get(True, 1.0))
    return values


def order_statistics(samples, alpha):
    """Ends of the interval."""
    ordered = sorted(samples)
    place = int(round(alpha / 2 * (len(ordered) + 1), 6) // 1)
    return (ordered[place - 1], ordered[-place]) if place else (-math.inf, math.inf)


def p_value(row, samples):
    """The smallest level at which the interval decides."""

    def twice(inside):
        return 2 * (sum(inside) + 1) / (len(samples) + 1)

    if row.direction != "within":
        return min(1, twice(samples <= row.threshold), twice(samples >= row.threshold))
    decided_for = max(twice(samples <= row.threshold), twice(samples >= row.threshold_high))
    return min(1, decided_for, twice(samples >= row.threshold), twice(samples <= row.threshold_high))


def holm(p_values, alpha):
    """Adjusted p-values and the level that each was compared with, of a series."""
    ordered = p_values.sort_values()
    left = np.arange(len(ordered), 0, -1)
    adjusted = (ordered * left).cummax().clip(upper=1)
    levels = pd.Series(alpha / left, index=ordered.index)
    failed = ordered > levels
    if failed.any():
        levels[failed.to_numpy().argmax() :] = levels.iloc[failed.to_numpy().argmax()]
    return adjusted, levels


def reading(row, low, high):
    """What an interval says."""
    ends = (row.threshold, row.threshold_high if row.direction == "within" else math.inf)
    if row.direction == "less":
        low, high, ends = -high, -low, (-row.threshold, math.inf)
    if ends[0] < low and high < ends[1]:
        return "supported"
    return "not supported" if high < ends[0] or low > ends[1] else "inconclusive"


def check(folder):
    """Recompute everything; returns the verdicts."""
    verdicts, terms, samples = tables(folder)
    sampled = verdicts[verdicts["samples"].notna() & (verdicts["seeds"] > 1)]
    drawn = {row.question: samples[row.question].dropna().to_numpy() for row in sampled.itertuples()}
    p_values = pd.Series({row.question: p_value(row, drawn[row.question]) for row in sampled.itertuples()})
    adjusted, levels = holm(p_values, 0.05)
    for row in verdicts.itertuples():
        value = np.mean(values_by_seed(terms[terms["question"] == row.question]))
        assert row.value == pytest.approx(value, rel=1e-12)
        if row.verdict == "one seed":
            assert (row.seeds, row.reading, row.unadjusted_reading) == (1, "one seed", "one seed")
            assert (row.low, row.high) == order_statistics(samples[row.question].dropna(), 0.05)
            told = [row.adjusted_low, row.adjusted_high, row.p_value, row.adjusted_p_value, row.holm_level]
            assert np.isnan(told).all()
            continue
        if row.question not in drawn:
            assert row.sampling == "exact"
            assert (row.low, row.high, row.adjusted_low, row.adjusted_high) == 4 * (row.value,)
            assert row.verdict == reading(row, value, value)
            continue
        assert row.samples == len(drawn[row.question])
        assert (row.low, row.high) == order_statistics(drawn[row.question], 0.05)
        assert row.p_value == pytest.approx(p_values[row.question], rel=1e-12)
        assert row.adjusted_p_value == pytest.approx(adjusted[row.question], rel=1e-12)
        assert row.holm_level == pytest.approx(levels[row.question], rel=1e-12)
        ends = order_statistics(drawn[row.question], levels[row.question])
        assert (row.adjusted_low, row.adjusted_high) == ends
        assert row.unadjusted_reading == reading(row, row.low, row.high)
        assert row.reading == reading(row, *ends)
        assert row.verdict == row.reading
        # The correction says the same as the interval.
        assert (row.reading == "inconclusive") == (adjusted[row.question] > 0.05)
    return verdicts


def test_verdicts_of_one_seed(results):
    verdicts = check(results[0])
    words = Counter(zip(verdicts["claim"], verdicts["verdict"], strict=True))
    agreement = {f"frameworks-agree-{name}": 1 for name in ("cascade_rcnn", "fscascade")}
    asked = dict.fromkeys(ONE_SEED, 2) | agreement
    assert words == {(name, "one seed"): count for name, count in asked.items()} | {("few-parameters", "supported"): 2}
    assert set(verdicts[verdicts["claim"] == "few-parameters"]["value"]) == {70.5 / 69}


def part_of_the_seeds(row, values, draws):
    """What the choice of seeds adds to each sample, from the values [n] and the seeds' resamples [n, B]."""
    count, resamples = draws.shape
    freedom, ratio = (0 if math.isnan(given) else given for given in (row.scatter_freedom, row.scatter_ratio))
    random = np.random.default_rng([SEED, resamples, count])
    normal, spread = random.standard_normal((count, resamples)), random.chisquare(count - 1 + freedom, resamples)
    direction = random.standard_normal((count, resamples))
    direction -= direction.mean(axis=0)
    of_images = (direction * (draws - draws.mean(axis=1)[:, None])).sum(axis=0) / np.linalg.norm(direction, axis=0)
    beyond = np.maximum(freedom * ratio / spread - 1, 0)
    own = (values - values.mean()) @ normal / np.sqrt(spread)
    return (own + np.sqrt(beyond) * of_images) / np.sqrt(count)


def test_verdicts_of_several_seeds_and_the_part_of_the_seeds(results_of_seeds):
    verdicts = check(results_of_seeds)
    assert set(verdicts["sampling"]) == {"images and seeds"}
    assert set(verdicts["seeds"]) == {3}
    words = verdicts.set_index("claim")["verdict"]
    assert words["fscascade-narrows-gap"] == "supported"
    assert set(words) <= {"supported", "not supported", "inconclusive"}
    _, terms, samples = tables(results_of_seeds)
    for row in verdicts.itertuples():
        values = np.array(values_by_seed(terms[terms["question"] == row.question]))
        draws = np.stack([samples[f"{row.question} over images, seed {seed}"] for seed in range(3)])
        expected = draws.mean(axis=0) + part_of_the_seeds(row, values, draws)
        if row.claim != "fscascade-evens-scores":
            # AP is a fraction: no sample is beyond what the sum can be. A ratio of scores has no such end.
            counts = terms[(terms["question"] == row.question) & (terms["seed"] == 0)]["coefficient"]
            expected = expected.clip(counts.clip(upper=0).sum(), counts.clip(lower=0).sum())
        np.testing.assert_allclose(samples[row.question], expected, rtol=0, atol=1e-12)
        if row.claim == "fscascade-evens-scores":
            # Nothing is known of how scores scatter but by these three: Student's t with two degrees of freedom.
            assert math.isnan(row.scatter_ratio)
            part = samples[row.question] - draws.mean(axis=0)
            assert stats.kstest(part / stats.sem(values), stats.t(2).cdf).pvalue > 0.01
        else:
            # Four detectors with three seeds have eight degrees of freedom, of which four count beside the own two.
            assert (row.scatter_freedom, row.scatter_ratio > 0) == (4, True)


def test_terms_are_those_of_the_evaluation(results):
    _, terms, _ = tables(results[0])
    ap = terms[(terms["metric"] == "AP") & (terms["claim"].isin(ONE_SEED))]
    assert set(ap["iou_high"]) == {0.65}
    for term in ap.itertuples():
        table = pd.read_parquet(results[0] / "runs" / term.run / "ap.parquet")
        chosen = table.query("category == 'all' and area == 'all' and max_dets == 100 and test_stage == @term.place")
        inside = chosen[(chosen["iou"] > term.iou_low - 0.01) & (chosen["iou"] < term.iou_high + 0.01)]
        assert len(inside) == 4
        assert term.value == pytest.approx(inside["ap"].mean())


def test_samples_differ_as_the_quantity_does_on_images_that_are_drawn_again(results):
    """The gap of gaps on annotation files in which an image stands as often as it was drawn.

    A sample is that, moved by the same for all of them; and a class in m images counts sqrt(1 + 1/(m - 1)^2) times.
    """
    folder, truth = results
    _, terms, samples = tables(folder)
    question = "fscascade-narrows-gap mmdet resnet50"
    first, second = (_by_class(folder, truth, terms[terms["question"] == question], number) for number in (0, 7))
    images = pd.DataFrame(truth["annotations"]).groupby("category_id")["image_id"].nunique()
    widened = ((first - second) * np.sqrt(1 + 1 / (images.to_numpy() - 1) ** 2)).mean()
    assert abs(widened) > 1e-3
    assert samples[question][0] - samples[question][7] == pytest.approx(widened, abs=1e-12)


def _by_class(folder, truth, terms, number):
    """The quantity of every class on one resample."""
    images = len(truth["images"])
    drawn = np.random.default_rng([SEED, number]).integers(images, size=images)
    objects = [one | {"image_id": new} for new, old in enumerate(drawn) for one in truth["annotations"]
               if one["image_id"] == old]  # fmt: skip
    again = truth | {
        "images": [truth["images"][0] | {"id": new} for new in range(images)],
        "annotations": [one | {"id": new} for new, one in enumerate(objects, start=1)],
    }
    total = 0.0
    for term in terms.itertuples():
        rows = pd.read_parquet(folder / "runs" / term.run / "detections.parquet")
        rows = rows[rows["test_stage"] == term.place].astype({"test_stage": str})
        repeated = pd.concat([rows[rows["image_id"] == old].assign(image_id=new) for new, old in enumerate(drawn)])
        table = evaluate(again, repeated, [term.place], source="again")
        chosen = table[(table["category"] != "all") & (table["area"] == "all") & (table["max_dets"] == 100)]
        of_class = chosen[chosen["iou"] < 0.66].groupby("category", sort=False)["ap"].mean()
        total += term.coefficient * of_class.to_numpy()
    return total


def test_samples_of_scores_differ_as_their_balance_on_images_that_are_drawn_again(results):
    folder, truth = results
    _, terms, samples = tables(folder)
    question, images = "fscascade-evens-scores mmdet resnet50", len(truth["images"])
    drawn = [np.random.default_rng([SEED, number]).integers(images, size=images) for number in (5, 6)]
    totals, value = np.zeros(2), 0.0
    for term in terms[terms["question"] == question].itertuples():
        rows = pd.read_parquet(folder / "runs" / term.run / "detections.parquet")
        rows = rows[rows["test_stage"] == term.place]
        # One detection for every object, moved to the right of it.
        true = np.array([one["bbox"][0] for one in truth["annotations"]])
        order = rows.sort_values(["image_id", "y"])
        moved = order["x"].to_numpy(dtype=float) - true
        iou = (40 - moved) / (40 + moved)
        groups = order[(iou >= 0.5) & (iou <= 0.75)], order[iou > 0.75]
        loose, tight = (group["score"].astype(float).mean() for group in groups)
        value += term.coefficient * loose / tight
        for place, images_again in enumerate(drawn):
            again = [pd.concat([group[group["image_id"] == old] for old in images_again]) for group in groups]
            loose, tight = (group["score"].astype(float).mean() for group in again)
            totals[place] += term.coefficient * loose / tight
    assert samples[question][5] - samples[question][6] == pytest.approx(totals[0] - totals[1], abs=1e-9)
    assert samples[question].mean() == pytest.approx(value, abs=1e-9), "samples lie about the value"
    verdicts, _, _ = tables(folder)
    assert verdicts.set_index("question")["value"][question] == pytest.approx(value, abs=1e-9)
