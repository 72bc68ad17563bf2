"""``cascadebench plan``: what a study will run, and what it will decide."""

import json

from rich.console import Console

from cascadebench.cli.arguments import Json, Results, StudyName
from cascadebench.results.layout import RESULTS
from cascadebench.study_loading import load_study


def plan(study: StudyName, results: Results = RESULTS, as_json: Json = False) -> None:
    """Check a study; list its runs with the hours and the disk that they take, and the effects that it decides."""
    from cascadebench.evidence.power import plan_output, planned
    from cascadebench.execution.plan import plan_study
    from cascadebench.execution.plan_output import json_of, print_plan

    loaded = load_study(study)
    plans, questions = plan_study(loaded, results), planned.planned_questions(loaded, results)
    if as_json:
        effects = planned.json_of(questions, plan_output.shown_seeds(loaded))
        print(json.dumps(json_of(loaded, plans) | {"decides": effects}, indent=2, allow_nan=False))
        return
    console = Console(width=10_000)  # as wide as its ids: they are there to be copied
    print_plan(loaded, plans, console)
    plan_output.print_effects(loaded, questions, console)
