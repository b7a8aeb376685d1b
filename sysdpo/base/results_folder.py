"""The folder of results, which must belong to one run alone."""

from collections.abc import Sequence
from pathlib import Path

from sysdpo.base.errors import UserError
from sysdpo.base.functions import LIBRARY

RUN_MAKES = (
    *("runs", "logs", "benchmarks", "checkpoints", "config.yaml", "metrics.csv", "comparisons.csv", "tables"),
    *("claims.csv", "claims.md", "descriptions.json", "figures", "studies", "experiments", "ablations"),
    *("manifest.json", "report.html"),
)
"""Names of the files and folders that a run writes there."""


def check_results(results: str, configurations: Sequence[Path] = ()) -> None:
    """Raises `UserError` unless a run may use this folder for its results.

    It must neither be nor contain the project, the working directory, the home folder or one of these configurations;
    it must not lie in the project's source; and unless it is empty it must contain something that a run has written.
    """
    folder, source = Path(results).resolve(), LIBRARY.parent
    others = {"the working directory": Path.cwd(), "your home folder": Path("~").expanduser(), "the project": source}
    others |= {f"the configuration '{path}'": path for path in configurations}
    for owner, path in others.items():
        if path.resolve().is_relative_to(folder):
            raise UserError(f"results: '{results}' should be a folder of its own, but it would hold {owner}")
    for code in (LIBRARY, source / "workflow"):
        if folder.is_relative_to(code.resolve()):
            raise UserError(f"results: '{results}' should be a folder of its own, but it lies in '{code.name}'")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"results: '{results}' should be a folder, but it is a file")
    items = [path for path in folder.glob("*") if not path.name.startswith(".")]
    if items and not any(path.name in RUN_MAKES or any((path / name).exists() for name in RUN_MAKES) for path in items):
        raise UserError(
            f"results: '{results}' should be a folder of its own, but it holds '{min(items).name}' and nothing that a "
            "run has made"
        )
