"""A claim in words: its quantity as a formula, and what it stands on where the sources of a method leave options open.

A card marks the options whose value is a reading of its sources. A claim may ask several readings, sets of such
options; each is a question of its own, and a study asks those that it runs.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from cascadebench.core.configuration import read_model
from cascadebench.detectors.cards import Value, VariantCard, load_framework_card
from cascadebench.evidence.claims import Claim, SourcedClaim, Term
from cascadebench.evidence.metrics import OF_IOU_RANGE
from cascadebench.evidence.published import complete_options
from cascadebench.evidence.quantities import is_in, is_of, place_in, places
from cascadebench.study.run import Run


def formula(claim: Claim) -> str:
    """Write the quantity of a claim with its IoU range and its test stages.

    Examples
    --------
    >>> from cascadebench.evidence.claims import load_claims
    >>> formula(load_claims()["cascade-loses-low-iou"])
    'AP[0.50:0.65] of Cascade R-CNN (3,3) - (2,2)'
    """
    # What all terms share is said once, before them.
    first, shared = claim.quantity[0], []
    if len({_measure(term) for term in claim.terms}) == 1:
        shared.append(f"{_measure(first)} of")
        if len({_detector(term) for term in claim.terms}) == 1:
            shared.append(_detector(first))
    sums = [_sum(terms, len(shared)) for terms in (claim.quantity, claim.divided_by) if terms]
    if len(claim.terms) > len(sums) > 1:
        sums = [f"({one})" for one in sums]
    return " ".join([*shared, " / ".join(sums)])


def _sum(terms: Sequence[Term], told: int) -> str:
    """Terms with their signs; `told`: 1 if their measure is told before them, 2 if their detector is, too."""
    text = ""
    for term in terms:
        sign = "-" if term.coefficient < 0 else "+"
        text += f" {sign} " if text else sign.strip("+")
        text += f"{abs(term.coefficient):g} × " if abs(term.coefficient) != 1 else ""
        text += " ".join([f"{_measure(term)} of", _detector(term), _place(term)][told:]).strip()
    return text


def _measure(term: Term) -> str:
    """Metric with its range of IoU: ``AP50``, ``AP[0.50:0.95]``."""
    low, high = term.ends
    ends, area = f"{low:.2f}:{high:.2f}", "" if term.area == "all" else f", {term.area} objects"
    if term.metric == "AP":
        return f"AP{round(100 * low)}" if low == high and not area else f"AP[{ends}{area}]"
    name = "FLOPs" if term.metric == "flops" else term.metric.replace("_", " ")
    return f"{name}[{ends}]" if term.metric in OF_IOU_RANGE else name


def _detector(term: Term) -> str:
    """Title of the variant's card, with the options that are not the card's."""
    options = ", ".join(f"{name}={json.dumps(value)}".replace('"', "") for name, value in term.options.items())
    return _title(term.detector().home) + (f" ({options})" if options else "")


def _place(term: Term) -> str:
    """Test stage, or the stage that proposals enter, and the framework if it matters."""
    place = place_in(term, term.detector())
    framework = f"in {load_framework_card(term.framework).title}" if term.framework else ""
    return " ".join(filter(None, [f"entering {place}" if place.startswith("stage") else place, framework]))


@cache
def _title(folder: Path) -> str:
    return read_model(VariantCard, folder / "card.yaml").title


def under_readings(claim: SourcedClaim) -> list[SourcedClaim]:
    """The claim under each of its readings, those that come to the same once; without readings itself alone."""
    if not claim.readings:
        return [claim]
    found: list[SourcedClaim] = []
    for reading in claim.readings:
        quantity, divided_by = (
            tuple(_read_so(term, reading) for term in terms) for terms in (claim.quantity, claim.divided_by)
        )
        if (quantity, divided_by) not in [(one.quantity, one.divided_by) for one in found]:
            changed = {"quantity": quantity, "divided_by": divided_by, "reading": _beyond_the_cards(claim, reading)}
            found.append(claim.model_copy(update=changed))
    return found


def asked_of(claim: SourcedClaim, runs: Sequence[Run]) -> list[SourcedClaim]:
    """The claim under those of its readings that the runs are of; if of none, the first says what is missing."""
    found = under_readings(claim)
    here = [one for one in found if all(any(is_of(term, run) for run in runs) for term in one.terms)]
    return here or found[:1]


def asked_in(claims: Sequence[SourcedClaim], runs: Sequence[Run]) -> list[tuple[SourcedClaim, str, str]]:
    """Every question of a study: a claim under a reading, a framework or the difference of two, and a backbone."""
    return [
        (asked, *place)
        for claim in claims
        for place in places(claim, runs)
        for asked in asked_of(claim, [run for run in runs if is_in(place, run)])
    ]


def question_name(claim: SourcedClaim, framework: str, backbone: str) -> str:
    """Name of a question in all tables of a study; a reading other than the cards' own stands in it."""
    reading = ",".join(f"{name}={json.dumps(value)}".replace('"', "") for name, value in claim.reading.items())
    return " ".join(filter(None, [claim.id, framework, backbone, reading]))


def readings_left_out(claim: SourcedClaim, runs: Sequence[Run]) -> list[str]:
    """A note of how many of a claim's readings the runs are not of; empty if there are none."""
    asked, here = len(under_readings(claim)), len(asked_of(claim, runs))
    return [f"{asked - here} of {asked} readings are not in the study"] if here < asked else []


def described(claim: SourcedClaim) -> str:
    """What a claim's variants are read as, such as ``fscascade: merge=mean, share_gradient=true, embed=linear``.

    Options of which terms have several values have all of them; the text is empty where no variant has readings.
    """
    said: dict[str, dict[str, list[str]]] = {}
    for term in claim.terms:
        options = term.all_options()
        for name in term.reading_options():
            values = said.setdefault(term.variant, {}).setdefault(name, [])
            value = json.dumps(options[name]).strip('"')
            values += [value] if value not in values else []
    texts = {
        variant: ", ".join(f"{name}={'/'.join(values)}" for name, values in options.items())
        for variant, options in said.items()
    }
    return "; ".join(f"{variant}: {text}" for variant, text in texts.items())


def over_readings(words: Sequence[str]) -> list[str]:
    """A note of how often each verdict is given over the readings of a claim in one place; empty of one reading."""
    counted = ", ".join(f"{word} under {words.count(word)}" for word in dict.fromkeys(words))
    return [f"over {len(words)} readings: {counted}"] if len(words) > 1 else []


def _beyond_the_cards(claim: SourcedClaim, reading: Mapping[str, Value]) -> dict[str, Value]:
    """What of a reading is not the default of a card, so that the cards' own reading is named by nothing."""
    cards = [complete_options(term.variant, {}, "claim") for term in claim.terms]
    of_cards = next(defaults for defaults in cards if set(reading) <= set(defaults))
    return {name: value for name, value in reading.items() if value != of_cards[name]}


def _read_so(term: Term, reading: Mapping[str, Value]) -> Term:
    """A term under a reading; one whose variant lacks an option of it stays as it is."""
    defaults = complete_options(term.variant, {}, "claim")
    if not set(reading) <= set(defaults):
        return term
    options = term.options | dict(reading)
    return term.model_copy(
        update={"options": {name: value for name, value in options.items() if value != defaults[name]}}
    )
