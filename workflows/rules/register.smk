# What the study asks, claims and hypotheses, and how it is judged, written down before a training begins.


rule register:
    # registered.json only grows, so no rule declares it, or Snakemake would delete it; this stamp says that it is up to date.
    output:
        touch(f"results/studies/{STUDY.name}/registered.stamp"),
    log:
        f"results/logs/register/{STUDY.name}.log",
    benchmark:
        f"results/benchmarks/register/{STUDY.name}.tsv"
    conda:
        "../../environment.yml"
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=5,
    params:
        study=STUDY_NAME,
        # Another question, rule or run is registered anew, also when all is trained: the verdicts say that it came late.
        content=lambda wildcards: digest(study_content(STUDY)),
    shell:
        "python -m cascadebench register {params.study:q} > {log:q} 2>&1"
