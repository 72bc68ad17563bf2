"""Whether two frameworks give a detector the same AP: a question of equivalence, judged with the claims of a study.

An interval of the difference that holds 0 says that it was not told from 0, which few images and few seeds always give.
Equal is what the interval proves to be smaller than a margin.
"""

import json
from itertools import combinations

from cascadebench.detectors.cards import Value, load_framework_card
from cascadebench.evidence.claims import SourcedClaim, Term, find_claims
from cascadebench.evidence.published import complete_options
from cascadebench.study.run import ChosenVariant
from cascadebench.study.study import Study

TITLE = "Frameworks"
"""Source of these questions in ``verdicts.csv``."""
MARGIN = 0.01
REASON = "A point of AP is the smallest gain that a claim here puts a number on."


def claims_of(study: Study) -> list[SourcedClaim]:
    """Everything that a study asks: its published claims, and the agreement of its frameworks."""
    return [*find_claims(study.file.claims, f"study {study.name}: claims"), *agreement_claims(study)]


def agreement_claims(study: Study) -> list[SourcedClaim]:
    """Ask for every detector and every two frameworks whether its headline AP is equal within :data:`MARGIN`.

    Variants from folders outside the project are not asked: a claim's terms name the project's own.
    """
    detectors = {one.label: one.run.variant for one in study.runs if one.run.variant.folder is None}
    return [
        SourcedClaim(
            id=agreement_id(variant),
            words=f"{label} has about the same AP in {' and '.join(load_framework_card(name).title for name in pair)}.",
            place="",
            quantity=tuple(
                Term(variant=variant.name, options=_given(variant), framework=name, coefficient=sign)
                for name, sign in zip(pair, (1, -1), strict=True)
            ),
            asks="equal",
            margin=MARGIN,
            reason=REASON,
            title=TITLE,
            source="this project",
        )
        for pair in combinations(study.file.frameworks, 2)
        for label, variant in detectors.items()
    ]


def agreement_id(variant: ChosenVariant) -> str:
    """Id of the question about one detector."""
    options = "".join(f",{name}={json.dumps(value)}".replace('"', "") for name, value in _given(variant).items())
    return f"frameworks-agree-{variant.name}{options}"


def _given(variant: ChosenVariant) -> dict[str, Value]:
    """Options that are not the card's defaults."""
    defaults = complete_options(variant.name, {}, "frameworks")
    return {name: value for name, value in variant.options.items() if value != defaults[name]}
