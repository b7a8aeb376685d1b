"""The steps of the workflow: each reads its inputs, does one thing, and writes its output whole or not at all.

Every step imports what it needs by itself: the model libraries take seconds, and some environments have none of them.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sysdpo.base.devices import is_worker, process_state
from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table, whole, write_table
from sysdpo.base.functions import load_function, module_file
from sysdpo.base.settings import one_of, without
from sysdpo.base.tables import (
    PAIR_COLUMNS,
    PROMPT_COLUMNS,
    SCORE_COLUMNS,
    check_pairs,
    check_prompts,
    check_scores,
    check_trajectories,
)
from sysdpo.method.config import (
    Config,
    Study,
    check,
    evaluation_settings,
    method_rows,
    method_settings,
    study_config,
    system_config,
)
from sysdpo.report.claim_file import check_claims, claims_about
from sysdpo.run.figure_check import check_figures
from sysdpo.run.launch import launch
from sysdpo.run.parts import METRICS, SAMPLES, gather_parts, prompts_of_part
from sysdpo.run.trained import HOLDS, adapters_of, check_identity, identity, write_identity


def benchmark_of(options: argparse.Namespace, config: Config) -> Any:
    """The benchmark of `--system`."""
    from sysdpo.method.benchmark import load_benchmark

    return load_benchmark(options.system, system_config(config, options.system))


def read_prompts(path: Path, benchmark: Any, split: str | None = None) -> Any:
    """The prompts in a file, of one split or all of them; raises `UserError` if they are none of the system's."""
    table = read_table(path, PROMPT_COLUMNS)
    check_prompts(table, f"'{path}'", benchmark.inputs)
    if split is not None and not (table["split"] == split).any():
        raise UserError(f"'{path}' should have prompts of the split '{split}', but has none")
    return table if split is None else table[table["split"] == split]


def read_checked_trajectories(path: Path, benchmark: Any, prompts: Any) -> Any:
    """The trajectories in a file; raises `UserError` if they are none of the system's to these prompts."""
    from sysdpo.method.preferences import read_trajectories

    trajectories = read_trajectories(path)
    check_trajectories(trajectories, f"'{path}'", prompts, generated_variables(benchmark))
    return trajectories


def generated_variables(benchmark: Any) -> list[str]:
    """The inputs of a system and what its models make: what every trajectory has a value of."""
    models = getattr(benchmark, "components", {})
    nodes = [node.name for node in getattr(benchmark, "nodes", ()) if node.component in models]
    return [*benchmark.inputs, *nodes]


def validate(options: argparse.Namespace, config: Config) -> None:
    """Check every setting, every system's prompts and every claim, building no model."""
    check(config)
    for system in config["systems"]:
        options.system = system
        benchmark_of(options, config).prompts()
    check_claims(config)
    check_figures(config)


def describe(options: argparse.Namespace, config: Config) -> None:
    """Describe what is to be shown: systems, their metrics and components, methods and figures."""
    from sysdpo.run.describe import write_descriptions

    write_descriptions(config, options.output)


def prompts(options: argparse.Namespace, config: Config) -> None:
    """Write the prompts and their splits."""
    benchmark = benchmark_of(options, config)
    table = benchmark.prompts()
    check_prompts(table, f"the prompts of systems.{options.system}", benchmark.inputs)
    write_table(table, options.output)


def foundation(options: argparse.Namespace, config: Config) -> None:
    """Make one foundation model."""
    made = benchmark_of(options, config).foundations
    if options.model not in made:
        raise UserError(f"--model: '{options.model}' should be one of {sorted(made)}")
    with whole(options.output) as folder:
        made[options.model](options.seed, folder)


def inspect(options: argparse.Namespace, config: Config) -> None:
    """Measure the foundation models."""
    quality = benchmark_of(options, config).inspect(options.foundation, options.seed)
    with whole(options.output) as path:
        path.write_text(json.dumps(quality, indent=1))


def sample(options: argparse.Namespace, config: Config) -> None:
    """Sample the training prompts' trajectories from the system before alignment."""
    benchmark = benchmark_of(options, config)
    from sysdpo.method.evaluation import sample_trajectories
    from sysdpo.method.preferences import write_trajectories

    asked = read_prompts(options.prompts, benchmark, "train")
    asked, place = prompts_of_part(asked, options.part, f"systems.{options.system}.trajectories.shards")
    samples = system_config(config, options.system)["trajectories"]["samples_per_prompt"]
    system = benchmark.system(options.foundation).to()
    seeds = {"seed": options.seed, "purpose": "train", "offset": place}
    write_trajectories(sample_trajectories(benchmark, system, asked, samples, **seeds), options.output)


def score(options: argparse.Namespace, config: Config) -> None:
    """Score trajectories."""
    benchmark = benchmark_of(options, config)
    from sysdpo.method.evaluation import score_trajectories

    asked = read_prompts(options.prompts, benchmark)
    trajectories = read_checked_trajectories(options.trajectories, benchmark, asked)
    write_table(score_trajectories(benchmark, asked, trajectories, options.foundation), options.output)


def pair(options: argparse.Namespace, config: Config) -> None:
    """Make all untied preference pairs."""
    from sysdpo.method.preferences import make_pairs

    scores = read_table(options.scores, SCORE_COLUMNS)
    check_scores(scores, f"'{options.scores}'")
    write_table(make_pairs(scores), options.output)


def given(options: argparse.Namespace, config: Config) -> None:
    """Take the training prompts' preferences that the data come with."""
    benchmark = benchmark_of(options, config)
    from sysdpo.method.benchmark import HasPreferences

    if not isinstance(benchmark, HasPreferences):
        rows = method_rows(config, options.system)
        asking = next((name for name, row in rows.items() if row.get("preferences") == "given"), "<method>")
        raise UserError(
            f"systems.{options.system}.methods.{asking}.preferences: 'given' should be 'sampled', because this "
            "system's data come with no preferences"
        )
    from sysdpo.method.preferences import make_pairs, write_trajectories

    asked = read_prompts(options.prompts, benchmark, "train")
    with whole(options.output, holds=("trajectories.parquet", "scores.parquet", "pairs.parquet")) as folder:
        folder.mkdir()
        trajectories, scores = benchmark.given(asked, Path())  # no seed's models had a part in it
        name = f"the given preferences of systems.{options.system}"
        check_trajectories(trajectories, f"{name}: trajectories", asked, generated_variables(benchmark))
        scores = check_scores(scores, f"{name}: scores", trajectories)
        write_trajectories(trajectories, folder / "trajectories.parquet")
        write_table(scores, folder / "scores.parquet")
        write_table(make_pairs(scores), folder / "pairs.parquet")


def gather(options: argparse.Namespace, config: Config) -> None:
    """Put together the trajectories, or the evaluations, that several jobs made."""
    gather_parts(options.parts, options.output)


def train(options: argparse.Namespace, config: Config) -> None:
    """Train the system by one method."""
    settings = method_settings(config, options.system, options.method)
    if not settings.trains:
        raise UserError(f"--method: '{options.method}' has the objective 'none' and nothing to train")
    if options.processes != 1 and not is_worker():
        launch(options.arguments, options.processes, options.machines, options.rendezvous)
        return
    benchmark = benchmark_of(options, config)
    asked = read_prompts(options.prompts, benchmark, "train")
    pairs = read_table(options.pairs, PAIR_COLUMNS)
    scores = read_table(options.scores, SCORE_COLUMNS)
    import pandas as pd
    from accelerate.utils import gather_object

    from sysdpo.base.seeds import seed_torch
    from sysdpo.method.checkpoints import Checkpoint
    from sysdpo.method.evaluation import sample_trajectories, score_trajectories
    from sysdpo.method.preferences import make_pairs
    from sysdpo.method.training import align
    from sysdpo.run.fingerprint import training_fingerprint

    state = process_state()

    trajectories = read_checked_trajectories(options.trajectories, benchmark, asked)
    check_scores(scores, f"'{options.scores}'", trajectories)
    check_pairs(pairs, f"'{options.pairs}'", trajectories)
    seed_torch("adapters", options.seed)  # adapters start at random
    samples = system_config(config, options.system)["trajectories"]["samples_per_prompt"]
    system = benchmark.system(options.foundation).to()

    def collect(number: int) -> tuple[Any, Any]:
        if number == 0:
            return trajectories, pairs
        part = f"{state.process_index + 1}/{state.num_processes}"
        mine, place = prompts_of_part(asked, part, "--processes")
        seeds = {"seed": options.seed + 1000 * number, "purpose": "train", "offset": place}
        with system.unsharded():
            fresh = sample_trajectories(benchmark, system, mine, samples, **seeds)
        scores = score_trajectories(benchmark, mine, fresh, options.foundation)
        fresh, scores = (pd.concat(gather_object([table]), ignore_index=True) for table in (fresh, scores))
        return fresh, make_pairs(scores)

    checkpoint = Checkpoint()
    if options.checkpoint is not None:
        tables = {name: getattr(options, name) for name in ("prompts", "trajectories", "scores", "pairs")}
        of_this = training_fingerprint(
            system_config(config, options.system),
            settings,
            seed=options.seed,
            foundation=options.foundation,
            tables=tables,
            plugins=[path for name in config.get("plugins", ()) if (path := module_file(name))],
        )
        checkpoint = Checkpoint(options.checkpoint, of_this, every=options.checkpoint_every)
    # Of several processes one writes what all have made.
    made = whole(options.output, holds=HOLDS) if state.is_main_process else TemporaryDirectory()
    with made as folder:
        title = f"{options.method}, seed {options.seed}"
        place: dict[str, Any] = {"output": Path(folder), "checkpoint": checkpoint}
        align(system, collect, settings, seed=options.seed, title=title, **place)
        write_identity(Path(folder), identity(options.system, options.method, options.seed, settings))
        state.wait_for_everyone()
    if state.is_main_process:
        checkpoint.clear()
    state.destroy_process_group()


def evaluate(options: argparse.Namespace, config: Config) -> None:
    """Sample and measure the system as a method left it."""
    described = system_config(config, options.system)
    settings = method_settings(config, options.system, options.method)
    sources = settings.trainings(options.method)
    if len(options.training) != len(sources):
        told = f"hold the folders of {sources}" if sources else "not be given"
        raise UserError(f"--training: it should {told} for the objective '{settings.objective}'")
    rows = {method: method_settings(config, options.system, method) for method in sources}
    for folder, (method, row) in zip(options.training, rows.items(), strict=True):
        check_identity(folder, identity(options.system, method, options.seed, row))
    benchmark = benchmark_of(options, config)
    asked = read_prompts(options.prompts, benchmark, options.split)
    asked, place = prompts_of_part(asked, options.part, f"systems.{options.system}.evaluation.shards")
    asked = asked.reset_index(drop=True)
    from sysdpo.method.evaluation import evaluate as measure
    from sysdpo.method.objectives import trained_components
    from sysdpo.method.preferences import write_trajectories

    system = benchmark.system(options.foundation).to()
    for folder, (method, row) in zip(options.training, rows.items(), strict=True):
        adapters = adapters_of(folder, trained_components(row.objective, system.trainable))
        for name in [name for name, source in settings.take.items() if source == method] or adapters:
            one_of(f"the component taken of '{method}'", name, sorted(adapters))
            system.components[name].load(adapters[name])
    wanted = evaluation_settings(described, options.system)
    samples, metrics = measure(
        benchmark,
        system,
        asked,
        options.foundation,
        samples=wanted.samples_per_prompt,
        best_of=settings.best_of,
        seed=options.seed,
        purpose=options.split,
        greedy=wanted.greedy,
        offset=place,
    )
    with whole(options.output, holds=(SAMPLES, METRICS)) as folder:
        folder.mkdir()
        write_trajectories(samples, folder / SAMPLES)
        write_table(metrics, folder / METRICS)


def metrics(options: argparse.Namespace, config: Config) -> None:
    """Gather all evaluations into the two tables that everything shown is made from."""
    import pandas as pd

    from sysdpo.report.descriptions import read_descriptions
    from sysdpo.report.statistics import compare, summarise, win_rates
    from sysdpo.run.experiments import read_evaluations

    metric_of = read_descriptions(options.descriptions).metric
    values = read_evaluations(options.evaluations)
    for name in values["system"].unique():
        rivals = evaluation_settings(system_config(config, name), name).win_rates_against
        values = pd.concat([values, win_rates(values[values["system"] == name], rivals)], ignore_index=True)
    comparisons = []
    for system, part in values.groupby("system", sort=False):
        present = part["method"].unique().tolist()
        rows = method_rows(config, str(system))
        trained = [method for method in present if rows[method]["objective"] != "none"]
        baselines = [name for name in system_config(config, str(system))["baselines"] if name in present]
        comparisons.append(compare(part, baselines, trained, metric_of))
    write_table(summarise(values, metric_of), options.output)
    write_table(pd.concat(comparisons, ignore_index=True), options.comparisons)


def tables(options: argparse.Namespace, config: Config) -> None:
    """Write a system's paper-style tables."""
    from sysdpo.report.descriptions import read_descriptions
    from sysdpo.report.tables import write_tables

    shown = read_descriptions(options.descriptions).system(options.system)
    write_tables(options.system, options.metrics, options.comparisons, shown, options.output)


def figure(options: argparse.Namespace, config: Config) -> None:
    """Draw one figure of a system."""
    from sysdpo.report.figure import figure_name
    from sysdpo.report.run import read_run, write_figure

    named = system_config(config, options.system).get("figures") or [options.figure]
    reference = next((each for each in named if figure_name(each) == options.figure), options.figure)
    tables = (options.metrics, options.comparisons)
    write_figure(read_run(options.system, options.descriptions, *tables, options.runs), reference, options.output)


def credit(options: argparse.Namespace, config: Config) -> None:
    """Table how each method's margin splits over the components."""
    from sysdpo.report.credit import write_credit_table
    from sysdpo.report.descriptions import read_descriptions

    shown = read_descriptions(options.descriptions).system(options.system)
    # A run's folder may hold trainings of ablations and experiments, too.
    methods = list(system_config(config, options.system)["methods"])
    write_credit_table(shown, options.runs, options.output, methods)


def claims(options: argparse.Namespace, config: Config) -> None:
    """Hold every claim against the intervals."""
    from sysdpo.report.claims import write_claims
    from sysdpo.report.descriptions import read_descriptions

    write_claims(
        claims_about(config, options.claims, ablations=options.ablations),
        options.metrics,
        options.comparisons,
        read_descriptions(options.descriptions),
        options.output,
    )


def show(options: argparse.Namespace, config: Config) -> None:
    """Print the claims of a run, beside those of a committed one where there are some."""
    from sysdpo.report.descriptions import read_descriptions
    from sysdpo.run.verdicts import beside

    print(beside(options.claims, options.committed, read_descriptions(options.descriptions)))


def quote(options: argparse.Namespace, config: Config) -> None:
    """Rewrite the blocks of claims in a page, such as the README."""
    from sysdpo.report.descriptions import read_descriptions
    from sysdpo.report.quotes import quote as rewrite

    rewrite(options.results, read_descriptions(options.descriptions), options.output)


def study(options: argparse.Namespace, config: Config) -> None:
    """Compute a study on systems small enough to enumerate."""
    settings = study_config(config, options.study)
    where = f"studies.{options.study}"
    found: Any = load_function(str(settings.get("factory", "")), f"{where}.factory")
    if isinstance(found, type) and issubclass(found, Study):
        table = load_function(found.table, f"{found.__name__}.table")(found.read(settings, where))
    else:
        table = found(without(settings, ["factory"]))
    write_table(table, options.output)


def draw(options: argparse.Namespace, config: Config) -> None:
    """Draw a study's figure."""
    from sysdpo.report.study import write_study_figure

    write_study_figure(options.study, options.table, options.output)


def report(options: argparse.Namespace, config: Config) -> None:
    """Write the report page."""
    from sysdpo.report.descriptions import read_descriptions
    from sysdpo.report.page import write_report

    descriptions = read_descriptions(options.descriptions)
    write_report(options.results, descriptions, options.output, with_claims=config.get("claims") is not None)


def manifest(options: argparse.Namespace, config: Config) -> None:
    """Write the provenance of the results."""
    from sysdpo.run.manifest import write_manifest

    write_manifest(options.results, config, options.output)


def verify(options: argparse.Namespace, config: Config) -> None:
    """Compare every byte of the results with the checksums of a manifest made before."""
    from sysdpo.run.manifest import stop_if_other

    stop_if_other(options.results, options.digests)


def verdicts(options: argparse.Namespace, config: Config) -> None:
    """Compare what the intervals of two runs say, where their bytes cannot be the same."""
    from sysdpo.run.verdicts import compare_verdicts

    print(compare_verdicts(options.comparisons, options.committed))


def experiment(options: argparse.Namespace, config: Config) -> None:
    """Gather an experiment's runs into one table, and draw it."""
    from sysdpo.report.descriptions import read_descriptions
    from sysdpo.run.experiments import gather

    descriptions = read_descriptions(options.descriptions)
    gather(options.experiment, config, options.evaluations, descriptions, options.output, options.figures)
