"""The identity in a training's folder, so that no method is evaluated with the adapters of another."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sysdpo.base.errors import UserError
from sysdpo.base.settings import one_of
from sysdpo.method.settings import MethodSettings
from sysdpo.run.fingerprint import method_checksum

METHOD = "method.json"
HOLDS = ("training.jsonl", METHOD, "adapters/*")
"""The files of such a folder."""


def identity(system: str, method: str, seed: int, settings: MethodSettings) -> dict[str, Any]:
    """The identity of a training: system, method, seed and the settings that matter."""
    named = {"system": system, "method": method, "seed": seed, "objective": settings.objective}
    return named | {"settings": method_checksum(settings)}


def write_identity(folder: Path, identity: dict[str, Any]) -> None:
    """Write the identity into the folder of the training."""
    (folder / METHOD).write_text(json.dumps(identity, indent=1) + "\n")


def check_identity(folder: Path, expected: dict[str, Any], option: str = "--training") -> None:
    """Raises `UserError` unless the folder holds the training of this identity.

    option: the command's option that named the folder.
    """
    try:
        found = dict(json.loads((folder / METHOD).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{option}: '{folder}' should be a folder that the step `train` has made ({error})") from error
    for name, value in expected.items():
        if found.get(name) != value:
            raise UserError(f"{option}: '{folder}' should have the {name} {value!r}, but has {found.get(name)!r}")


def adapters_of(folder: Path, trained: Collection[str]) -> dict[str, Path]:
    """The folder of each component's adapter; raises `UserError` unless exactly the trained components have one."""
    adapters = {path.name: path for path in sorted((folder / "adapters").glob("*/"))}
    if sorted(adapters) != sorted(trained):
        raise UserError(
            f"--training: '{folder}' should hold the adapters of {sorted(trained)}, which the method trains; it has "
            f"those of {sorted(adapters)}"
        )
    return adapters


def load_trained(
    models: Any, settings: MethodSettings, trainings: Mapping[str, tuple[Path, MethodSettings]]
) -> list[str]:
    """Load into a system what a method with these settings has of trainings; returns the components' names.

    trainings: folder and settings of each, by the method that was trained.
    """
    loaded = []
    for source, (folder, row) in trainings.items():
        adapters = adapters_of(folder, row.trained(models.trainable))
        for name in [name for name, taken in settings.take.items() if taken == source] or adapters:
            one_of(f"the component taken of '{source}'", name, sorted(adapters))
            models.components[name].load(adapters[name])
            loaded.append(name)
    return loaded
