# Evaluation: every method on held-out prompts, then means, intervals and paired comparisons over the seeds.


rule evaluate:
    input:
        prompts=f"{RESULTS}/runs/{{system}}/prompts.parquet",
        foundation=foundation_models,
        training=training_folders,
        code=own_code,
        data=data_files,
    output:
        directory(f"{RUN}/{{method}}/evaluation{{shard}}"),
    log:
        f"{LOGS}/{{system}}/{{seed}}/{{method}}/evaluate{{shard}}.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/{{seed}}/{{method}}/evaluate{{shard}}.tsv"
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=evaluation_settings,
        split=evaluation_split,
        foundation=placed(FOUNDATION),
        training=training_options,
        shard=shard_option,
    shell:
        step(
            "evaluate --system {wildcards.system:q} --seed {wildcards.seed:q} --method {wildcards.method:q}"
            " --prompts {input.prompts:q} --split {params.split:q} --foundation {params.foundation:q}"
            " {params.training} {params.shard} --output {output:q}"
        )


# The same for one of several jobs, as with `sample_shard`.
use rule evaluate as evaluate_shard with:
    output:
        temp(directory(f"{RUN}/{{method}}/evaluation{{shard}}")),
    wildcard_constraints:
        shard=SHARD,


ruleorder: gather_evaluation > evaluate


use rule gather_samples as gather_evaluation with:
    input:
        shards(f"{RUN}/{{method}}/evaluation{{shard}}", "evaluation"),
    output:
        directory(f"{RUN}/{{method}}/evaluation"),
    log:
        f"{LOGS}/{{system}}/{{seed}}/{{method}}/gather_evaluation.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/{{seed}}/{{method}}/gather_evaluation.tsv"
    wildcard_constraints:
        system=in_shards("evaluation"),


rule metrics:
    input:
        descriptions=DESCRIPTIONS,
        evaluations=[
            folder for system in SYSTEMS for folder in evaluations_of(system, SYSTEMS[system]["methods"], SEEDS)
        ],
    output:
        metrics=f"{RESULTS}/metrics.csv",
        comparisons=f"{RESULTS}/comparisons.csv",
    log:
        f"{LOGS}/metrics.log",
    benchmark:
        f"{BENCHMARKS}/metrics.tsv"
    conda:
        "../../envs/results.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        settings=comparison_settings,
    shell:
        step(
            "metrics --evaluations {input.evaluations:q} --descriptions {input.descriptions:q}"
            " --output {output.metrics:q} --comparisons {output.comparisons:q}"
        )


use rule metrics as ablation_metrics with:
    input:
        descriptions=DESCRIPTIONS,
        evaluations=[
            folder
            for system, ablations in ABLATIONS.items()
            for folder in evaluations_of(system, [*SYSTEMS[system]["methods"], *ablations], SEEDS)
        ],
    output:
        metrics=f"{RESULTS}/ablations/metrics.csv",
        comparisons=f"{RESULTS}/ablations/comparisons.csv",
    log:
        f"{LOGS}/ablations/metrics.log",
    benchmark:
        f"{BENCHMARKS}/ablations/metrics.tsv"
