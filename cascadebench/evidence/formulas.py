"""A claim's quantity as a formula: what is measured, of which detectors, at which test stages."""

import json
from collections.abc import Sequence
from functools import cache

from cascadebench.detectors.cards import load_framework_card
from cascadebench.detectors.variant_catalog import FoundVariant, find_variant
from cascadebench.evidence.claims import Claim, Term
from cascadebench.evidence.metrics import OF_IOU_RANGE
from cascadebench.evidence.quantities import place_in
from cascadebench.study.run import chosen_variant


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
    return _found(term.variant).card.title + (f" ({options})" if options else "")


def _place(term: Term) -> str:
    """Test stage, or the stage that proposals enter, and the framework if it matters."""
    found = _found(term.variant)
    options = found.card.complete_options(dict(term.options), "claim")
    place = place_in(term, chosen_variant(found, options, "claim"))
    framework = f"in {load_framework_card(term.framework).title}" if term.framework else ""
    return " ".join(filter(None, [f"entering {place}" if place.startswith("stage") else place, framework]))


@cache
def _found(variant: str) -> FoundVariant:
    return find_variant(variant, "claim")
