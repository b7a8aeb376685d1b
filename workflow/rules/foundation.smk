# The prompts of a system, and the small models that stand in for pretrained ones.


rule prompts:
    input:
        code=own_code,
        data=data_files,
    output:
        f"{RESULTS}/runs/{{system}}/prompts.parquet",
    log:
        f"{LOGS}/{{system}}/prompts.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/prompts.tsv"
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        settings=settings_of("factory", "questions", "data", "prompts"),
    shell:
        step("prompts --system {wildcards.system:q} --output {output:q}")


# Nothing can start before the painter is there, and it takes longest: the painters of all seeds go first.
rule foundation:
    input:
        code=own_code,
    output:
        directory(f"{FOUNDATION}/{{model}}"),
    log:
        f"{LOGS}/{{system}}/{{seed}}/foundation/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/{{seed}}/foundation/{{model}}.tsv"
    priority: lambda wildcards: 100 if wildcards.model == "painter" else 90
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=foundation_settings,
    shell:
        step(
            "foundation --system {wildcards.system:q} --seed {wildcards.seed:q} --model {wildcards.model:q}"
            " --output {output:q}"
        )


rule inspect:
    input:
        foundation=foundation_models,
        code=own_code,
    output:
        f"{FOUNDATION}/quality.json",
    log:
        f"{LOGS}/{{system}}/{{seed}}/foundation/quality.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/{{seed}}/foundation/quality.tsv"
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        settings=sampling_settings_of("prompts"),
        foundation=lambda wildcards, output: Path(output[0]).parent,
    shell:
        step(
            "inspect --system {wildcards.system:q} --seed {wildcards.seed:q} --foundation {params.foundation:q}"
            " --output {output:q}"
        )
