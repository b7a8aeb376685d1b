"""The steps that take a trained system out of a run: an export that travels, and a try on a prompt of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from sysdpo.base.errors import UserError
from sysdpo.method.config import method_rows, method_settings, system_config
from sysdpo.run import options
from sysdpo.run.inputs import benchmark_of, inputs_of
from sysdpo.run.systems import foundation_below, trained_system, trainings_below

FoundationOfRun = Annotated[Path | None, options.path("The foundation models; by default those of the run.", "FOLDER")]


def export(
    *,
    config: options.Config,
    system: options.System,
    seed: options.Seed,
    method: options.Method,
    runs: options.Runs,
    foundation: FoundationOfRun = None,
    metrics: Annotated[Path | None, options.path("The table of metrics, from `metrics`, for the model cards.")] = None,
    output: options.OutputFolder,
) -> None:
    """Export a trained system: whole, and each model's adapter and merged weights, with model cards."""
    described = system_config(config, system)
    if not method_settings(config, system, method).trainings(method):
        trained = [name for name in described["methods"] if method_settings(config, system, name).trains]
        raise UserError(f"--method: '{method}' trains nothing; it should be one of {trained}")
    folder = foundation_below(runs, seed, foundation)
    trainings_below(config, system, seed, method, runs)
    benchmark = benchmark_of(config, system)
    from sysdpo.library.exporting import check_exportable, check_replaceable
    from sysdpo.library.exporting import export as write
    from sysdpo.run.export_facts import facts_of

    check_replaceable(output)
    prompts = benchmark.prompts()
    facts = facts_of(config, system, seed, method, benchmark, prompts, metrics)
    models, trained = trained_system(config, system, seed, method, runs, folder, benchmark)
    check_exportable(models, trained)
    # A held-out prompt, for the cards' programs to run on.
    held_out = prompts[prompts["split"] == "test"]
    example = (prompts if held_out.empty else held_out).iloc[0]
    inputs = {name: example[name] for name in benchmark.inputs}
    write(models, output, inputs, trained=trained, facts=facts)


def try_(
    *,
    config: options.Config,
    system: options.System,
    seed: options.Seed,
    methods: Annotated[str, options.text("The methods to compare, separated by commas.", "NAME,NAME")],
    runs: options.Runs,
    foundation: FoundationOfRun = None,
    samples: Annotated[int, options.number("Samples of every method.")] = 1,
    all_nodes: Annotated[bool, options.flag("--all-nodes", "Show all variables, not the outputs alone.")] = False,
    pictures: Annotated[
        Path | None, options.path("Also write each picture to a file.", "FOLDER"), options.WRITTEN
    ] = None,
    page: Annotated[Path | None, options.path("Also write a page with all of it."), options.WRITTEN] = None,
    prompt: Annotated[
        list[str], typer.Argument(metavar="PROMPT", help="The system's first input, and any others as NAME=VALUE.")
    ],
) -> None:
    """Show what each method's system makes of one prompt, side by side."""
    names = list(dict.fromkeys(name.strip() for name in methods.split(",") if name.strip()))
    if not names:
        raise UserError(f"--methods: '{methods}' should name a method")
    for name in names:
        if (count := method_settings(config, system, name).best_of) > 1:
            raise UserError(
                f"--methods: '{name}' keeps the best of {count} by a score, which a prompt of one's own does not have; "
                "leave it out"
            )
    folder = foundation_below(runs, seed, foundation)
    for name in names:
        trainings_below(config, system, seed, name, runs)
    benchmark = benchmark_of(config, system)
    inputs = inputs_of(prompt, benchmark.inputs)
    import pandas as pd

    from sysdpo.library.aligning import compare
    from sysdpo.method.method_words import name_methods
    from sysdpo.report.side_by_side import as_text, write_page, write_pictures

    words, columns, outputs = name_methods(method_rows(config, system), benchmark.description.components), [], ()
    for name in names:  # one after the other, since several may not fit into memory
        models, _ = trained_system(config, system, seed, name, runs, folder, benchmark)
        columns.append(compare({words[name].label: models}, seed=seed, samples=samples, **inputs))
        outputs = models.outputs
    table = pd.concat(columns, axis=1)
    shown = table if all_nodes else table.loc[table.index.get_level_values("variable").isin(outputs)]
    shown = shown.sort_index(level="sample", sort_remaining=False, kind="stable")
    if pictures is not None:
        write_pictures(shown, pictures)
    if page is not None:
        write_page(shown, benchmark.description.title or system, inputs, page)
    print(as_text(shown))
