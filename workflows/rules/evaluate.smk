# One evaluator for all frameworks.


rule evaluate:
    input:
        run="results/runs/{run}/run.yaml",
        detections="results/runs/{run}/detections.parquet",
        ground_truth=f"results/datasets/{STUDY.dataset.name}/val.json",
    output:
        "results/runs/{run}/ap.parquet",
    log:
        "results/logs/evaluate/{run}.log",
    benchmark:
        "results/benchmarks/evaluate/{run}.tsv"
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
        "python -m cascadebench evaluate-run results/runs/{wildcards.run:q} --data results/datasets/{params.dataset:q}"
        " > {log:q} 2>&1"
