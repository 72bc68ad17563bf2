# Effective values and cost of every run, read back from built objects, before anything trains. One job a framework:
# importing it takes longer than inspecting a run.

for framework in STUDY.file.frameworks:

    runs_of_framework = [
        planned.run.id for planned in STUDY.runs if planned.run.framework == framework
    ]

    rule:
        name:
            f"inspect_{framework}"
        input:
            expand("results/runs/{run}/run.yaml", run=runs_of_framework),
        output:
            expand("results/runs/{run}/controls.json", run=runs_of_framework),
            expand("results/runs/{run}/cost.json", run=runs_of_framework),
        log:
            f"results/logs/inspect/{STUDY.name}-{framework}.log",
        benchmark:
            f"results/benchmarks/inspect/{STUDY.name}-{framework}.tsv"
        conda:
            "../../environment.yml"
        resources:
            gpu=0,
            mem_mb=4000,
            runtime=60,
        params:
            framework=framework,
        shell:
            "python -m adapters {params.framework:q} inspect --run {input:q} --out results/runs --each > {log:q} 2>&1"


# Target for a look before any training: snakemake inspections --cores 2
rule inspections:
    input:
        expand("results/runs/{run}/cost.json", run=STUDY.run_ids),
