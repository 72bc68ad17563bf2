"""What a study registers before it trains: its questions, and how they are judged.

A question stands in a registration with everything that decides it: the claim as written, the framework, the backbone
and the planned runs. Another seed, protocol or dataset is another run and so another question; a further hypothesis
leaves the others as they are.
"""

from collections.abc import Mapping
from typing import Any

from cascadebench.evidence.claims import SourcedClaim
from cascadebench.evidence.hypotheses import study_claims
from cascadebench.evidence.quantities import is_in, is_of
from cascadebench.evidence.readings import asked_in, question_name
from cascadebench.evidence.verdicts import JUDGEMENT
from cascadebench.metrics.coco import EVALUATION_REVISION
from cascadebench.results.registered import digest
from cascadebench.study.run import Run
from cascadebench.study.study import Study

WORDS_ALONE = {"place", "reason", "title", "source", "link", "readings"}
"""Fields of a claim that say where it comes from and why; a question is the same whatever they say."""


def rule_of(bootstrap_seed: int = 0) -> dict[str, Any]:
    """How verdicts are given: a study that is judged otherwise was not registered so."""
    return {**JUDGEMENT, "evaluation_revision": EVALUATION_REVISION, "bootstrap_seed": bootstrap_seed}


def study_content(study: Study) -> dict[str, Any]:
    """What is registered of a study: its questions, how they are judged, its planned runs and its dataset."""
    runs = {planned.run.id: planned.run for planned in study.runs}
    questions = [registered_question(*one, runs) for one in asked_in(study_claims(study), list(runs.values()))]
    dataset = {"name": study.dataset.name, "sha256": study.dataset.digest()}
    return {
        "study": study.name,
        "dataset": dataset,
        "rule": rule_of(),
        "runs": list(runs),
        "questions": questions,
    }


def registered_question(claim: SourcedClaim, framework: str, backbone: str, runs: Mapping[str, Run]) -> dict[str, Any]:
    """A question as it stands in a registration.

    Parameters
    ----------
    runs : mapping
        All planned runs of the study by id.

    Returns
    -------
    dict
        Fields of :class:`cascadebench.results.registered.RegisteredQuestion`.
    """
    here = {name: run for name, run in runs.items() if is_in((framework, backbone), run)}
    # Without defaults: a field that a later version adds makes no other question of it.
    asked = claim.model_dump(mode="json", exclude_defaults=True, exclude=WORDS_ALONE)
    about = [name for name, run in here.items() if any(is_of(term, run) for term in claim.terms)]
    question = {"question": question_name(claim, framework, backbone), "asked": asked, "runs": sorted(about)}
    return question | {"sha256": digest(question)}
