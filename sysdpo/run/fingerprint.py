"""What a training depends on, as checksums by name: only where all are equal does a checkpoint belong to it.

In it are the settings that change the result, the seed, the tables it reads, the base models, a person's own module
behind the system, the numerics, and the versions of the libraries that compute. Left out is what changes nothing but
rounding: how much goes through a model at once, whether activations are kept, how many processes share the work (our
choice: a training that ran out of memory should go on with a smaller `micro_batch_size`, on other machines).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from sysdpo.base import numerics
from sysdpo.base.functions import files_below, local_data, own_modules
from sysdpo.base.settings import without
from sysdpo.method.config import Config
from sysdpo.method.settings import METHOD_WITHOUT_EFFECT, SYSTEM_WITHOUT_EFFECT, MethodSettings

LIBRARIES = ("torch", "transformers", "diffusers", "peft", "accelerate")
ELSEWHERE = ("methods", "training", "baselines", "evaluation", "figures", "judge", "prompts", "foundation")
"""Sections of a system that a training does not read, or only through the method's settings and the tables."""
BETWEEN_ROUNDS = ("trajectories", "scorer", "data", "questions")
"""Sections that matter where a later round samples and scores anew."""
MODELS = ("model", "source")
"""Settings that name a hub id, or a file or folder."""

WHOLE = 64 * 2**20
BEGINNING, PIECES, PIECE = 2**20, 256, 2**16


def training_fingerprint(
    described: Config,
    settings: MethodSettings,
    *,
    seed: int,
    foundation: Path,
    tables: Mapping[str, Path],
    plugins: Sequence[Path] = (),
    held_out: bool = False,
) -> dict[str, str]:
    """The checksums, by name, of everything that a training depends on.

    described: the section of its system. foundation: the folder of the foundation models. tables: the files that the
    training reads. plugins: the files of the configuration's own modules. held_out: whether it measures held-out pairs,
    which come from the system's data.
    """
    unread = (*ELSEWHERE, *(() if settings.rounds > 1 else BETWEEN_ROUNDS))
    sections = {name: _checksum(_effective(part)) for name, part in described.items() if name not in unread}
    models = sorted(folder for folder in foundation.glob("[!.]*/") if folder.is_dir())
    versions = {name: metadata.version(name) for name in LIBRARIES}
    data = [content_checksum(path) for path in local_data(described)] if held_out else []
    return {
        "method": method_checksum(settings),
        **({"held-out data": _checksum(data)} if held_out else {}),
        **sections,
        **{name: _file_checksum(path) for name, path in tables.items()},
        "seed": str(seed),
        "foundation models": _checksum([(folder.name, content_checksum(folder)) for folder in models]),
        "module": _checksum([content_checksum(path) for path in [*own_modules(described), *plugins]]),
        "libraries": _checksum(versions),
        "numerics": numerics.chosen(),
    }


def method_checksum(settings: MethodSettings) -> str:
    """The checksum of the settings that change what is trained, without those that have their default.

    A setting that a later version adds then does not invalidate earlier trainings.
    """
    method = _chosen(settings) | {"candidates": _chosen(settings.candidates)}
    return _checksum(without(method, METHOD_WITHOUT_EFFECT))


def _chosen(settings: Any) -> dict[str, Any]:
    fields = type(settings).model_fields
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    return {name: value for name, value in settings.fields.items() if value != defaults[name]}


def content_checksum(path: Path) -> str:
    """The checksum of a file, or of a folder with the names of its files, hidden ones left out.

    Files up to 64 MiB are read completely. Of a larger one its size, its beginning (in safetensors the names and shapes
    of all weights), its end and 256 evenly spread pieces of 64 KiB are read, which takes seconds for the 16 GB of a
    large model. A training changes all weights and therefore these pieces; a change of a few bytes may be missed.
    """
    digest = hashlib.blake2b(digest_size=20)
    for file in files_below(path):
        digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        for piece in _pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    with file.open("rb") as opened:
        if size <= WHOLE:
            yield opened.read()
            return
        yield opened.read(BEGINNING)
        for number in range(1, PIECES + 1):
            opened.seek((size - PIECE) * number // PIECES)
            yield opened.read(PIECE)


def _file_checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _effective(settings: Any) -> Any:
    """Settings without those that have no effect; names of models and data are replaced by what they stand for."""
    if not isinstance(settings, Mapping):
        return settings
    return {
        name: _identity(str(value), settings.get("revision")) if name in MODELS and value else _effective(value)
        for name, value in settings.items()
        if name not in SYSTEM_WITHOUT_EFFECT
    }


def _identity(name: str, revision: str | None) -> str:
    """The checksum of a path's content, or the name of a hub id with the commit that is in the cache."""
    if Path(name).exists():
        return content_checksum(Path(name))
    # It takes a second to import, and only trainings need it.
    from huggingface_hub import try_to_load_from_cache

    for file in ("config.json", "model_index.json"):
        try:
            cached = try_to_load_from_cache(name, file, revision=revision)
        except ValueError:  # no hub id either
            break
        if isinstance(cached, str):
            return f"{name} {Path(cached).parent.name}"
    return f"{name} {revision}"


def _checksum(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=20).hexdigest()
