# CascadeBench: prepare -> inspect -> audit, register -> train -> predict -> evaluate, diagnose -> aggregate -> report.
#   snakemake --cores 2                                   the embedded study into reports/tiny.html
#   snakemake --cores 2 --config study=blood_cells        another study of config/studies/, or a path to a file
#   snakemake --cores 2 --config study=tiny shared_results=/path/of/a/colleague/results
#   snakemake --profile profiles/slurm --config study=coco_1x
import os
import shlex
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")

from cascadebench.core.errors import InputError
from cascadebench.evidence.claims import as_written
from cascadebench.evidence.hypotheses import study_claims
from cascadebench.evidence.registration.content import study_content
from cascadebench.metrics.coco import EVALUATION_REVISION
from cascadebench.study.proposal_swaps import ProposalSource
from cascadebench.execution.shared_runs import SHARED_RESULTS, shared_folder
from cascadebench.results.registered import digest
from cascadebench.study_loading import load_study
from cascadebench.detectors.variant_sources import building_digest

STUDY_NAME = str(config.get("study", "tiny"))
try:
    STUDY = load_study(STUDY_NAME)
    # A folder of results of somebody else, whose finished runs are taken; not part of the study.
    if "shared_results" in config:
        os.environ[SHARED_RESULTS] = str(
            shared_folder(str(config["shared_results"]), Path("results"))
        )
except InputError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)

# Imported detections that are there; the report names the others.
IMPORTED = [
    f"results/imported/{name}/{file}"
    for name in STUDY.file.imported
    for file in ("imported.json", "detections.parquet", "ap.parquet")
    if Path(f"results/imported/{name}/imported.json").exists()
]
EXECUTION = STUDY.file.execution
# Rules call the Python that runs Snakemake, whether or not its environment was activated.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)


wildcard_constraints:
    # Not the ids themselves: matching every file against a thousand of them takes longer than all else.
    run=r"[^/]+-seed\d+-[0-9a-f]{10}",


localrules:
    all,
    freeze,
    audit,
    register,
    aggregate,
    report,


rule all:
    default_target: True
    input:
        f"reports/{STUDY.name}.html",
        # Named here too: the report of a study with a failed run exists, but the study is not done.
        expand("results/runs/{run}/ap.parquet", run=STUDY.run_ids),


include: "workflows/rules/prepare.smk"
include: "workflows/rules/inspect.smk"
include: "workflows/rules/audit.smk"
include: "workflows/rules/register.smk"
include: "workflows/rules/train.smk"
include: "workflows/rules/predict.smk"
include: "workflows/rules/evaluate.smk"
include: "workflows/rules/diagnose.smk"
include: "workflows/rules/report.smk"


# When a run fails the others carry on; the report of what is there, with the failure in it, is written either way.
# A refused dataset is wrong input: its one line, exit code 2, and no report of runs that could not begin.
onerror:
    refusal, prepared = Path(rules.prepare.log[0]), Path(rules.prepare.output[0])
    if not prepared.exists() and refusal.exists():
        print(refusal.read_text(), end="", file=sys.stderr)
        sys.exit(2)
    # Each says what it lacks; the page is written whatever the others could do. Without a dataset none has anything.
    if prepared.exists():
        for command in ("aggregate", "intervals", "examples", "report"):
            shell("python -m cascadebench {command} {STUDY_NAME:q} || true")
