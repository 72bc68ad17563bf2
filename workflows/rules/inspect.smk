# Effective values and cost of every run, read back from built objects, before anything trains.


rule inspect:
    input:
        "results/runs/{run}/run.yaml",
    output:
        "results/runs/{run}/controls.json",
        "results/runs/{run}/cost.json",
    log:
        "results/logs/inspect/{run}.log",
    benchmark:
        "results/benchmarks/inspect/{run}.tsv"
    conda:
        "../../environment.yml"
    resources:
        gpu=0,
        mem_mb=4000,
        runtime=15,
    params:
        framework=lambda wildcards: STUDY.run(wildcards.run).framework,
    shell:
        "python -m adapters {params.framework:q} inspect --run {input:q} --out results/runs/{wildcards.run:q}"
        " > {log:q} 2>&1"


# Target for a look before any training: snakemake inspections --cores 2
rule inspections:
    input:
        expand("results/runs/{run}/cost.json", run=STUDY.run_ids),
