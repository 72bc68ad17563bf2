"""Whether a question was registered before the trainings that it is about: by their times, and by what they noted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from cascadebench.core.files import read_object
from cascadebench.results.layout import ResultsFolder
from cascadebench.results.registered import Registration

Standing = Literal["registered before training", "added afterwards, exploratory"]
REGISTERED: Standing = "registered before training"
EXPLORATORY: Standing = "added afterwards, exploratory"


@dataclass(frozen=True)
class RegistrationState:
    """Whether a question was registered before the trainings that it is about, and why it is said so.

    No time and no digest is in it, so that the same study done twice gives the same tables: a registration is named by
    its number in ``registered.json``, the first by 1.
    """

    word: Standing
    why: str


@dataclass(frozen=True)
class Training:
    """When a training began and which registrations it found then, as ``trained.json`` says it."""

    run: str
    began: str | None
    """UTC; None: not recorded."""
    registered: tuple[str, ...] = ()


def find_trainings(results: ResultsFolder, runs: Sequence[str]) -> list[Training]:
    """What the finished trainings among the runs say of their beginning."""
    found = []
    for run in runs:
        path = results.run(run).trained
        if path.is_file():
            manifest = read_object(path)
            began, known = manifest.get("began"), manifest.get("registered")
            known = tuple(known) if isinstance(known, list) else ()
            found.append(Training(run, began if _is_time(began) else None, known))
    return found


def registration_state(
    question: Mapping[str, Any],
    rule: Mapping[str, Any],
    registrations: Sequence[Registration],
    trainings: Sequence[Training],
) -> RegistrationState:
    """Say whether a question was registered before the trainings that it is about.

    For each of them the last registration that it found when it began, and that is older, must hold this very question
    and this very rule.

    Parameters
    ----------
    question : mapping
        As :func:`registered_question` makes it.
    rule : mapping
        By which the verdict is given.
    registrations : sequence of Registration
        Of the study, in their order.
    trainings : sequence of Training
        Those of the question's runs that are finished.
    """
    if not registrations:
        return RegistrationState(EXPLORATORY, "the study was never registered")
    in_force = [_in_force(training, registrations) for training in trainings]
    if None in in_force:
        return RegistrationState(EXPLORATORY, _too_late(trainings[in_force.index(None)], registrations))
    # Where nothing is trained yet, what is registered now is what the trainings will find.
    numbers = sorted(set(in_force)) or [len(registrations)]
    for number in numbers:
        if problem := _otherwise(question, rule, registrations[number - 1]):
            return RegistrationState(EXPLORATORY, f"{problem} in registration {number}")
    several = "registrations" if len(numbers) > 1 else "registration"
    return RegistrationState(REGISTERED, f"{several} {', '.join(map(str, numbers))}")


def _in_force(training: Training, registrations: Sequence[Registration]) -> int | None:
    """Number of the last registration that a training found, if it says so and the times agree."""
    found = [number for number, one in enumerate(registrations, start=1) if one.sha256 in training.registered]
    agree = found and training.began and _is_before(registrations[found[-1] - 1].time, training.began)
    return found[-1] if agree else None


def _is_time(value: Any) -> bool:
    """Whether a value is a time as every file says it; others cannot be compared."""
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _is_before(time: str, other: str) -> bool:
    return datetime.fromisoformat(time) <= datetime.fromisoformat(other)


def _too_late(training: Training, registrations: Sequence[Registration]) -> str:
    """Why a training has no registration of the study before it."""
    if training.began is None:
        return f"{training.run}: when its training began is not recorded"
    if not _is_before(registrations[0].time, training.began):
        return f"{training.run}: its training began before registration 1"
    return f"{training.run}: its training found no registration of this study when it began"


def _otherwise(question: Mapping[str, Any], rule: Mapping[str, Any], registration: Registration) -> str:
    """What a registration says otherwise than a question and its rule; empty if nothing."""
    held = registration.digests.get(question["question"])
    if held != question["sha256"]:
        return "the question is not" if held is None else "the question is another"
    differing = [key for key in {**rule, **registration.rule} if rule.get(key) != registration.rule.get(key)]
    return f"the rule of judgement is another ({', '.join(differing)})" if differing else ""
