"""The steps that check a configuration, or a system, before anything is computed."""

import sys
from functools import reduce
from pathlib import Path
from typing import Annotated, Any

import typer

from sysdpo.base.errors import UserError, printable
from sysdpo.method.config import Config, method_settings
from sysdpo.method.config import check as check_config
from sysdpo.method.scales import merged, without_dropped
from sysdpo.report.claim_file import check_claims
from sysdpo.run import options
from sysdpo.run.figure_check import check_figures
from sysdpo.run.inputs import benchmark_of


def validate(*, config: options.Config) -> None:
    """Check every setting, every system's prompts and every claim, without building a model."""
    check_config(config)
    for system in config["systems"]:
        benchmark_of(config, system).prompts()
    check_claims(config)
    check_figures(config)


def check(
    *,
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE[:NAME]", help="The Python file, and the name of the benchmark or system in it."),
    ] = None,
    preferences: Annotated[Path | None, options.path("Preferences, whose inputs a system alone is sampled on.")] = None,
    config: Annotated[Path | None, options.path("A configuration that names the system, instead of FILE.")] = None,
    system: Annotated[str | None, options.text("The system's name in the configuration, if it has several.")] = None,
    foundation: Annotated[
        Path | None, options.path("The foundation models, where the system has any.", "FOLDER")
    ] = None,
) -> int:
    """Say what is wrong with a system before anything is trained.

    It builds the system, draws its graph, samples every node on three prompts,
    scores them, and takes one backward pass. Each problem is one sentence; the
    exit code is then 2.

    For example: sysdpo check helpdesk.py, or
    sysdpo check --config helpdesk.yaml --system helpdesk
    """
    if (file is None) == (config is None):
        raise UserError("FILE, or --config with a configuration, should be given, and not both")
    if config is not None:
        return _tell(_check_configured(config, system, foundation))
    from sysdpo.library.checking import check_benchmark, check_system
    from sysdpo.library.finding import find
    from sysdpo.library.preferences import read_preferences

    found = find(str(file))
    if not callable(found):
        return _tell(check_benchmark(found, _foundation_of(found, foundation)))
    if preferences is None:
        raise UserError("--preferences should be given: a system alone has no prompts that it could be sampled on")
    return _tell(check_system(found, read_preferences(preferences, found()).trajectories))


def _check_configured(config: Path, system: str | None, foundation: Path | None) -> Any:
    """What is wrong with a system of a configuration, which is laid over `config.yaml` if there is one."""
    from sysdpo.library.checking import check_benchmark, sentence

    base = Path("config.yaml")
    files = [path for path in (base,) if path.is_file() and path.resolve() != config.resolve()]
    whole: Config = without_dropped(reduce(merged, map(options.load_config, [*files, config])))
    systems = list(whole["systems"])
    if system is None and len(systems) > 1:
        raise UserError(f"--system should be given: one of {systems}")
    name = system or systems[0]
    try:
        check_config(whole)
        benchmark = benchmark_of(whole, name)
    except UserError:
        raise
    except Exception as error:  # in code of the system's own
        raise UserError(sentence(f"systems.{name}", error)) from error
    methods = {method: method_settings(whole, name, method) for method in whole["systems"][name]["methods"]}
    return check_benchmark(benchmark, _foundation_of(benchmark, foundation), methods)


def _foundation_of(benchmark: Any, foundation: Path | None) -> Path:
    if benchmark.foundations and foundation is None:
        raise UserError(
            f"--foundation should be given: the folder of the foundation models {sorted(benchmark.foundations)}, which "
            "a run of the workflow leaves in results/runs/SYSTEM/SEED/foundation"
        )
    return foundation or Path()


def _tell(findings: Any) -> int:
    """Print what has been found; the exit code."""
    if findings.graph:
        print(findings.graph, end="\n\n")
    for note in findings.notes:
        print(f"Note: {printable(note)}.")
    for problem in findings.problems:
        print(f"sysdpo check: {printable(problem)}", file=sys.stderr)
    if not findings.problems:
        print(f"All is well: {', '.join(findings.seen)}.")
    return 2 if findings.problems else 0
