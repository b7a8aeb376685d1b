"""The step that checks a configuration before anything is computed."""

from sysdpo.method.config import check
from sysdpo.report.claim_file import check_claims
from sysdpo.run import options
from sysdpo.run.figure_check import check_figures
from sysdpo.run.inputs import benchmark_of


def validate(*, config: options.Config) -> None:
    """Check every setting, every system's prompts and every claim, without building a model."""
    check(config)
    for system in config["systems"]:
        benchmark_of(config, system).prompts()
    check_claims(config)
    check_figures(config)
