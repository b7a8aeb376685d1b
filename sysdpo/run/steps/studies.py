"""The steps of a study: its table, and its figure."""

from pathlib import Path
from typing import Annotated, Any

from sysdpo.base.files import write_table
from sysdpo.base.functions import load_function
from sysdpo.base.settings import without
from sysdpo.method.config import Study, study_config
from sysdpo.run import options

StudyName = Annotated[str, options.text("The study's name in the configuration.")]


def study(*, config: options.Config, study: StudyName, output: options.OutputFile) -> None:
    """Compute a study's table, on systems small enough to enumerate or on simulated runs."""
    settings = study_config(config, study)
    where = f"studies.{study}"
    found: Any = load_function(str(settings.get("factory", "")), f"{where}.factory")
    if isinstance(found, type) and issubclass(found, Study):
        table = load_function(found.table, f"{found.__name__}.table")(found.read(settings, where))
    else:
        table = found(without(settings, ["factory"]))
    write_table(table, output)


def draw(
    *,
    config: options.Config,
    study: StudyName,
    table: Annotated[Path, options.path("The study's table, from `study`.")],
    output: options.Figures,
) -> None:
    """Draw a study's figure from its table."""
    from sysdpo.report.study import write_study_figure

    write_study_figure(study, table, output)
