# Training: every method that trains anything, from the same pairs and for the same number of updates.


rule train:
    input:
        prompts=f"{RESULTS}/runs/{{system}}/prompts.parquet",
        trajectories=preference_data("trajectories"),
        scores=preference_scores,
        pairs=preference_data("pairs"),
        foundation=foundation_models,
        code=own_code,
        data=data_files,
    output:
        directory(f"{RUN}/{{method}}/training"),
    log:
        f"{LOGS}/{{system}}/{{seed}}/{{method}}/train.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/{{seed}}/{{method}}/train.tsv"
    priority: 50
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=0,
        processes=1,
        nodes=1,
        mem_mb=growing(3000),
        runtime=growing(120),
    params:
        settings=training_settings,
        foundation=placed(FOUNDATION),
        checkpoint=placed(f"{RESULTS}/checkpoints/{{system}}/{{seed}}/{{method}}.pt"),
        processes=process_options,
        scores=scores_option,
    shell:
        step(
            "train --system {wildcards.system:q} --seed {wildcards.seed:q} --method {wildcards.method:q}"
            " --prompts {input.prompts:q} --trajectories {input.trajectories:q} {params.scores}"
            " --pairs {input.pairs:q} --foundation {params.foundation:q} --checkpoint {params.checkpoint:q}"
            " --output {output:q} {params.processes}"
        )
