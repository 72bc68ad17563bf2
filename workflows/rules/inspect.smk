# Effective values and cost of every run, read back from built objects, before anything trains. Many runs a job: importing
# a framework takes longer than inspecting a run. Not all of them: Snakemake notes all inputs of a job for each output.
INSPECTED_TOGETHER = 50

for framework in STUDY.file.frameworks:
    for part, runs_inspected in enumerate(
        STUDY.parts(framework, INSPECTED_TOGETHER), start=1
    ):

        rule:
            name:
                f"inspect_{framework}" + (f"_{part}" if part > 1 else "")
            input:
                expand("results/runs/{run}/run.yaml", run=runs_inspected),
            output:
                expand("results/runs/{run}/controls.json", run=runs_inspected),
                expand("results/runs/{run}/cost.json", run=runs_inspected),
                expand("results/runs/{run}/witness.json", run=runs_inspected),
            log:
                f"results/logs/inspect/{STUDY.name}-{framework}-{part}.log",
            benchmark:
                f"results/benchmarks/inspect/{STUDY.name}-{framework}-{part}.tsv"
            conda:
                "../../environment.yml"
            resources:
                gpu=0,
                mem_mb=6000,
                runtime=60,
            params:
                framework=framework,
                # An edited module may build something else, which the audit has not seen. A variant from outside the
                # project has a part of its own, so that its edits and mistakes leave the others alone.
                code=building_digest(
                    framework,
                    frozenset(STUDY.run(run).variant.home for run in runs_inspected),
                ),
            shell:
                "python -m adapters {params.framework:q} inspect --run {input:q} --out results/runs --each > {log:q} 2>&1"


# Target for a look before any training: snakemake inspections --cores 2
rule inspections:
    input:
        expand("results/runs/{run}/cost.json", run=STUDY.run_ids),
