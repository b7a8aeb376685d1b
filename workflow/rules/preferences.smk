# Preference data: what the system makes before alignment, its scores, and which of two people would prefer.


rule sample:
    input:
        prompts=f"{RESULTS}/runs/{{system}}/prompts.parquet",
        foundation=foundation_models,
    output:
        f"{RUN}/trajectories.parquet",
    log:
        f"{LOGS}/{{system}}/{{seed}}/sample.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/{{seed}}/sample.tsv"
    priority: 80
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=60,
    params:
        config=RESOLVED_CONFIG,
        settings=sampling_settings_of("trajectories"),
        foundation=foundation_folder,
    shell:
        "python -m sysdpo sample --config {params.config} --system {wildcards.system}"
        " --seed {wildcards.seed} --prompts {input.prompts} --foundation {params.foundation}"
        " --output {output} 2>&1 | tee -i {log} >&2"


rule score:
    input:
        prompts=f"{RESULTS}/runs/{{system}}/prompts.parquet",
        trajectories=f"{RUN}/trajectories.parquet",
        foundation=foundation_models,
    output:
        f"{RUN}/scores.parquet",
    log:
        f"{LOGS}/{{system}}/{{seed}}/score.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/{{seed}}/score.tsv"
    priority: 80
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=30,
    params:
        config=RESOLVED_CONFIG,
        settings=settings_of("factory", "questions", "data", "scorer"),
        foundation=foundation_folder,
    shell:
        "python -m sysdpo score --config {params.config} --system {wildcards.system}"
        " --seed {wildcards.seed} --prompts {input.prompts} --trajectories {input.trajectories}"
        " --foundation {params.foundation} --output {output} 2>&1 | tee -i {log} >&2"


rule pair:
    input:
        scores=f"{RUN}/scores.parquet",
    output:
        f"{RUN}/pairs.parquet",
    log:
        f"{LOGS}/{{system}}/{{seed}}/pair.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/{{seed}}/pair.tsv"
    priority: 80
    conda:
        "../../envs/results.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        config=RESOLVED_CONFIG,
    shell:
        "python -m sysdpo pair --config {params.config} --system {wildcards.system}"
        " --seed {wildcards.seed} --scores {input.scores}"
        " --output {output} 2>&1 | tee -i {log} >&2"
