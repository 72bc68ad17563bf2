"""What a study asks of itself: ``hypotheses:`` in its file, in the grammar of claims, and whether its frameworks agree.

They are judged with the claims, in one family. Data, network and protocol are the study's own, so that nothing but a
violation of its controls makes one of them not comparable.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Annotated, Self

from annotated_types import MinLen
from pydantic import ConfigDict, model_validator

from cascadebench.core.configuration import read_model, validated
from cascadebench.core.errors import InputError
from cascadebench.detectors.cards import Value, VariantCard, load_framework_card
from cascadebench.evidence.claims import Claim, SourcedClaim, Term, find_claims, load_claims
from cascadebench.evidence.metrics import OF_MODEL
from cascadebench.evidence.quantities import place_of
from cascadebench.study.run import ChosenVariant, Run
from cascadebench.study.study import Study
from cascadebench.study.study_file import StudyFile

TITLE = "This study's hypotheses"
"""What stands where a claim has the short name of its source."""
AGREEMENT = "Frameworks"
"""The same of the questions whether frameworks agree."""
AGREEMENT_MARGIN = 0.01
AGREEMENT_REASON = "A point of AP is the smallest gain that a claim here puts a number on."


class HypothesisTerm(Term):
    """A term of a hypothesis: a claim's, but for the run, which the study's own label can name too."""

    variant: str = ""
    """Name of a variant of the study, wherever its folder lies; with `options` as the study's file gives them."""
    label: str = ""
    """Label of a variant of the study, in place of `variant` and `options`."""

    @model_validator(mode="after")
    def _names_a_run(self) -> Self:
        if bool(self.variant) == bool(self.label):
            raise ValueError("variant: either a variant, with its options, or a label of the study is needed")
        if self.label and self.options:
            raise ValueError("options: a label stands for a variant with its options; leave them out")
        if self.published is not None:
            raise ValueError("published: only claims have printed values")
        return self


class Hypothesis(Claim):
    """One entry of ``hypotheses`` in a study's file; ``claimed_on``, ``published`` and ``readings`` are of claims."""

    place: str = ""
    """Where it comes from, if anywhere, such as a page of a notebook."""
    quantity: Annotated[tuple[HypothesisTerm, ...], MinLen(1)]
    divided_by: tuple[HypothesisTerm, ...] = ()

    @model_validator(mode="after")
    def _is_of_the_study(self) -> Self:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.id):
            raise ValueError("id: letters, digits and . _ - are allowed, and no blank")
        if self.claimed_on is not None:
            raise ValueError("claimed_on: a hypothesis is about the data and the protocol of its study; leave it out")
        if self.readings:
            raise ValueError("readings: only claims have them; give each set of options a hypothesis of its own")
        return self


class StudyFileWithHypotheses(StudyFile):
    """``config/studies/<name>.yaml``."""

    model_config = ConfigDict(title=StudyFile.__name__)  # the schema's: it is the same file, said in full
    hypotheses: tuple[Hypothesis, ...] = ()


class RunTerm(Term):
    """A term of a hypothesis whose variant is found: it is read off the study's runs of exactly that."""

    chosen: ChosenVariant
    reading_names: tuple[str, ...]

    def all_options(self) -> dict[str, Value]:
        """Every option of the variant."""
        return self.chosen.options

    def reading_options(self) -> list[str]:
        """Names of the options that the variant's card marks as readings of its sources."""
        return list(self.reading_names)

    def detector(self) -> ChosenVariant:
        """The variant with its options."""
        return self.chosen

    def is_of(self, variant: ChosenVariant) -> bool:
        """Whether a run of this variant has the term."""
        own = self.chosen
        return (variant.name, variant.options, variant.folder) == (own.name, own.options, own.folder)


def study_claims(study: Study) -> list[SourcedClaim]:
    """Everything that a study asks: the claims that it names, its own hypotheses, whether its frameworks agree."""
    claims = find_claims(study.file.claims, f"study {study.name}: claims")
    return [*claims, *hypotheses_of(study), *agreement_claims(study)]


def agreement_claims(study: Study) -> list[SourcedClaim]:
    """Ask of every detector and every two frameworks whether its headline AP is equal within :data:`AGREEMENT_MARGIN`.

    An interval of the difference that holds 0 says that it was not told from 0, as few images and few seeds always say.
    """
    return [
        SourcedClaim(
            id=agreement_id(run.variant),
            words=f"{label} has about the same AP in {' and '.join(load_framework_card(name).title for name in pair)}.",
            place="",
            quantity=tuple(
                _of_run(Term(variant=run.variant.name, framework=name, coefficient=sign), run)
                for name, sign in zip(pair, (1, -1), strict=True)
            ),
            asks="equal",
            margin=AGREEMENT_MARGIN,
            reason=AGREEMENT_REASON,
            title=AGREEMENT,
            source="this project",
        )
        for pair in combinations(study.file.frameworks, 2)
        for label, run in _by_label(study).items()
    ]


def agreement_id(variant: ChosenVariant) -> str:
    """Id of the question whether frameworks agree on a detector."""
    options = "".join(f",{name}={json.dumps(value)}".replace('"', "") for name, value in _changed(variant).items())
    return f"frameworks-agree-{variant.name}{options}"


def hypotheses_of(study: Study, asked_by: str = "") -> list[SourcedClaim]:
    """The hypotheses of a study as questions to its runs.

    Parameters
    ----------
    asked_by : str
        File and key, for messages; default: the study's name.

    Raises
    ------
    InputError
        A malformed entry, an id that is taken, a variant, label, option or test stage that the study does not have.

    Examples
    --------
    >>> hypotheses_of(load_study("tiny"))
    []
    """
    asked_by = asked_by or f"study {study.name}: hypotheses"
    found: dict[str, SourcedClaim] = {}
    for number, entry in enumerate(study.file.hypotheses):
        place = f"{asked_by}[{number}]"
        one = validated(Hypothesis, entry, place)
        if one.id in found:
            raise InputError(f"{place}.id: {one.id!r} is given twice")
        if one.id in load_claims():
            raise InputError(f"{place}.id: {one.id!r} is the id of a published claim; choose another")
        given = {name: getattr(one, name) for name in Claim.model_fields}
        for key in ("quantity", "divided_by"):
            terms = enumerate(given[key])
            given[key] = tuple(_found(term, study, f"{place}.{key}.{position}") for position, term in terms)
        found[one.id] = SourcedClaim(**given, title=TITLE, source=f"the file of the study {study.name}")
    return list(found.values())


def _found(term: HypothesisTerm, study: Study, asked_by: str) -> RunTerm:
    """The term with its variant of the study."""
    run = _labelled(term.label, study, asked_by) if term.label else _named(term, study, asked_by)
    found = _of_run(term, run)
    _check_place(found, run, f"{asked_by}.at")
    return found


def _of_run(term: Term, run: Run) -> RunTerm:
    """The term, read off runs of this one's variant."""
    chosen, options = run.variant, _card(run.variant).options
    readings = tuple(name for name, option in options.items() if option.reading)
    given = {name: getattr(term, name) for name in Term.model_fields}
    given |= {"variant": chosen.name, "options": _changed(chosen)}
    return RunTerm(**given, chosen=chosen, reading_names=readings)


def _changed(variant: ChosenVariant) -> dict[str, Value]:
    """Options that are not the card's defaults."""
    options = _card(variant).options
    return {name: value for name, value in variant.options.items() if value != options[name].default}


def _labelled(label: str, study: Study, asked_by: str) -> Run:
    by_label = _by_label(study)
    if label not in by_label:
        raise InputError(f"{asked_by}.label: {label!r} is not in the study; there are: {', '.join(by_label)}")
    return by_label[label]


def _named(term: HypothesisTerm, study: Study, asked_by: str) -> Run:
    """The run of a variant with options; those left out have the card's defaults, as in the study's file."""
    named = {label: run for label, run in _by_label(study).items() if run.variant.name == term.variant}
    if not named:
        there = ", ".join(dict.fromkeys(run.variant.name for run in _by_label(study).values()))
        raise InputError(f"{asked_by}.variant: {term.variant!r} is not in the study; there are: {there}")
    options = _card(next(iter(named.values())).variant).complete_options(term.options, f"{asked_by}.options")
    run = next((run for run in named.values() if run.variant.options == options), None)
    if run is None:
        raise InputError(
            f"{asked_by}.options: the study does not run {term.variant} with these options; "
            f"its {term.variant} are the labels: {', '.join(named)}"
        )
    return run


def _by_label(study: Study) -> Mapping[str, Run]:
    """A run of every label, in the order of the study."""
    found: dict[str, Run] = {}
    for planned in study.runs:
        found.setdefault(planned.label, planned.run)
    return found


def _card(variant: ChosenVariant) -> VariantCard:
    return _read_card(variant.home)


@cache
def _read_card(folder: Path) -> VariantCard:
    return read_model(VariantCard, folder / "card.yaml")


def _check_place(term: RunTerm, run: Run, asked_by: str) -> None:
    """Refuse a test stage that the variant does not have."""
    if term.metric in OF_MODEL:
        return
    place, variant = place_of(term, run), run.variant
    known = [stage.label for stage in variant.test_stages]
    if term.metric.startswith("proposal"):
        known = [f"stage {number}" for number in range(1, variant.stages + 2)]
    if place not in known:
        raise InputError(f"{asked_by}: {term.at!r}: {variant.name} has no {place}; it has: {', '.join(known)}")
