# What a run's detections tell beside their AP. Of what is written the files are declared that every run has.


rule diagnose:
    input:
        run="results/runs/{run}/run.yaml",
        detections="results/runs/{run}/detections.parquet",
        others=lambda wildcards: [
            f"results/runs/{wildcards.run}/proposals_of/{source.name}/detections.parquet"
            for source in STUDY.swaps.get(wildcards.run, ())
        ],
        ground_truth=f"results/datasets/{STUDY.dataset.name}/val.json",
    output:
        "results/runs/{run}/error_kinds.parquet",
        "results/runs/{run}/score_quality.parquet",
    log:
        "results/logs/diagnose/{run}.log",
    benchmark:
        "results/benchmarks/diagnose/{run}.tsv"
    conda:
        "../../environment.yml"
    resources:
        gpu=0,
        mem_mb=8000,
        runtime=120,
    params:
        dataset=STUDY.dataset.name,
        revision=EVALUATION_REVISION,
    shell:
        "python -m cascadebench diagnose-run results/runs/{wildcards.run:q} --data results/datasets/{params.dataset:q}"
        " > {log:q} 2>&1"
