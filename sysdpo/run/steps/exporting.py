"""The steps that take a trained system out of a run: an export that travels, and a try on a prompt of one's own."""

from pathlib import Path
from typing import Annotated

from sysdpo.base.errors import UserError
from sysdpo.method.config import method_settings, system_config
from sysdpo.run import options
from sysdpo.run.inputs import benchmark_of
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
