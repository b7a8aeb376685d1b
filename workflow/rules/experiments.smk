# Experiments: every point of a grid is trained and evaluated as a method of its own, then tabled and drawn.


# Beside the table stands {experiment}_comparisons.csv, where the experiment has the methods to compare.
rule experiment:
    input:
        descriptions=DESCRIPTIONS,
        evaluations=variant_evaluations,
    output:
        table=report(
            EXPERIMENT_TABLE,
            caption="../report/experiment.rst",
            category="Experiments",
            labels={"experiment": "{experiment}"},
        ),
        figures=multiext(f"{RESULTS}/figures/experiment_{{experiment}}", ".png", ".svg"),
    log:
        f"{LOGS}/experiments/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/experiments/{{experiment}}.tsv"
    localrule: True
    conda:
        "../../envs/results.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        settings=experiment_settings,
        figures=lambda wildcards, output: Path(output.figures[0]).parent,
    shell:
        step(
            "experiment --experiment {wildcards.experiment:q} --evaluations {input.evaluations:q}"
            " --descriptions {input.descriptions:q} --figures {params.figures:q} --output {output.table:q}"
        )
