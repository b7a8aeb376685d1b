# What people look at: tables, figures, the manifest of everything made, and the report.


# What systems, metrics, components and methods are called: all that follows reads it.
rule describe:
    input:
        code=[path for system in SYSTEMS for path in [*system_code(system), *figure_code(system)]],
    output:
        DESCRIPTIONS,
    log:
        f"{LOGS}/describe.log",
    benchmark:
        f"{BENCHMARKS}/describe.tsv"
    priority: 70
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        settings=description_settings,
    shell:
        step("describe --output {output:q}")


rule tables:
    input:
        descriptions=DESCRIPTIONS,
        metrics=f"{RESULTS}/metrics.csv",
        comparisons=f"{RESULTS}/comparisons.csv",
    output:
        csv=report(
            f"{RESULTS}/tables/{{system}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"system": "{system}"},
        ),
        markdown=f"{RESULTS}/tables/{{system}}.md",
        latex=f"{RESULTS}/tables/{{system}}.tex",
    log:
        f"{LOGS}/{{system}}/tables.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/tables.tsv"
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
            "tables --system {wildcards.system:q} --descriptions {input.descriptions:q}"
            " --metrics {input.metrics:q} --comparisons {input.comparisons:q} --output {output.markdown:q}"
        )


use rule tables as ablation_tables with:
    input:
        descriptions=DESCRIPTIONS,
        metrics=f"{RESULTS}/ablations/metrics.csv",
        comparisons=f"{RESULTS}/ablations/comparisons.csv",
    output:
        csv=report(
            f"{RESULTS}/ablations/{{system}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"system": "{system}", "table": "ablations"},
        ),
        markdown=f"{RESULTS}/ablations/{{system}}.md",
        latex=f"{RESULTS}/ablations/{{system}}.tex",
    log:
        f"{LOGS}/{{system}}/ablation_tables.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/ablation_tables.tsv"


rule figure:
    input:
        descriptions=DESCRIPTIONS,
        code=lambda wildcards: figure_code(wildcards.system),
        metrics=f"{RESULTS}/metrics.csv",
        comparisons=f"{RESULTS}/comparisons.csv",
        runs=lambda wildcards: runs_of(wildcards.system),
    output:
        report(
            f"{RESULTS}/figures/{{system}}_{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"system": "{system}", "figure": "{figure}"},
        ),
        f"{RESULTS}/figures/{{system}}_{{figure}}.svg",
    log:
        f"{LOGS}/{{system}}/figures/{{figure}}.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/figures/{{figure}}.tsv"
    conda:
        "../../envs/results.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        runs=placed(f"{RESULTS}/runs/{{system}}"),
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        step(
            "figure --system {wildcards.system:q} --figure {wildcards.figure:q}"
            " --descriptions {input.descriptions:q} --metrics {input.metrics:q}"
            " --comparisons {input.comparisons:q} --runs {params.runs:q} --output {params.folder:q}"
        )


# How the margin splits over the components, and whether the chosen itself becomes less likely.
rule credit_table:
    input:
        descriptions=DESCRIPTIONS,
        runs=lambda wildcards: trainings_of(wildcards.system),
    output:
        report(
            CREDIT_TABLE,
            caption="../report/credit.rst",
            category="Tables",
            labels={"system": "{system}", "table": "credit"},
        ),
    log:
        f"{LOGS}/{{system}}/credit.log",
    benchmark:
        f"{BENCHMARKS}/{{system}}/credit.tsv"
    localrule: True
    conda:
        "../../envs/results.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        runs=placed(f"{RESULTS}/runs/{{system}}"),
    shell:
        step(
            "credit --system {wildcards.system:q} --descriptions {input.descriptions:q} --runs {params.runs:q}"
            " --output {output:q}"
        )


# Every line of the file of claims, held against this run's intervals.
rule claims:
    input:
        descriptions=DESCRIPTIONS,
        claims=CLAIMS,
        metrics=f"{RESULTS}/metrics.csv",
        comparisons=f"{RESULTS}/comparisons.csv",
    output:
        csv=report(f"{RESULTS}/claims.csv", caption="../report/claims.rst", category="Tables"),
        markdown=f"{RESULTS}/claims.md",
    log:
        f"{LOGS}/claims.log",
    benchmark:
        f"{BENCHMARKS}/claims.tsv"
    localrule: True
    conda:
        "../../envs/results.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        which="",
    shell:
        step(
            "claims --claims {input.claims:q} {params.which} --descriptions {input.descriptions:q}"
            " --metrics {input.metrics:q} --comparisons {input.comparisons:q} --output {output.csv:q}"
        )


use rule claims as ablation_claims with:
    input:
        descriptions=DESCRIPTIONS,
        claims=CLAIMS,
        metrics=f"{RESULTS}/ablations/metrics.csv",
        comparisons=f"{RESULTS}/ablations/comparisons.csv",
    output:
        csv=report(f"{RESULTS}/ablations/claims.csv", caption="../report/claims.rst", category="Tables"),
        markdown=f"{RESULTS}/ablations/claims.md",
    log:
        f"{LOGS}/ablations/claims.log",
    benchmark:
        f"{BENCHMARKS}/ablations/claims.tsv"
    params:
        which="--ablations",


# Before the report, which shows it: commit, versions, machine, seeds, and a checksum of every other output.
rule manifest:
    input:
        results_shown,
    output:
        f"{RESULTS}/manifest.json",
    log:
        f"{LOGS}/manifest.log",
    benchmark:
        f"{BENCHMARKS}/manifest.tsv"
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        settings=as_parameter(config),
        experiments=experiments_found,
        results=lambda wildcards, output: Path(output[0]).parent,
    shell:
        step("manifest --results {params.results:q} --output {output:q}")


rule report:
    input:
        results_shown,
        descriptions=DESCRIPTIONS,
        manifest=f"{RESULTS}/manifest.json",
    output:
        report(f"{RESULTS}/report.html", caption="../report/report.rst", category="Report"),
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{BENCHMARKS}/report.tsv"
    localrule: True
    conda:
        "../../envs/results.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        experiments=experiments_found,
        results=lambda wildcards, output: Path(output[0]).parent,
    shell:
        step("report --results {params.results:q} --descriptions {input.descriptions:q} --output {output:q}")
