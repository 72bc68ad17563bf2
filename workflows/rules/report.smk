# Tables over the study's runs, and the report.


rule aggregate:
    input:
        expand(
            "results/runs/{run}/{file}",
            run=STUDY.run_ids,
            file=["ap.parquet", "cost.json"],
        ),
        imported=IMPORTED,
        ground_truth=f"results/datasets/{STUDY.dataset.name}/val.json",
    output:
        expand(
            "results/studies/{study}/{table}.csv",
            study=STUDY.name,
            table=[
                "status",
                "ap",
                "ap_per_class",
                "gaps",
                "cost",
                *["ap_masks"] * STUDY.masks,
            ],
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
        names=STUDY.file.imported,
    shell:
        "python -m cascadebench aggregate {params.study:q} > {log:q} 2>&1"


# Intervals of test stages and gaps and verdicts on claims, over images and seeds, from one set of resamples.
rule intervals:
    input:
        rules.audit.output,
        rules.register.output,
        expand(
            "results/runs/{run}/{file}",
            run=STUDY.run_ids,
            file=[
                "ap.parquet",
                "detections.parquet",
                "cost.json",
                "predicted.json",
                *["recall.parquet"] * EXECUTION.diagnostics,
            ],
        ),
        imported=IMPORTED,
        ground_truth=f"results/datasets/{STUDY.dataset.name}/val.json",
    output:
        expand(
            "results/studies/{study}/{table}.csv",
            study=STUDY.name,
            table=["intervals", "verdicts", "claim_terms", "claim_samples"],
        ),
    log:
        f"results/logs/intervals/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/intervals/{STUDY.name}.tsv"
    conda:
        "../../environment.yml"
    resources:
        gpu=0,
        mem_mb=4000,
        runtime=60,
    params:
        study=STUDY_NAME,
        runs=STUDY.run_ids,
        labels=[planned.label for planned in STUDY.runs],
        names=STUDY.file.imported,
        claims=lambda wildcards: as_written(study_claims(STUDY), STUDY.name),
        revision=EVALUATION_REVISION,
    shell:
        "python -m cascadebench intervals {params.study:q} > {log:q} 2>&1"


# Detections on a few images, with thumbnails of these: the report reads no pictures of the dataset itself.
rule examples:
    input:
        lock=f"results/datasets/{STUDY.dataset.name}/lock.json",
        runs=expand(
            "results/runs/{run}/{file}",
            run=STUDY.run_ids,
            file=["ap.parquet", "detections.parquet"],
        ),
    output:
        f"results/studies/{STUDY.name}/examples.json",
        directory(f"results/studies/{STUDY.name}/examples"),
    log:
        f"results/logs/examples/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/examples/{STUDY.name}.tsv"
    conda:
        "../../environment.yml"
    resources:
        gpu=0,
        mem_mb=4000,
        runtime=30,
    params:
        study=STUDY_NAME,
        runs=STUDY.run_ids,
        labels=[planned.label for planned in STUDY.runs],
        baseline=STUDY.file.baseline,
    shell:
        "python -m cascadebench examples {params.study:q} > {log:q} 2>&1"


rule report:
    input:
        rules.aggregate.output,
        rules.intervals.output,
        rules.examples.output if STUDY.runs else [],
        rules.audit.output,
        expand("results/runs/{run}/error_kinds.parquet", run=STUDY.run_ids),
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
