# Tables over the study's runs, and the report.


rule aggregate:
    input:
        expand(
            "results/runs/{run}/{file}",
            run=STUDY.run_ids,
            file=["ap.parquet", "cost.json"],
        ),
    output:
        expand(
            "results/studies/{study}/{table}.csv",
            study=STUDY.name,
            table=["status", "ap", "ap_per_class", "gaps", "cost", *["ap_masks"] * STUDY.masks],
        ),
    log:
        f"results/logs/aggregate/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/aggregate/{STUDY.name}.tsv"
    conda:
        "../../environment.yml"
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        study=STUDY_NAME,
        runs=STUDY.run_ids,
        labels=[planned.label for planned in STUDY.runs],
    shell:
        "python -m cascadebench aggregate {params.study:q} > {log:q} 2>&1"


rule report:
    input:
        rules.aggregate.output,
        rules.audit.output,
    output:
        report(f"reports/{STUDY.name}.html", category="CascadeBench"),
    log:
        f"results/logs/report/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/report/{STUDY.name}.tsv"
    conda:
        "../../environment.yml"
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        study=STUDY_NAME,
        # What the page says of the study beside its tables.
        words=STUDY.file.model_dump_json(exclude={"execution"}),
    shell:
        "python -m cascadebench report {params.study:q} > {log:q} 2>&1"
