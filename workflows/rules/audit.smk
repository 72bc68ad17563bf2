# The controls and witnesses of all runs against each other and against the protocol. Nothing trains while one is violated.


rule audit:
    input:
        expand("results/runs/{run}/controls.json", run=STUDY.run_ids),
        expand("results/runs/{run}/witness.json", run=STUDY.run_ids),
    # audit.json and audit.csv are written on a violation too, so that the report can show it; no rule declares them, or
    # Snakemake would delete them. What lets the trainings begin is this stamp, which no audit by hand can write.
    output:
        touch(f"results/studies/{STUDY.name}/audit.passed"),
    log:
        f"results/logs/audit/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/audit/{STUDY.name}.tsv"
    conda:
        "../../environment.yml"
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=5,
    params:
        study=STUDY_NAME,
        # What the audit goes by beside the readings.
        baseline=STUDY.file.baseline,
        accepted=[one.model_dump_json() for one in STUDY.file.accepted_violations],
        labels=[planned.label for planned in STUDY.runs],
        treatments=[sorted(planned.treatment) for planned in STUDY.runs],
        values=[sorted(planned.values.items()) for planned in STUDY.runs],
        division=[EXECUTION.gpus, EXECUTION.accumulation],
    shell:
        "python -m cascadebench audit {params.study:q} > {log:q} 2>&1"
