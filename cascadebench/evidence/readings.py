"""Claims under readings: what a verdict stands on where the sources of a method leave options open.

A card marks the options whose value is a reading of its sources. A claim may ask several readings, sets of such
options; each is a question of its own, and a study asks those that it runs.
"""

import json
from collections.abc import Mapping, Sequence

from cascadebench.detectors.cards import Value
from cascadebench.evidence.claims import SourcedClaim, Term
from cascadebench.evidence.published import complete_options
from cascadebench.evidence.quantities import is_of
from cascadebench.study.run import Run


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
    """Every question of a study: a claim under a reading, a framework and a backbone."""
    conditions: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        conditions.setdefault((run.framework, run.backbone.name), []).append(run)
    return [(asked, *here) for claim in claims for here in conditions for asked in asked_of(claim, conditions[here])]


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
