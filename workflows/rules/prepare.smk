# The dataset, checked and locked (the embedded one is drawn here); and every run, written out.


rule prepare:
    input:
        STUDY.dataset.annotation_files(),
    output:
        update(
            expand(
                "results/datasets/{dataset}/{file}.json",
                dataset=STUDY.dataset.name,
                file=STUDY.dataset.prepared_files,
            )
        ),
    log:
        f"results/logs/prepare/{STUDY.dataset.name}.log",
    benchmark:
        f"results/benchmarks/prepare/{STUDY.dataset.name}.tsv"
    conda:
        "../../environment.yml"
    resources:
        gpu=0,
        mem_mb=8000,
        runtime=60,
    params:
        card=STUDY.file.dataset,
        folder=lambda wildcards, output: str(Path(output[0]).parent),
        # Another card is another dataset, drawn or checked anew.
        digest=STUDY.dataset.digest(),
        checksums=STUDY.dataset.checksums,
    shell:
        "python -m cascadebench prepare {params.card:q} --out {params.folder:q} > {log:q} 2>&1"


# Written by Snakemake itself: the same run in another study is the same file, so nothing about the study may enter.
rule freeze:
    output:
        update("results/runs/{run}/run.yaml"),
    log:
        "results/logs/freeze/{run}.log",
    benchmark:
        "results/benchmarks/freeze/{run}.tsv"
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=5,
    run:
        STUDY.run(wildcards.run).write(Path(output[0]))
