# Preference data: what the system makes before alignment, its scores, and which of two people would prefer.


rule sample:
    input:
        prompts=f"{RESULTS}/runs/{{system}}/prompts.parquet",
        foundation=foundation_models,
        code=own_code,
    output:
        f"{RUN}/trajectories{{shard}}.parquet",
    log:
        f"{LOGS}/{{system}}/{{seed}}/sample{{shard}}.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/{{seed}}/sample{{shard}}.tsv"
    priority: 80
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=sampling_settings_of("trajectories"),
        foundation=placed(FOUNDATION),
        shard=shard_option,
    shell:
        step(
            "sample --system {wildcards.system:q} --seed {wildcards.seed:q} --prompts {input.prompts:q}"
            " --foundation {params.foundation:q} {params.shard} --output {output:q}"
        )


# The same for one of several jobs. Its file is gone once it is gathered, which is said of a whole rule or not at all.
use rule sample as sample_shard with:
    output:
        temp(f"{RUN}/trajectories{{shard}}.parquet"),
    wildcard_constraints:
        shard=SHARD,


ruleorder: gather_samples > sample


rule gather_samples:
    input:
        shards(f"{RUN}/trajectories{{shard}}.parquet", "trajectories"),
    output:
        f"{RUN}/trajectories.parquet",
    log:
        f"{LOGS}/{{system}}/{{seed}}/gather_samples.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/{{seed}}/gather_samples.tsv"
    wildcard_constraints:
        system=in_shards("trajectories"),
    priority: 80
    conda:
        "../../envs/results.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(1000),
        runtime=growing(30),
    shell:
        step("gather --parts {input:q} --output {output:q}")


rule score:
    input:
        prompts=f"{RESULTS}/runs/{{system}}/prompts.parquet",
        trajectories=f"{RUN}/trajectories.parquet",
        foundation=foundation_models,
        code=own_code,
        data=data_files,
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
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        settings=settings_of("factory", "questions", "data", "scorer"),
        foundation=placed(FOUNDATION),
    shell:
        step(
            "score --system {wildcards.system:q} --seed {wildcards.seed:q} --prompts {input.prompts:q}"
            " --trajectories {input.trajectories:q} --foundation {params.foundation:q} --output {output:q}"
        )


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
    localrule: True
    conda:
        "../../envs/results.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(1000),
        runtime=growing(10),
    shell:
        step(
            "pair --system {wildcards.system:q} --seed {wildcards.seed:q} --scores {input.scores:q}"
            " --output {output:q}"
        )


# Preferences that come with the prompts: no model makes them, so all seeds share them.
rule dataset:
    input:
        prompts=f"{RESULTS}/runs/{{system}}/prompts.parquet",
        code=own_code,
        data=data_files,
    output:
        multiext(f"{DATASET}/", "trajectories.parquet", "pairs.parquet"),
    log:
        f"{LOGS}/{{system}}/dataset.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/dataset.tsv"
    priority: 80
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        settings=sampling_settings_of("questions", "data"),
        folder=placed(DATASET),
    shell:
        step("dataset --system {wildcards.system:q} --prompts {input.prompts:q} --output {params.folder:q}")
