# One pass over the validation images for all test stages and for the diagnostics. Of these the files are declared that
# every run has.
DIAGNOSTICS = (
    ["localization", "recall", "nms_survivors"] if EXECUTION.diagnostics else []
)


rule predict:
    input:
        run="results/runs/{run}/run.yaml",
        trained="results/runs/{run}/trained.json",
        lock=f"results/datasets/{STUDY.dataset.name}/lock.json",
    output:
        update("results/runs/{run}/detections.parquet"),
        update("results/runs/{run}/proposals.parquet"),
        update("results/runs/{run}/predicted.json"),
        update(expand("results/runs/{{run}}/{file}.parquet", file=DIAGNOSTICS)),
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
        diagnostics=int(EXECUTION.diagnostics),
    params:
        framework=lambda wildcards: STUDY.run(wildcards.run).framework,
    shell:
        "python -m adapters {params.framework:q} predict --run {input.run:q} --out results/runs/{wildcards.run:q}"
        " --gpus {resources.gpu} --threads {threads} --diagnostics {resources.diagnostics}"
        " > {log:q} 2>&1"


# The same weights on other proposals, where the study asks for it.
rule predict_with:
    input:
        run="results/runs/{run}/run.yaml",
        predicted="results/runs/{run}/predicted.json",
        other=lambda wildcards: expand(
            "results/runs/{run}/{file}",
            run=filter(None, [ProposalSource.parse(wildcards.proposals).run_id]),
            file=["run.yaml", "trained.json"],
        ),
    output:
        "results/runs/{run}/proposals_of/{proposals}/detections.parquet",
    log:
        "results/logs/predict_with/{run}/{proposals}.log",
    benchmark:
        "results/benchmarks/predict_with/{run}/{proposals}.tsv"
    conda:
        "../../environment.yml"
    threads: EXECUTION.cpu_threads
    resources:
        gpu=min(EXECUTION.gpus, 1),
        mem_mb=EXECUTION.memory_mb,
        runtime=EXECUTION.train_minutes,
    params:
        framework=lambda wildcards: STUDY.run(wildcards.run).framework,
        source=lambda wildcards, input: (
            f"--proposals-of {shlex.quote(input.other[0])}" if input.other else ""
        ),
        stage=lambda wildcards: ProposalSource.parse(wildcards.proposals).stage,
    shell:
        "python -m adapters {params.framework:q} predict-with --run {input.run:q} --out results/runs/{wildcards.run:q}"
        " {params.source} --stage {params.stage} --gpus {resources.gpu} --threads {threads} > {log:q} 2>&1"
