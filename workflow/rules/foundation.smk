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
        config=RESOLVED_CONFIG,
        settings=settings_of("factory", "questions", "data", "prompts"),
    shell:
        "python -m sysdpo prompts --config {params.config:q} --system {wildcards.system:q}"
        " --output {output:q} 2>&1 | tee -i {log:q} >&2"


# Nothing can start before the painter is there, and it takes longest: the painters of all seeds go first.
rule foundation:
    input:
        code=own_code,
    output:
        directory(f"{RUN}/foundation/{{model}}"),
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
        config=RESOLVED_CONFIG,
        settings=foundation_settings,
    shell:
        "python -m sysdpo foundation --config {params.config:q} --system {wildcards.system:q}"
        " --seed {wildcards.seed:q} --model {wildcards.model:q}"
        " --output {output:q} 2>&1 | tee -i {log:q} >&2"


rule inspect:
    input:
        foundation=foundation_models,
        code=own_code,
    output:
        f"{RUN}/foundation/quality.json",
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
        config=RESOLVED_CONFIG,
        settings=sampling_settings_of("prompts"),
        foundation=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "python -m sysdpo inspect --config {params.config:q} --system {wildcards.system:q}"
        " --seed {wildcards.seed:q} --foundation {params.foundation:q}"
        " --output {output:q} 2>&1 | tee -i {log:q} >&2"
