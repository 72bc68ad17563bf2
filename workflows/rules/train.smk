# Training. Checkpoints lie in results/runs/<run>/checkpoints, which no rule declares, so that they survive a failure
# and the next attempt resumes. What is declared is the manifest that comes last.


rule train:
    input:
        run="results/runs/{run}/run.yaml",
        lock=f"results/datasets/{STUDY.dataset.name}/lock.json",
        # Every run's controls pass the audit before one trains. A run that is trained needs no audit for that: the one
        # of another study, or with another variant beside it, is no reason to train it again.
        audit=lambda wildcards: (
            []
            if Path(f"results/runs/{wildcards.run}/trained.json").exists()
            else rules.audit.output
        ),
        # What the study asks is registered before one trains; a finished training cannot be registered any more.
        registered=lambda wildcards: (
            []
            if Path(f"results/runs/{wildcards.run}/trained.json").exists()
            else rules.register.output
        ),
        # A variant that is not trained itself takes over what another run has trained.
        weights=lambda wildcards: expand(
            "results/runs/{run}/trained.json",
            run=filter(None, [STUDY.run(wildcards.run).variant.weights_from]),
        ),
    output:
        # Another process that shares this folder may have made it, and read it now: it is replaced, never removed.
        update("results/runs/{run}/trained.json"),
    log:
        "results/logs/train/{run}.log",
    benchmark:
        "results/benchmarks/train/{run}.tsv"
    conda:
        "../../environment.yml"
    threads: EXECUTION.cpu_threads
    # How a run is executed changes no number, so it is no parameter: another setting trains nothing again.
    resources:
        gpu=EXECUTION.gpus,
        # All GPUs of a training on one node, with the threads and loaders of every process.
        nodes=1,
        cpus_per_task=max(EXECUTION.gpus, 1)
        * (EXECUTION.cpu_threads + EXECUTION.loader_workers),
        mem_mb=EXECUTION.memory_mb,
        runtime=EXECUTION.train_minutes,
        accumulation=EXECUTION.accumulation,
        loader_workers=EXECUTION.loader_workers,
        checkpoint_interval=EXECUTION.checkpoint_interval,
        checkpoint_minutes=EXECUTION.checkpoint_minutes,
        attempt=lambda wildcards, attempt: attempt,
        log_interval=EXECUTION.log_interval,
    params:
        framework=lambda wildcards: STUDY.run(wildcards.run).framework,
    # exec: no shell stands between a cluster's SIGTERM and the training that answers it with a checkpoint.
    shell:
        "exec python -m adapters {params.framework:q} train --run {input.run:q} --out results/runs/{wildcards.run:q}"
        " --gpus {resources.gpu} --threads {threads} --accumulation {resources.accumulation}"
        " --workers {resources.loader_workers}"
        " --checkpoint-interval {resources.checkpoint_interval} --checkpoint-minutes {resources.checkpoint_minutes}"
        " --log-interval {resources.log_interval} --attempt {resources.attempt}"
        " > {log:q} 2>&1"
