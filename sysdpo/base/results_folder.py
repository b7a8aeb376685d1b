"""The folder that a run has to itself."""

from collections.abc import Sequence
from pathlib import Path

from sysdpo.base.errors import UserError
from sysdpo.base.functions import LIBRARY

RUN_MAKES = (
    *("runs", "logs", "benchmarks", "checkpoints", "config.yaml", "metrics.csv", "comparisons.csv", "tables"),
    *("claims.csv", "claims.md", "descriptions.json", "figures", "studies", "experiments", "ablations"),
    *("manifest.json", "report.html"),
)
"""What a run leaves in its folder of results."""


def check_results(results: str, configurations: Sequence[Path] = ()) -> None:
    """Raises `UserError` unless a run may have this folder to itself.

    It neither is nor holds the project, the working directory, the home folder or one of these configurations; it does
    not lie in the project's source; and if it holds anything, then something that a run has made.
    """
    folder, source = Path(results).resolve(), LIBRARY.parent
    apart = {"the working directory": Path.cwd(), "your home folder": Path("~").expanduser(), "the project": source}
    apart |= {f"the configuration '{path}'": path for path in configurations}
    for what, path in apart.items():
        if path.resolve().is_relative_to(folder):
            raise UserError(f"results: '{results}' should be a folder of its own, but it would hold {what}")
    for part in (LIBRARY, source / "workflow"):
        if folder.is_relative_to(part.resolve()):
            raise UserError(f"results: '{results}' should be a folder of its own, but it lies in '{part.name}'")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"results: '{results}' should be a folder, but it is a file")
    held = [path for path in folder.glob("*") if not path.name.startswith(".")]
    if held and not any(path.name in RUN_MAKES or any((path / name).exists() for name in RUN_MAKES) for path in held):
        raise UserError(
            f"results: '{results}' should be a folder of its own, but it holds '{min(held).name}' and nothing that a "
            "run has made"
        )
