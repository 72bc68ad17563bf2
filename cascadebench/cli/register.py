"""``cascadebench register``: write down what a study asks before it trains."""

from cascadebench.cli.arguments import Results, StudyName
from cascadebench.results.layout import RESULTS, ResultsFolder
from cascadebench.study_loading import load_study


def register(study: StudyName, results: Results = RESULTS) -> None:
    """Register a study's hypotheses and claims and how they are judged, before it trains; the pipeline does it too."""
    from cascadebench.evidence.registration.content import study_content
    from cascadebench.execution.provenance import project_state
    from cascadebench.results import registered

    planned, folders = load_study(study), ResultsFolder(results)
    content, path = study_content(planned), folders.study(planned.name).registered
    if not content["questions"]:
        print(f"study {planned.name}: nothing to register: no claims and no hypotheses")
        return
    before = registered.read_registrations(path)
    new = registered.register(path, content, project_state())
    if new is None:
        print(f"{path}: unchanged since registration {len(before)}, {registered.said(before[-1])}")
    else:
        print(f"{path}: registration {len(before) + 1}, {registered.said(new)}")
        asked = {one["question"]: one["sha256"] for one in content["questions"]}
        for word, names in registered.changes(before, asked).items():
            if word == "unchanged":
                names = [f"{len(names)} of {len(asked)} questions"] if before else []
            print("".join(f"{word}: {name}\n" for name in names), end="")
    begun = sum(folders.run(run).checkpoints.exists() or folders.run(run).trained.exists() for run in planned.run_ids)
    if begun and new is not None:
        print(
            f"{begun} of {len(planned.runs)} trainings have begun: what is new or changed here is exploratory on them"
        )
