# Studies: computations on systems small enough to enumerate, or on simulated runs; no preference data.


rule study:
    input:
        code=lambda wildcards: [local(os.path.relpath(path)) for path in own_modules(STUDIES[wildcards.study])],
    output:
        report(
            STUDY_TABLE,
            caption="../report/study.rst",
            category="Studies",
            labels={"study": "{study}"},
        ),
    log:
        f"{LOGS}/studies/{{study}}.log",
    benchmark:
        f"{BENCHMARKS}/studies/{{study}}.tsv"
    priority: 70
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=study_settings,
    shell:
        step("study --study {wildcards.study:q} --output {output:q}")


rule draw:
    input:
        table=STUDY_TABLE,
    output:
        report(
            f"{STUDY_FIGURE}.png",
            caption="../report/study.rst",
            category="Figures",
            labels={"study": "{study}"},
        ),
        f"{STUDY_FIGURE}.svg",
    log:
        f"{LOGS}/studies/{{study}}_figure.log",
    benchmark:
        f"{BENCHMARKS}/studies/{{study}}_figure.tsv"
    localrule: True
    conda:
        "../../envs/results.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        step("draw --study {wildcards.study:q} --table {input.table:q} --output {params.folder:q}")
