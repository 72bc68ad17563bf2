"""How often the intervals hold what they should: samples of images out of a large generated population.

    python -m benchmarks.coverage

Two made-up detectors find the objects of 50,000 images. Each sample is a validation set of 5000 of them, drawn
independently; its intervals are compared with what is true: the AP of the whole population, the mean AP over very many
samples of this size, and the gap between the detectors. A second part does the same with several training seeds, whose
detectors differ at random.
"""

import argparse
import sys
from dataclasses import replace

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.generated_detections import Detector, generated_detections, generated_truth, object_ease
from cascadebench.metrics.coco.accumulation import mean_of_known
from cascadebench.metrics.coco.detection_order import ordered_detections
from cascadebench.metrics.coco.ground_truth_table import ground_truth_table
from cascadebench.metrics.coco.matching import match
from cascadebench.uncertainty.bootstrap import image_weights
from cascadebench.uncertainty.curves import Measured, mean_over_iou
from cascadebench.uncertainty.intervals import interval, order_statistics
from cascadebench.uncertainty.weighted_ap import Plan, weighted_ap, weighting_plan

SHOWN = {"AP": (0.5, 0.95), "AP50": (0.5, 0.5), "AP75": (0.75, 0.75), "AP90": (0.9, 0.9)}
DETECTORS = (Detector(found=0.80, spread=0.070), Detector(found=0.81, spread=0.066))
OBJECTS_PER_IMAGE, CROWDS_PER_IMAGE, DETECTIONS_PER_IMAGE = 7.267, 0.0892, 40
TRAININGS, SEEDS, SEED_SPREAD = 30, (1, 2, 3, 5), 0.0015
Pair = tuple[np.ndarray, np.ndarray]
CONSOLE = Console(width=120, highlight=False)


def quantities(ap: np.ndarray) -> dict[str, np.ndarray]:
    """AP over all IoU thresholds and at some, float64 [...] of the classes' AP [..., classes, IoU]."""
    return {name: mean_over_iou(mean_of_known(ap, axis=-2), *ends) for name, ends in SHOWN.items()}


def population_plans(random: np.random.Generator, images: int, detectors: list[Detector]) -> list[Plan]:
    """Matches of every detector on the same generated images."""
    counts = round(OBJECTS_PER_IMAGE * images), round(CROWDS_PER_IMAGE * images)
    truth = generated_truth(random, images, objects=counts[0], crowds=counts[1])
    ease = object_ease(random, truth)
    table = ground_truth_table(truth)
    plans = []
    for detector in detectors:
        rows = generated_detections(random, truth, ease, detector, DETECTIONS_PER_IMAGE * images)
        category, image = (
            index(rows[key].to_numpy())
            for index, key in ((table.category_index, "category_id"), (table.image_index, "image_id"))
        )
        box = rows[["x", "y", "w", "h"]].to_numpy()
        detections = ordered_detections(table.classes, category, image, rows["score"].to_numpy(), box)
        plans.append(weighting_plan(table, match(table, detections)))
    return plans


def restricted(plan: Plan, images: np.ndarray) -> Plan:
    """The plan of a part of the images, given by their positions in rising order."""
    place = np.full(plan.images, -1, dtype=np.int32)
    place[images] = np.arange(len(images))
    rows = np.flatnonzero(place[plan.image] >= 0)
    objects = np.flatnonzero(place[plan.object_image] >= 0)
    return replace(
        plan,
        images=len(images),
        start=np.searchsorted(rows, plan.start),
        image=place[plan.image[rows]],
        matched=plan.matched[rows],
        ignored=plan.ignored[rows],
        # Precision is looked at where each true positive is, not only at the ends of runs: more work, the same result.
        ends=plan.matched[rows],
        object_start=np.searchsorted(objects, plan.object_start),
        object_image=place[plan.object_image[objects]],
    )


def sampled(plans: list[Plan], drawn: np.ndarray, resamples: int, seed: int) -> tuple[list[dict], list[dict]]:
    """Quantities of every plan on a sample of images and on its resamples.

    Parameters
    ----------
    drawn : ndarray of int [n]
        Positions of images; one that is drawn twice counts twice.
    """
    images, first, count = np.unique(np.sort(drawn), return_index=True, return_counts=True)
    # Resampled are the n entries of the sorted list, not the different images.
    weights = np.add.reduceat(image_weights(len(drawn), resamples, seed), first, axis=1, dtype=np.uint8)
    once = count.astype(np.uint8)[None]
    parts = [restricted(plan, images) for plan in plans]
    values = [quantities(weighted_ap(part, once)) for part in parts]
    return values, [quantities(weighted_ap(part, weights)) for part in parts]


def expected(plans: list[Plan], random: np.random.Generator, images: int, samples: int) -> list[dict]:
    """Means of the quantities over many samples of so many images."""
    means = []
    weights = np.stack(
        [np.bincount(random.integers(plans[0].images, size=images), minlength=plans[0].images) for _ in range(samples)]
    ).astype(np.uint8)
    for plan in plans:
        values = quantities(weighted_ap(plan, weights))
        means.append({name: values[name].mean() for name in SHOWN})
    return means


ROWS = (
    "the interval of AP holds the mean AP at this size",
    "order statistics hold the mean AP at this size",
    "the interval of AP holds the population's AP",
    "order statistics hold the population's AP",
    "the interval of a gap holds the mean gap at this size",
    "the interval of a gap holds the population's gap",
)


def image_coverage(options: argparse.Namespace) -> None:
    """Print how often intervals of one training hold."""
    random = np.random.default_rng(options.seed)
    plans = population_plans(random, options.population, list(DETECTORS))
    everything = np.ones((1, options.population), dtype=np.uint8)
    of_all = [quantities(weighted_ap(plan, everything)) for plan in plans]
    population = [{name: values[name][0] for name in SHOWN} for values in of_all]
    at_size = expected(plans, random, options.images, options.expected_samples)
    held = {row: {name: [] for name in SHOWN} for row in ROWS}
    biases = {name: [] for name in SHOWN}
    for number in range(options.samples):
        drawn = random.integers(options.population, size=options.images)
        values, draws = sampled(plans, drawn, options.resamples, number)
        for name in SHOWN:
            biases[name].append(draws[0][name].mean() - values[0][name][0])
            sides = [tuple(numbers[name] for numbers in both) for both in (values, draws, at_size, population)]
            for row, holds in zip(ROWS, intervals_hold(*sides, number), strict=True):
                held[row][name].append(holds)
    title = f"{options.samples} samples of {options.images} out of {options.population} images"
    table = Table(title, *SHOWN, box=SIMPLE)
    for row in ROWS:
        table.add_row(row, *(share(held[row][name]) for name in SHOWN))
    table.add_row("AP of the population", *(f"{population[0][name]:.4f}" for name in SHOWN))
    table.add_row("mean AP at this size", *(f"{at_size[0][name]:.4f}" for name in SHOWN))
    table.add_row("bootstrap bias, mean", *(f"{np.mean(biases[name]):+.4f}" for name in SHOWN))
    table.add_row("gap in the population", *(f"{population[1][n] - population[0][n]:+.4f}" for n in SHOWN))
    CONSOLE.print(table)


def intervals_hold(values: Pair, draws: Pair, at_size: Pair, population: Pair, number: int) -> tuple[bool, ...]:
    """Whether each kind of interval holds what it should, in the order of :data:`ROWS`; every pair is of detectors."""
    absolute = interval({0: Measured(values[0][0], draws[0])}, number, absolute=True)
    low, high = order_statistics(draws[0])
    gap = interval({0: Measured(values[1][0] - values[0][0], draws[1] - draws[0])}, number)
    return (
        absolute.low <= at_size[0] <= absolute.high,
        low <= at_size[0] <= high,
        absolute.low <= population[0] <= absolute.high,
        low <= population[0] <= high,
        gap.low <= at_size[1] - at_size[0] <= gap.high,
        gap.low <= population[1] - population[0] <= gap.high,
    )


def share(holds: list[bool]) -> str:
    """Share of samples, in percent, with its standard error."""
    rate = np.mean(holds)
    return f"{100 * rate:.0f} ± {100 * np.sqrt(rate * (1 - rate) / len(holds)):.0f}"


def seed_coverage(options: argparse.Namespace) -> None:
    """Print how often two-level intervals of a gap hold the gap over all images and seeds."""
    random = np.random.default_rng(options.seed + 1)
    detectors = [
        replace(detector, spread=detector.spread + random.normal(0, SEED_SPREAD))
        for detector in DETECTORS
        for _ in range(TRAININGS)
    ]
    plans = population_plans(random, options.population // 5, detectors)
    images = options.images // 5
    # The mean over the very trainings that are drawn from, at the very size that is drawn.
    means = expected(plans, random, images, options.expected_samples // 4)
    truth = {name: gap_of(means, name) for name in SHOWN}
    title = f"{options.samples} samples of {images} out of {plans[0].images} images"
    table = Table(title, *SHOWN, box=SIMPLE)
    for seeds in SEEDS:
        held, of_these, widths = ({name: [] for name in SHOWN} for _ in range(3))
        for number in range(options.samples):
            chosen = random.integers(TRAININGS, size=seeds)
            drawn = random.integers(plans[0].images, size=images)
            used = [plans[place] for place in (*chosen, *(chosen + TRAININGS))]
            values, draws = sampled(used, drawn, options.resamples // 2, number)
            for name in SHOWN:
                gaps = gap_of(draws, name)
                trainings = dict(enumerate(map(Measured, gap_of(values, name)[:, 0], gaps)))
                of_methods = interval(trainings, number)
                held[name].append(of_methods.low <= truth[name].mean() <= of_methods.high)
                low, high = order_statistics(gaps.mean(axis=0))
                of_these[name].append(low <= truth[name][chosen].mean() <= high)
                widths[name].append(of_methods.high - of_methods.low)
        words = f"{seeds} seeds" if seeds > 1 else "1 seed"
        table.add_row(f"{words}, gap of the methods", *(share(held[name]) for name in SHOWN))
        table.add_row(f"{words}, gap of these trainings", *(share(of_these[name]) for name in SHOWN))
        table.add_row(f"{words}, median width of the first", *(f"{np.median(widths[name]):.4f}" for name in SHOWN))
    CONSOLE.print(table)


def gap_of(quantities_of: list[dict], name: str) -> np.ndarray:
    """Second detector minus first, float64 [seeds, resamples]; the list holds the seeds of one, then of the other."""
    values = np.stack([numbers[name] for numbers in quantities_of])
    return values[len(values) // 2 :] - values[: len(values) // 2]


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--population", type=int, default=50_000, help="images there are; a fifth with several seeds")
    parser.add_argument("--images", type=int, default=5000, help="images of a sample; a fifth with several seeds")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=1999, help="half as many with several seeds")
    parser.add_argument("--expected-samples", type=int, default=2000, help="samples over which means are taken")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=("images", "seeds"), action="append", help="one part only")
    options = parser.parse_args()
    CONSOLE.print(f"python -m benchmarks.coverage {' '.join(sys.argv[1:])}", markup=False)
    for part, simulate in (("images", image_coverage), ("seeds", seed_coverage)):
        if part in (options.part or (part,)):
            simulate(options)


if __name__ == "__main__":
    main()
