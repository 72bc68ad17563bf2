"""How this project reads the sources of the detectors of a study: what they leave open, and what was decided."""

from collections.abc import Iterable
from dataclasses import dataclass

from cascadebench.core.configuration import read_model
from cascadebench.detectors.cards import VariantCard
from cascadebench.evidence.claims import load_claims
from cascadebench.report.data.study_results import StudyResults


@dataclass(frozen=True)
class ReadMethod:
    """A variant whose card has readings, and what its card says."""

    name: str
    title: str
    sources: tuple[str, ...]
    readings: tuple[str, ...]
    open_options: tuple[str, ...]
    """Options that are readings themselves, each with why: the sources do not give it, or they disagree."""

    @property
    def anchor(self) -> str:
        """Anchor of its readings in the page."""
        return f"readings-{self.name}"


def read_methods(results: StudyResults) -> dict[str, ReadMethod]:
    """The variants of a study whose cards have readings, by name, in the order of the study."""
    homes = {planned.run.variant.name: planned.run.variant.home for planned in results.study.runs}
    cards = [read_model(VariantCard, home / "card.yaml") for home in homes.values()]
    return {
        card.name: ReadMethod(card.name, card.title, card.sources, card.readings, _open_options(card))
        for card in cards
        if card.readings
    }


def variants_of(claims: Iterable[str]) -> list[str]:
    """Names of the variants that claims are about, in their order."""
    known = [load_claims()[name] for name in dict.fromkeys(claims) if name in load_claims()]
    return list(dict.fromkeys(term.variant for claim in known for term in claim.terms))


def _open_options(card: VariantCard) -> tuple[str, ...]:
    return tuple(f"{name} ({option.reading})" for name, option in card.options.items() if option.reading)
