# One pass over the validation images for all test stages.


rule predict:
    input:
        run="results/runs/{run}/run.yaml",
        trained="results/runs/{run}/trained.json",
        lock=f"results/datasets/{STUDY.dataset.name}/lock.json",
    output:
        "results/runs/{run}/detections.parquet",
        "results/runs/{run}/proposals.parquet",
        "results/runs/{run}/predicted.json",
    log:
        "results/logs/predict/{run}.log",
    benchmark:
        "results/benchmarks/predict/{run}.tsv"
    conda:
        "../../environment.yml"
    threads: EXECUTION.cpu_threads
    resources:
        gpu=min(EXECUTION.gpus, 1),
        mem_mb=EXECUTION.memory_mb,
        runtime=EXECUTION.train_minutes,
    params:
        framework=lambda wildcards: STUDY.run(wildcards.run).framework,
    shell:
        "python -m adapters {params.framework:q} predict --run {input.run:q} --out results/runs/{wildcards.run:q}"
        " --gpus {resources.gpu} --threads {threads} > {log:q} 2>&1"
