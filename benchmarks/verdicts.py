"""How often verdicts err and how often they decide: drawn trainings and images, judged by the project's own rule.

    python -m benchmarks.verdicts fscascade_fig_1 --seeds 1 2 3 5 --seed-sd 0.1 0.3 0.6 --log verdicts.jsonl
    python -m benchmarks.verdicts fscascade_fig_1 --seeds 3 5 --seed-sd 0.2 --effect 1

A study's own detectors, frameworks and claims, with so many seeds; in place of its results numbers that are drawn
around a known truth. `study_questions` asks what it asks for every report, once per cell; `estimate` and `judge` are
called on every drawn study as they are there.

**What is drawn.** Every training has AP by IoU at its headline and wherever else claims read it (of small and large
objects too, and the other numbers that they ask for): the truth, plus what its seed changes, plus what the images
change for all trainings of its detector, plus what they change for it alone. The three are normal and independent.
`--seed-sd` is the standard deviation between the seeds of a gap in AP between two detectors, on infinitely many
images; `--image-se` the standard error of that gap, with one seed, from the choice of images, of whose variance
`--own-share` is of the two trainings alone. Two test stages of a training correlate by 0.5 in each of the three, so
that a gap between stages scatters by 1/sqrt(2) of this and a gap of gaps by as much; AP at two IoU thresholds
correlates by 1 (neighbours) to 0.5 (0.5 and 0.95). The resamples of the images scatter as the images do. Recall has
no resamples, as in a study.

`--unequal` makes scatter differ, by `--factor` in its standard deviation: ``detectors``: the last variant of the
study has the larger one; ``frameworks``: the second framework; ``stages``: what the seeds change differs more between
the test stages of a training, against AP itself, than what the images change; ``at random``: every detector in every
study has its own, the logarithm normal with half the logarithm of the factor.

`--prior` is the number of degrees of freedom that the study's scatter adds to the seeds of a number, in place of the
project's own: 0 is Student's t of the number alone, 100 counts all that the study has.

**Null.** Every sampled quantity truly is at its threshold, `within` at the upper one: the place where wrong decisions
are most frequent, and where each decision is wrong. `--effect X` puts it X points beyond, on the side where the claim
holds; `within` above the upper threshold, where it does not. `--only CLAIM` puts that claim alone there, in one
framework, and all other quantities stay at their thresholds: nothing else of the study is decided, as a least
detectable effect takes it. Printed per cell: the share of studies with a wrong *supported* or *not supported*; the
share of questions decided rightly, of those with an effect; the share of 95% intervals that hold the truth.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from cascadebench.controls.findings import Audit
from cascadebench.evidence.claims import SourcedClaim
from cascadebench.evidence.holm import samples_needed
from cascadebench.evidence.hypotheses import study_claims
from cascadebench.evidence.metrics import EXACT
from cascadebench.evidence.quantities import Estimate, Key, MeasuredRun, estimate, is_in, is_of, place_of
from cascadebench.evidence.readings import under_readings
from cascadebench.evidence.verdicts import Question, Verdict, judge, study_questions
from cascadebench.metrics.coco.ground_truth import ALL
from cascadebench.metrics.coco.rules import IOUS
from cascadebench.study.run import Run
from cascadebench.study.study import Study
from cascadebench.study_loading import load_study
from cascadebench.uncertainty import seed_scatter as scatter_of_seeds
from cascadebench.uncertainty.curves import Measured
from cascadebench.uncertainty.intervals import ALPHA
from cascadebench.uncertainty.seed_scatter import PRIOR_FREEDOM, SeedScatter, seed_scatter, stages_and_gaps

POINT, AP = 0.01, 0.4
STAGES_ALIKE, ENDS_ALIKE = 0.5, 0.5
UNEQUAL = ("", "detectors", "frameworks", "stages", "at random")
Place = tuple[str, str] | Key
"""A curve of AP (test stage and area), or another number."""


def over_ious() -> np.ndarray:
    """Weights of two normal draws in the AP at every threshold, float64 [2, 10]; their mean has variance 1."""
    angle = np.linspace(0, np.arccos(ENDS_ALIKE), len(IOUS))
    weights = np.stack([np.cos(angle), np.sin(angle)])
    return weights / np.sqrt((weights.mean(axis=1) ** 2).sum())


WEIGHTS = over_ious()


class Drawn:
    """Studies of one cell: the runs of a study with other seeds, and numbers for them."""

    def __init__(self, study: Study, options: argparse.Namespace, cell: dict) -> None:
        self.options, self.cell = options, cell
        self.claims = study_claims(study)
        first = study.file.seeds[0]
        self.detectors = [one.run for one in study.runs if one.run.seed == first]
        self.runs = [[run.model_copy(update={"seed": seed}) for seed in range(cell["seeds"])] for run in self.detectors]
        self.places = [self._places(run) for run in self.detectors]
        audit = Audit(study.name, len(self.detectors) * cell["seeds"], 0, ())
        asked = study_questions(self.claims, self._measured(np.random.default_rng(0))[0], audit)
        # What is not comparable on the data of a study file has no place here, nor what is counted.
        self.questions = [replace(one, reasons=()) for one in asked if one.estimate.sampling != "exact"]
        needed = samples_needed(len(self.questions), ALPHA)
        if options.resamples < needed:
            sys.exit(f"--resamples: {options.resamples}; to decide one of {len(asked)} questions takes {needed}")

    def _places(self, run: Run) -> list[Place]:
        """What is measured of a run: its headline, and what the claims ask beside."""
        found: dict[Place, None] = {(run.variant.headline, ALL): None}
        for claim in (asked for one in self.claims for asked in under_readings(one)):
            for term in (term for term in claim.terms if is_of(term, run)):
                place = place_of(term, run)
                found[(place, term.area) if term.metric == "AP" else Key(term.metric, place, term.iou)] = None
        return list(found)

    def verdicts(self, random: np.random.Generator, number: int) -> tuple[list[Verdict], list[float]]:
        """Draw one study and judge it: its verdicts on sampled quantities, and the truth of each."""
        runs, scatter = self._measured(random)
        answered, truths = [], [self._truth(one) for one in self.questions]
        for question, truth in zip(self.questions, truths, strict=True):
            asked_of = question.framework, question.backbone
            here = [one for one in runs if is_in(asked_of, one.run)]
            found = estimate(question.claim, here, number, self.options.resamples, scatter)
            answered.append(replace(question, answer=moved(found, question.claim, truth)))
        return judge(answered), truths

    def has_effect(self, question: Question) -> bool:
        """Whether the effect is at this question."""
        only, first = self.options.only, self.detectors[0].framework
        asked = not only or (question.claim.id == only and question.framework.startswith(first))
        return asked and self.cell["effect"] > 0

    def _measured(self, random: np.random.Generator) -> tuple[list[MeasuredRun], SeedScatter | None]:
        """Numbers of every training of one study, and the scatter that the study would estimate."""
        detectors = zip(self.places, self._larger(random), strict=True)
        by_detector = [self._trainings(random, places, factor) for places, factor in detectors]
        runs = [
            MeasuredRun(
                run,
                curves={place: found for place, found in numbers.items() if not isinstance(place, Key)},
                others={place: found for place, found in numbers.items() if isinstance(place, Key)},
            )
            for detector, of_seeds in zip(self.runs, by_detector, strict=True)
            for run, numbers in zip(detector, of_seeds, strict=True)
        ]
        return runs, self._scatter(by_detector)

    def _scatter(self, by_detector: list[list[dict[Place, Measured]]]) -> SeedScatter | None:
        """What a study with these results would estimate."""
        if self.cell["seeds"] == 1:
            return None
        return seed_scatter(
            stages_and_gaps(
                {seed: numbers[place] for seed, numbers in enumerate(of_seeds)}
                for place in of_seeds[0]
                if not isinstance(place, Key) and place[1] == ALL
            )
            for of_seeds in by_detector
        )

    def _larger(self, random: np.random.Generator) -> list[float]:
        """By which factor the seeds of each detector scatter more than those of others."""
        factor, unequal, last = self.options.factor, self.options.unequal, self.detectors[-1]
        if unequal == "at random":
            return list(np.exp(np.log(factor) / 2 * random.standard_normal(len(self.detectors))))
        chosen = {
            "detectors": [run.variant == last.variant for run in self.detectors],
            "frameworks": [run.framework == last.framework for run in self.detectors],
        }.get(unequal, [False] * len(self.detectors))
        return [factor if is_chosen else 1.0 for is_chosen in chosen]

    def _trainings(
        self, random: np.random.Generator, places: list[Place], factor: float
    ) -> list[dict[Place, Measured]]:
        """The numbers of one detector in every training."""
        options, seeds, count = self.options, self.cell["seeds"], len(places)
        of_images = options.image_se * POINT / np.sqrt(2)
        alone, together = of_images * np.sqrt(options.own_share), of_images * np.sqrt(1 - options.own_share)
        alike = STAGES_ALIKE
        if options.unequal == "stages":  # then the same gap between stages scatters less over the images
            alike = 1 - (1 - STAGES_ALIKE) / options.factor**2
        common = together * noise(random, 1 + options.resamples, count, alike)
        found = []
        for _ in range(seeds):
            own = alone * noise(random, 1 + options.resamples, count, alike)
            trained = self.cell["seed_sd"] * factor * POINT / np.sqrt(2) * noise(random, 1, count, STAGES_ALIKE)[0]
            # The first is the validation set; its resamples are drawn around it.
            value = AP + trained + common[0] + own[0]
            draws = value + common[1:] + own[1:]
            found.append({place: measured(place, value[n], draws[:, n]) for n, place in enumerate(places)})
        return found

    def _truth(self, question: Question) -> float:
        """Where a claim's quantity truly is."""
        claim, beyond = question.claim, self.has_effect(question) * self.cell["effect"] * POINT
        if isinstance(claim.threshold, tuple):
            return claim.threshold[1] + beyond
        return claim.threshold + (beyond if claim.direction == "greater" else -beyond)


def moved(found: Estimate, claim: SourcedClaim, truth: float) -> Estimate:
    """An estimate whose truth is this: as drawn all APs are truly equal."""
    above, below = (AP * sum(term.coefficient for term in terms) for terms in (claim.quantity, claim.divided_by))
    by = truth - (above / below if claim.divided_by else above)
    samples = None if found.samples is None else found.samples + by
    by_seed = {seed: value + by for seed, value in found.by_seed.items()}
    return replace(found, point=found.point + by, samples=samples, by_seed=by_seed)


def noise(random: np.random.Generator, draws: int, places: int, alike: float) -> np.ndarray:
    """Noise of AP by IoU of places that correlate: float64 [draws, places, 10]; means over IoU have variance 1."""
    both = random.standard_normal((draws, 1 + places, len(WEIGHTS)))
    return (np.sqrt(alike) * both[:, :1] + np.sqrt(1 - alike) * both[:, 1:]) @ WEIGHTS


def measured(place: Place, value: np.ndarray, draws: np.ndarray) -> Measured:
    """A drawn curve of AP, or its mean as another number; a count is the same in every training."""
    if not isinstance(place, Key):
        return Measured(value, draws)
    if place.metric in EXACT:
        return Measured(AP)
    return Measured(value.mean(), draws.mean(axis=1) if place.metric.startswith("score") else None)


def simulate(study: Study, options: argparse.Namespace, cell: dict) -> dict:
    """All studies of a cell: shares of studies and of questions, between 0 and 1."""
    began, drawn = time.process_time(), Drawn(study, options, cell)
    wrong, decided, held, powers = [], [], [], {}
    for number in range(options.studies):
        random = np.random.default_rng([options.seed, number, cell["seeds"], round(1000 * cell["seed_sd"])])
        verdicts, truths = drawn.verdicts(random, number)
        errors, right = [], []
        for one, truth in zip(verdicts, truths, strict=True):
            is_decided, has_effect = one.word in ("supported", "not supported"), drawn.has_effect(one)
            is_right = is_decided and has_effect and (one.word == "supported") == one.claim.holds(truth)
            errors.append(is_decided and not is_right)
            if has_effect:
                right.append(is_right)
                powers.setdefault(one.claim.id, []).append(is_right)
            if one.interval:
                held.append(one.interval[0] <= truth <= one.interval[1])
        wrong.append(any(errors))
        decided.append(np.mean(right or [False]))
    return cell | {
        "study": study.name,
        "questions": len(verdicts),
        "wrong": float(np.mean(wrong)),
        "decided": float(np.mean(decided)),
        "held": float(np.mean(held)) if held else None,
        "by_claim": {name: float(np.mean(each)) for name, each in powers.items()},
        "seconds": time.process_time() - began,
    }


def cells(options: argparse.Namespace) -> Iterator[dict]:
    """Every cell, with what it depends on."""
    more = ("image_se", "own_share", "unequal", "factor", "prior", "studies", "resamples", "seed")
    for seeds, seed_sd, effect in product(options.seeds, options.seed_sd, options.effect):
        cell = {"seeds": seeds, "seed_sd": seed_sd, "effect": effect} | {name: getattr(options, name) for name in more}
        yield cell | ({"only": options.only} if options.only else {})


def print_table(found: Sequence[dict], options: argparse.Namespace) -> None:
    """Print the cells, and under each with an effect how often every claim is decided."""
    console = Console(width=120, highlight=False)
    console.print(f"python -m benchmarks.verdicts {' '.join(sys.argv[1:])}", markup=False)
    table = Table(box=SIMPLE)
    for name in ("seeds", "seed SD", "effect", "questions", "wrong studies", "decided rightly", "95% hold"):
        table.add_column(name, justify="right")
    for one in found:
        error = 100 * np.sqrt(max(one["wrong"] * (1 - one["wrong"]), 1e-9) / options.studies)
        table.add_row(
            str(one["seeds"]),
            f"{one['seed_sd']:g}",
            f"{one['effect']:g}",
            str(one["questions"]),
            f"{100 * one['wrong']:.1f}% ± {error:.1f}",
            f"{100 * one['decided']:.0f}%" if one["effect"] else "",
            "" if one["held"] is None else f"{100 * one['held']:.1f}%",
        )
        for name, power in one["by_claim"].items() if one["effect"] else ():
            table.add_row("", "", "", name, "", f"{100 * power:.0f}%", "")
    console.print(table)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="name or file of a study")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3])
    parser.add_argument("--seed-sd", type=float, nargs="+", default=[0.2], help="points")
    parser.add_argument("--effect", type=float, nargs="+", default=[0.0], help="points; 0: null")
    parser.add_argument("--only", default="", metavar="CLAIM", help="the claim that has the effect; default: all")
    parser.add_argument("--image-se", type=float, default=0.2, help="points")
    parser.add_argument("--own-share", type=float, default=0.5)
    parser.add_argument("--unequal", choices=UNEQUAL, default="")
    parser.add_argument("--factor", type=float, default=2.0)
    parser.add_argument("--prior", type=int, default=PRIOR_FREEDOM, help="degrees of freedom")
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=799, help="of the images in every study")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="JSON lines: cells that are in it are not simulated again")
    options = parser.parse_args()
    scatter_of_seeds.PRIOR_FREEDOM = options.prior
    log = options.log.read_text(encoding="utf-8") if options.log and options.log.exists() else ""
    study = load_study(options.study)
    if options.only and options.only not in study.file.claims:
        parser.error(f"--only {options.only}: the study's claims are {', '.join(study.file.claims)}")
    known, found = [json.loads(line) for line in log.splitlines()], []
    for cell in cells(options):
        about = cell | {"study": study.name}
        done = next((one for one in known if about.items() <= one.items()), None)
        if done is None:
            done = simulate(study, options, cell)
            if options.log:
                with options.log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(done) + "\n")
        found.append(done)
    print_table(found, options)


if __name__ == "__main__":
    main()
