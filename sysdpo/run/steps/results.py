"""The steps that evaluate methods and show the results: tables, figures, claims, the report.

A step imports its libraries by itself: the model libraries take seconds, and some environments have none of them.
"""

from pathlib import Path
from typing import Annotated

from sysdpo.base.errors import UserError
from sysdpo.base.files import whole, write_table
from sysdpo.method.config import evaluation_settings, method_rows, method_settings, system_config
from sysdpo.report.claim_file import claims_about
from sysdpo.run import options
from sysdpo.run.inputs import benchmark_of, preferences_of, read_prompts
from sysdpo.run.parts import METRICS, SAMPLES, prompts_of_part
from sysdpo.run.trained import check_identity, identity, load_trained


def evaluate(
    *,
    config: options.Config,
    system: options.System,
    seed: options.Seed,
    method: options.Method,
    prompts: options.Prompts,
    foundation: options.Foundation,
    training: options.Trainings = None,
    split: options.Split = "test",
    part: options.Shard = None,
    output: options.OutputFolder,
) -> None:
    """Evaluate one method: sample from the trained system, and measure its outputs."""
    described = system_config(config, system)
    settings = method_settings(config, system, method)
    folders, sources = training or [], settings.trainings(method)
    if len(folders) != len(sources):
        told = f"hold the folders of {sources}" if sources else "not be given"
        raise UserError(f"--training: it should {told} for the objective '{settings.objective}'")
    rows = {source: method_settings(config, system, source) for source in sources}
    for folder, (source, row) in zip(folders, rows.items(), strict=True):
        check_identity(folder, identity(system, source, seed, row))
    benchmark = benchmark_of(config, system)
    setting = f"systems.{system}.evaluation.shards"
    evaluated = read_prompts(prompts, benchmark, split)
    shard, offset = prompts_of_part(evaluated, part, setting)
    import pandas as pd

    from sysdpo.method.benchmark import HasPreferences
    from sysdpo.method.candidates import CandidateSettings
    from sysdpo.method.evaluation import evaluate as measure
    from sysdpo.method.evaluation import judge_pairs
    from sysdpo.method.preferences import write_trajectories

    models = benchmark.system(foundation).to()
    trained = load_trained(models, settings, dict(zip(rows, zip(folders, rows.values(), strict=True), strict=True)))
    evaluation = evaluation_settings(described, system)
    samples, measured = measure(
        benchmark,
        models,
        shard.reset_index(drop=True),
        foundation,
        samples=evaluation.samples_per_prompt,
        best_of=settings.best_of,
        seed=seed,
        purpose=split,
        greedy=evaluation.greedy,
        offset=offset,
    )
    # Picking the best of several changes what a system makes, but not what it holds likely.
    has_pairs = isinstance(benchmark, HasPreferences) and settings.best_of == 1
    if has_pairs:
        held_out = preferences_of(benchmark, evaluated, system)
        # The same for all methods, whose own candidates may be others.
        given = described["training"].get("candidates") or {}
        candidates = CandidateSettings.read(given, f"systems.{system}.training.candidates")
        judged = judge_pairs(benchmark, models, shard, held_out, trained, candidates, seed=seed)
        measured = pd.concat([measured, judged], ignore_index=True) if len(judged) else measured
    with whole(output, holds=(SAMPLES, METRICS)) as made:
        made.mkdir()
        write_trajectories(samples, made / SAMPLES)
        write_table(measured, made / METRICS)


def metrics(
    *,
    config: options.Config,
    evaluations: options.Evaluations,
    descriptions: options.Descriptions,
    comparisons: Annotated[Path, options.path("The table of comparisons to write."), options.WRITTEN],
    output: Annotated[Path, options.path("The table of metrics to write."), options.WRITTEN],
) -> None:
    """Collect all evaluations in two tables: metrics with intervals, and comparisons of methods."""
    import pandas as pd

    from sysdpo.report.statistics import compare, win_rates
    from sysdpo.run.experiments import read_evaluations, summary_of

    metric_of = descriptions.metric
    values = read_evaluations(evaluations)
    for name in values["system"].unique():
        rivals = evaluation_settings(system_config(config, name), name).win_rates_against
        values = pd.concat([values, win_rates(values[values["system"] == name], rivals)], ignore_index=True)
    compared = []
    for system, measured in values.groupby("system", sort=False):
        present = measured["method"].unique().tolist()
        rows = method_rows(config, str(system))
        trained = [method for method in present if rows[method]["objective"] != "none"]
        baselines = [name for name in system_config(config, str(system))["baselines"] if name in present]
        compared.append(compare(measured, baselines, trained, metric_of))
    write_table(summary_of(values, config, descriptions), output)
    write_table(pd.concat(compared, ignore_index=True), comparisons)


def describe(*, config: options.Config, output: options.OutputFile) -> None:
    """Write what tables, figures and report call systems, components, methods and metrics."""
    from sysdpo.run.describe import write_descriptions

    write_descriptions(config, output)


def tables(
    *,
    config: options.Config,
    system: options.System,
    descriptions: options.Descriptions,
    metrics: options.Metrics,
    comparisons: options.Comparisons,
    output: Annotated[Path, options.path("The Markdown to write, with CSV and LaTeX beside it."), options.WRITTEN],
) -> None:
    """Write a system's table of results, as a paper would print it."""
    from sysdpo.report.tables import write_tables

    write_tables(system, metrics, comparisons, descriptions.system(system), output)


def figure(
    *,
    config: options.Config,
    system: options.System,
    figure: Annotated[str, options.text("The figure's name.")],
    descriptions: options.Descriptions,
    metrics: options.Metrics,
    comparisons: options.Comparisons,
    runs: options.Runs,
    output: options.Figures,
) -> None:
    """Draw one figure of a system."""
    from sysdpo.report.figure import figure_name
    from sysdpo.report.run import read_run, write_figure

    named = system_config(config, system).get("figures") or [figure]
    reference = next((name for name in named if figure_name(name) == figure), figure)
    write_figure(read_run(system, descriptions, metrics, comparisons, runs), reference, output)


def credit(
    *,
    config: options.Config,
    system: options.System,
    descriptions: options.Descriptions,
    runs: options.Runs,
    output: options.OutputFile,
) -> None:
    """Write the table of each component's share in the margin, by method."""
    from sysdpo.report.credit import write_credit_table

    # A run's folder may hold trainings of ablations and experiments, too.
    methods = list(system_config(config, system)["methods"])
    write_credit_table(descriptions.system(system), runs, output, methods)


def experiment(
    *,
    config: options.Config,
    experiment: Annotated[str, options.text("The experiment's name in the configuration.")],
    evaluations: options.Evaluations,
    descriptions: options.Descriptions,
    figures: options.Figures,
    output: options.OutputFile,
) -> None:
    """Collect an experiment's evaluations in one table, and draw its figure."""
    from sysdpo.run.experiments import gather

    gather(experiment, config, evaluations, descriptions, output, figures)


def claims(
    *,
    config: options.Config,
    claims: Annotated[Path, options.path("The claims, a YAML file.")],
    descriptions: options.Descriptions,
    metrics: options.Metrics,
    comparisons: options.Comparisons,
    ablations: Annotated[bool, options.flag("--ablations", "Check the claims about ablations instead.")] = False,
    output: Annotated[Path, options.path("The table of verdicts to write, with Markdown beside it."), options.WRITTEN],
) -> None:
    """Check every claim against the intervals of the results."""
    from sysdpo.report.claims import write_claims

    chosen = claims_about(config, claims, ablations=ablations)
    write_claims(chosen, metrics, comparisons, descriptions, output)


def quote(
    *,
    config: options.Config,
    results: options.Results,
    descriptions: options.Descriptions,
    output: Annotated[Path, options.path("The page to rewrite."), options.WRITTEN],
) -> None:
    """Rewrite the blocks of a page, such as the README, that quote the results."""
    from sysdpo.report.quotes import quote as rewrite

    rewrite(results, descriptions, output)


def report(
    *, config: options.Config, results: options.Results, descriptions: options.Descriptions, output: options.OutputFile
) -> None:
    """Write the report: one page with all results."""
    from sysdpo.report.page import write_report

    write_report(results, descriptions, output, with_claims=config.get("claims") is not None)
