"""How often 95% intervals hold what they should: sets of images out of a large generated population, and real ones.

    python -m benchmarks.coverage --images 100 --classes 80

Two made-up detectors, alike or very unequal, find the objects of a population of images after several trainings. Sets
of images and trainings are drawn from it, and the intervals that the project makes of each are compared with the truth:
the mean over sets of that size and, with several seeds, over all trainings. What is drawn is kept in build/coverage/,
in parts; a part that is there is not drawn again.
"""

import argparse
import pickle
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.generated_detections import Detector, generated_detections, generated_truth, object_ease
from cascadebench.core.configuration import PROJECT
from cascadebench.metrics.coco.accumulation import mean_of_known
from cascadebench.metrics.coco.detections import read_coco_results
from cascadebench.metrics.coco.ground_truth import read_ground_truth
from cascadebench.metrics.coco.ground_truth_table import ground_truth_table
from cascadebench.metrics.coco.stage_matches import match_stages
from cascadebench.uncertainty.bootstrap import Bootstrap, image_weights
from cascadebench.uncertainty.crossings import crossing_interval, crossings, only_crossing
from cascadebench.uncertainty.curves import Measured, read_off, signed_sum
from cascadebench.uncertainty.intervals import interval
from cascadebench.uncertainty.seed_scatter import SeedScatter, seed_scatter, stages_and_gaps
from cascadebench.uncertainty.simulated_coverage import FEWEST_INTERVALS, TABLE
from cascadebench.uncertainty.weighted_ap import Plan, weighted_ap, weighted_recall, weighting_plan

IMAGES, CLASSES, SEEDS, REAL_SET = (100, 300, 1000, 5000), (1, 20, 80), (1, 2, 3, 5), 118
STRONG, ALIKE = (Detector(0.83, 0.085), Detector(0.80, 0.065)), (Detector(0.83, 0.087), Detector(0.79, 0.062))
WEAK = (Detector(0.42, 0.140), Detector(0.40, 0.120))
"""First and last test stage: the last finds a little less and places it better."""
LOOSE_THEN_TIGHT = (Detector(0.95, 0.110), Detector(0.55, 0.030))
"""Stages that differ so much that 95% of the resamples cross exactly once: for the interval of the crossing alone."""
DETECTORS = {"equal": (STRONG, ALIKE), "unequal": (STRONG, WEAK), "crossing": (LOOSE_THEN_TIGHT, LOOSE_THEN_TIGHT)}
WEAK_SCORES = 0.6  # the weak detector reports what it scores so high or higher
LEAST_POPULATION = 4000  # images; four times those of a set, if that is more
SEED_SPREAD = 0.0008  # SD of a training's `spread`: that of its AP is about 0.4 points
TRAININGS, OBJECTS_PER_IMAGE, CROWDS_PER_IMAGE, DETECTIONS_PER_IMAGE = 10, 4, 0.05, 8
SHOWN = {"AP": (0.5, 0.95), "AP50": (0.5, 0.5), "AP75": (0.75, 0.75), "AP90": (0.9, 0.9)}
KEPT = PROJECT / "build" / "coverage"
Plans = list[list[Plan]]
"""By test stage, first and last of both detectors, and training."""


def population(total: int, classes: int, detectors: str) -> Plans:
    """Matches of every training of both detectors on the same generated images; kept for the next part."""
    file = KEPT / f"population_{total}_{classes}_{detectors}.pickle"
    if file.exists():
        return pickle.loads(file.read_bytes())  # noqa: S301
    random = np.random.default_rng([classes, len(detectors)])
    objects, crowds = round(OBJECTS_PER_IMAGE * total), round(CROWDS_PER_IMAGE * total)
    truth = generated_truth(random, total, classes, objects=objects, crowds=crowds)
    ease, table = object_ease(random, truth), ground_truth_table(truth)
    plans: Plans = []
    for stages in DETECTORS[detectors]:
        luck = random.normal(0, SEED_SPREAD, size=TRAININGS)
        for stage in stages:
            plans.append([])
            for one in luck:
                trained = replace(stage, spread=stage.spread + one)
                rows = generated_detections(random, truth, ease, trained, DETECTIONS_PER_IMAGE * total)
                rows = rows[rows["score"] >= (WEAK_SCORES if stages is WEAK else 0)].assign(test_stage="")
                ((_, matches),) = match_stages(table, rows.reset_index(drop=True))
                plans[-1].append(weighting_plan(table, matches))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(plans))
    return plans


def restricted(plan: Plan, images: np.ndarray) -> Plan:
    """The plan of a part of the images, given by their positions in rising order."""
    place = np.full(plan.images, -1, dtype=np.int32)
    place[images] = np.arange(len(images))
    rows, objects = np.flatnonzero(place[plan.image] >= 0), np.flatnonzero(place[plan.object_image] >= 0)
    return Plan(
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


def measured(plan: Plan, once: np.ndarray, weights: np.ndarray, *, recall: bool = False) -> Measured:
    """AP, or recall, by IoU threshold on a set of images, with its samples."""
    evaluated = weighted_recall if recall else weighted_ap
    category = np.repeat(np.arange(len(plan.start) - 1), np.diff(plan.object_start))
    cell = np.unique(category * plan.images + plan.object_image)
    # An image that is drawn twice is two images.
    counts = once[0, cell % plan.images].astype(np.int64)
    images_of_class = np.bincount(cell // plan.images, counts, len(plan.start) - 1).astype(np.int64)
    return Bootstrap({"": evaluated(plan, once)[0]}, {"": evaluated(plan, weights)}, images_of_class).curve("")


def numbers(stages: list[Measured], recalls: list[Measured]) -> dict[str, Measured]:
    """All numbers of one training: of the second detector, of it less the first, and of what its last stage gains."""
    first, last, other_first, other_last = stages
    gain, other_gain = signed_sum([(1, last), (-1, first)]), signed_sum([(1, other_last), (-1, other_first)])
    gap, gap_of_gaps = signed_sum([(1, other_last), (-1, last)]), signed_sum([(1, other_gain), (-1, gain)])
    curves = {"": other_last, "gap of ": gap, "gap of gaps of ": gap_of_gaps}
    found = {kind + name: read_off(curve, *ends) for kind, curve in curves.items() for name, ends in SHOWN.items()}
    recall, other_recall = (read_off(one, *SHOWN["AP"]) for one in recalls)
    return found | {
        "recall": other_recall,
        "gap of recall": signed_sum([(1, other_recall), (-1, recall)]),
        "crossing": other_gain,
    }


def draw(plans: Plans, images: int, part: int, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Draw the sets of images of a part, with trainings for each; every number on them, and the truth."""
    sets, seeds = options.sets, max(SEEDS) if part < options.parts_of_seeds else 1
    random = np.random.default_rng([images, len(plans[0][0].start), part])
    total, most = plans[0][0].images, min(seeds, len(plans[0]))
    many = np.stack([np.bincount(random.integers(total, size=images), minlength=total) for _ in range(64)])
    found = {"truth " + name: value for name, value in _expected(plans, many.astype(np.uint8)).items()}
    rows: dict[str, list] = {}
    for number in range(sets):
        drawn, chosen = random.integers(total, size=images), random.permutation(len(plans[0]))[:most]
        different, first, count = np.unique(np.sort(drawn), return_index=True, return_counts=True)
        # Resampled are the entries of the sorted list, not the different images.
        resampled = image_weights(images, options.resamples, sets * part + number)
        weights = np.add.reduceat(resampled, first, axis=1, dtype=np.uint8)
        once = count.astype(np.uint8)[None]
        rows.setdefault("trainings", []).append(chosen)
        of_stages: list[dict[int, Measured]] = [{} for _ in plans]
        for place, training in enumerate(chosen):
            parts = [restricted(of_stage[training], different) for of_stage in plans]
            for by_seed, plan in zip(of_stages, parts, strict=True):
                by_seed[place] = measured(plan, once, weights)
            recalls = [measured(part, once, weights, recall=True) for part in parts[1::2]]
            for name, one in numbers([by_seed[place] for by_seed in of_stages], recalls).items():
                rows.setdefault("point " + name, []).append(one.point)
                rows.setdefault("samples " + name, []).append(np.float32(one.samples))
                found["within " + name] = np.array(one.within)
        for seeds in SEEDS[1:] if most > 1 else ():
            first = [{place: by_seed[place] for place in range(seeds)} for by_seed in of_stages]
            scatter = seed_scatter([stages_and_gaps(first[:2]), stages_and_gaps(first[2:])])
            rows.setdefault(f"scatter {seeds}", []).append((scatter.ratio, scatter.freedom))
    shaped = {key: np.array(value) for key, value in rows.items()}
    by_training = {key: value for key, value in shaped.items() if key.startswith(("point", "samples"))}
    return found | shaped | {k: value.reshape(sets, most, *value.shape[1:]) for k, value in by_training.items()}


def _expected(plans: Plans, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Mean of every number of each training over sets of images that weights give: float64 [trainings, ...]."""
    found: dict[str, list] = {}
    for of_training in zip(*plans, strict=True):
        stages = [_mean(weighted_ap(plan, weights)) for plan in of_training]
        recalls = [_mean(weighted_recall(plan, weights)) for plan in of_training[1::2]]
        for name, one in numbers(stages, recalls).items():
            found.setdefault(name, []).append(one.point)
    return {name: np.array(values) for name, values in found.items()}


def _mean(values: np.ndarray) -> Measured:
    """AP or recall by IoU threshold, the mean over sets of images of that over the classes."""
    point = np.nanmean(mean_of_known(values, axis=-2), axis=0)
    return Measured(point, point[None])


def judged(drawn: Mapping[str, np.ndarray], seeds: int, name: str) -> dict[str, float]:
    """How many intervals of a number hold the truth."""
    truth, points, samples = (drawn[f"{what} {name}"] for what in ("truth", "point", "samples"))
    within, widths, held = tuple(drawn["within " + name]), [], 0
    for number, trainings in enumerate(drawn["trainings"]):
        by_seed = {k: Measured(points[number, k], samples[number, k].astype(float), within) for k in range(seeds)}
        # One seed is about this training, several are about all that could have been: as far off as those of a
        # population, and not of a few from which they are drawn without replacement.
        true = truth[trainings[:seeds]].mean(axis=0)
        if seeds > 1:
            true = true - (true - truth.mean(axis=0)) * np.sqrt(len(truth) / (len(truth) - seeds))
        of_study = seeds > 1 and "recall" not in name
        scatter = SeedScatter(*drawn[f"scatter {seeds}"][number]) if of_study else None
        if name == "crossing":
            found, true = crossing_interval(by_seed, number, scatter), float(only_crossing(crossings(true)))
        else:
            found = interval(by_seed, number, scatter)
        if np.isfinite(found.low):
            widths.append(found.high - found.low)
            held += found.low <= true <= found.high
    return {"intervals": len(widths), "held": held, "median_width": float(np.median(widths)) if widths else np.nan}


def draw_parts(options: argparse.Namespace) -> None:
    """Draw the parts of the cells that are asked for and are not there: the first of all cells, the second, ..."""
    for part, images, classes, detectors in product(range(options.parts), options.images, options.classes, DETECTORS):
        file = KEPT / f"{images}_{classes}_{detectors}_{part}.npz"
        if not file.exists():
            keep(file, draw(population(max(LEAST_POPULATION, 4 * images), classes, detectors), images, part, options))
    if options.annotations is None:
        print("real images: skipped, no --annotations FILE --detections FILE FILE")
        return
    table, plans = ground_truth_table(read_ground_truth(options.annotations)), []
    for path in options.detections:
        ((_, matches),) = match_stages(table, read_coco_results(path), source=str(path))
        plans += [[weighting_plan(table, matches)]] * 2  # one training; first and last test stage are the same
    for part in range(options.parts):
        file = KEPT / f"{REAL_SET}_{table.known_classes}_real_{part}.npz"
        if not file.exists():
            keep(file, draw(plans, REAL_SET, part, options))


def keep(file: Path, drawn: Mapping[str, np.ndarray]) -> None:
    """Write what was drawn; a half-written file has another name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(part := file.with_name("part.npz"), **drawn)
    part.rename(file)


def together(parts: list[dict[str, np.ndarray]], seeds: int) -> dict[str, np.ndarray]:
    """The parts of a cell with so many trainings as one: all sets, and the mean of what is true."""
    joined = {"truth": lambda found: np.mean(found, axis=0), "within": lambda found: found[0]}
    by_seed = {"trainings", "point", "samples"}
    of_seeds = [
        {key: value[:, :seeds] if key.split()[0] in by_seed else value for key, value in part.items()}
        for part in parts
        if part["trainings"].shape[1] >= seeds
    ]
    keys = of_seeds[-1] if of_seeds else ()
    return {key: joined.get(key.split()[0], np.concatenate)([part[key] for part in of_seeds]) for key in keys}


def table_of(folder: Path) -> pd.DataFrame:
    """How many intervals hold of everything that was drawn."""
    rows, parts = [], {}
    for file in sorted(folder.glob("*_*_*_*.npz")):
        parts.setdefault(tuple(file.stem.split("_")[:3]), []).append(file)
    for (images, classes, detectors), files in parts.items():
        about = {"images": int(images), "classes": int(classes), "detectors": detectors}
        for seeds in SEEDS:
            drawn = together([dict(np.load(file)) for file in files], seeds)
            names = [key.removeprefix("truth ") for key in drawn if key.startswith("truth ")]
            left_out = ("gap of gaps", "crossing") if detectors == "real" else "crossing"
            names = [name for name in names if not name.startswith(left_out)]
            for name in names if detectors != "crossing" else ["crossing"][: len(drawn)]:
                sets = {"seeds": seeds, "number": name, "sets": len(drawn["trainings"])}
                rows.append(about | sets | judged(drawn, seeds, name))
    return pd.DataFrame(rows).sort_values(["detectors", "seeds", "classes", "images"], kind="stable")


def percent(rows: pd.DataFrame) -> str:
    """Percent of intervals that hold: the mean over rows with enough of them, and the lowest if there are several."""
    rows = rows[rows["intervals"] >= FEWEST_INTERVALS]
    shares = 100 * rows["held"] / rows["intervals"]
    lowest = f" ({shares.min():.0f})" if len(rows) > 1 else ""
    return f"{shares.mean():.0f}{lowest}" if len(rows) else ""


def print_tables(table: pd.DataFrame) -> None:
    """Print the percentages of one seed by kind of number, and those of several seeds; in Markdown."""
    kind = table["number"].str.replace(r"AP\d*$", "AP", regex=True)
    order = ["images", "classes", "detectors", "sets"]
    for title, rows, columns in (
        ("one seed", table[table["seeds"] == 1], kind),
        ("several seeds", table[table["seeds"] > 1], table["seeds"].map("{} seeds".format)),
    ):
        names = list(dict.fromkeys(columns[rows.index]))
        print(f"\n{title}\n\n| {' | '.join([*order, *names])} |\n|{'-|' * (len(order) + len(names))}")
        for key, cell in rows.groupby(order, sort=True):
            cells = [percent(cell[columns[cell.index] == name]) for name in names]
            print(f"| {' | '.join([*map(str, key), *cells])} |")


def main() -> None:
    """Draw what is missing, judge all that was drawn, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="*", default=IMAGES)
    parser.add_argument("--classes", type=int, nargs="*", default=CLASSES)
    parser.add_argument("--sets", type=int, default=60, help="sets of images of a part")
    parser.add_argument("--parts", type=int, default=5, help="parts of a cell")
    parser.add_argument("--parts-of-seeds", type=int, default=5, help="how many of them with several trainings")
    parser.add_argument("--resamples", type=int, default=119)
    parser.add_argument("--annotations", type=Path, help="of real images")
    parser.add_argument("--detections", type=Path, nargs=2, help="COCO results of two detectors on them")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.relative_to(PROJECT)}")
    options = parser.parse_args()
    draw_parts(options)
    table = table_of(KEPT)
    print_tables(table)
    if options.write:
        table.to_csv(TABLE, index=False, float_format="%.5f")


if __name__ == "__main__":
    main()
