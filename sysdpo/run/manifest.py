"""`results/manifest.json`: what made these results, on what machine, and the checksum of every file."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from importlib import metadata
from io import BufferedReader
from pathlib import Path
from typing import Any

from sysdpo.base import numerics
from sysdpo.base.errors import UserError
from sysdpo.report.files import write_text

PACKAGES = (
    *("sysdpo", "torch", "transformers", "diffusers", "peft", "accelerate", "safetensors"),
    *("numpy", "pandas", "pyarrow", "matplotlib", "snakemake"),
)
# The page shows the manifest and the crate lists it, so both are made after it; logs and timings differ between runs.
LEFT_OUT = {"manifest.json", "report.html", "ro-crate-metadata.json"}
TRAINING_LOG = "training.jsonl"
LEFT_OUT_FOLDERS = {"logs", "benchmarks", "checkpoints", ".snakemake"}


def write_manifest(results: Path, config: dict[str, Any], output: Path) -> None:
    """Write commit, hash of the configuration, seeds, numerics, versions, machine and the SHA-256 of every result.

    There is no date, host name or path outside of `results` in it, so that the same run on the same machine writes the
    same file. The manifest itself, `report.html` and the folders logs, benchmarks and checkpoints are left out.
    """
    manifest = {
        **commit(Path(__file__).resolve().parents[2], results),
        "config_sha256": config_hash(config),
        "seeds": config.get("seeds", []),
        "numerics": config.get("numerics", numerics.chosen()),
        "versions": versions(),
        "machine": machine(),
        "files": checksums(results),
    }
    write_text(output, json.dumps(manifest, indent=2, sort_keys=False) + "\n")


def config_hash(config: dict[str, Any]) -> str:
    """SHA-256 of the configuration as JSON with sorted keys, which the order of keys and comments do not change."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def checksums(results: Path) -> dict[str, str]:
    """SHA-256 of every file below `results` by its relative path.

    Training logs count without their times. A folder with a manifest of its own, another scale's results, is left out.
    """
    found = {}
    others = {path.parent for path in results.rglob("manifest.json")} - {results}
    for path in sorted(results.rglob("*")):
        if others & set(path.parents):
            continue
        parts = path.relative_to(results).parts
        hidden = any(part.startswith(".") for part in parts)
        if path.is_file() and not hidden and not LEFT_OUT_FOLDERS & set(parts) and parts[0] not in LEFT_OUT:
            with path.open("rb") as opened:
                found["/".join(parts)] = _checksum(opened)
    return found


def stop_if_other(results: Path, digests: Path) -> None:
    """Raises `UserError` unless the files below `results` are, byte for byte, those of another manifest."""
    try:
        wanted = dict(json.loads(digests.read_text())["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--digests: '{digests}' should be a manifest.json that lists files ({error})") from error
    found = checksums(results)
    other = [name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
    if other:
        raise UserError(
            f"--results: '{results}' should have the {len(wanted)} files of '{digests}' to the byte; {len(other)} "
            f"differ or are missing on one side, {', '.join(other[:5])}{' ...' if len(other) > 5 else ''}"
        )


def _checksum(file: BufferedReader) -> str:
    """SHA-256 of an open file; training logs count without the times of their updates."""
    if Path(file.name).name != TRAINING_LOG:
        return hashlib.file_digest(file, "sha256").hexdigest()
    timeless = [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in file]
    return hashlib.sha256(json.dumps(timeless).encode()).hexdigest()


def commit(source: Path, results: Path) -> dict[str, Any]:
    """The commit of the checkout at `source`, and whether files outside of `results` differ; None without git."""
    head = _git(source, "rev-parse", "HEAD")
    if head is None:
        return {"commit": None, "uncommitted_changes": None}
    aside = []
    if results.resolve().is_relative_to(source) and results.resolve() != source:
        aside = [f":(exclude){results.resolve().relative_to(source)}"]
    changed = _git(source, "status", "--porcelain", "--untracked-files=no", "--", ".", *aside)
    return {"commit": head, "uncommitted_changes": bool(changed)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, usable cores, memory in GiB and GPUs, without anything that identifies the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor = _first(Path("/proc/cpuinfo"), r"model name\s*:\s*(.+)")
    kibibytes = _first(Path("/proc/meminfo"), r"MemTotal:\s*(\d+)")
    cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": processor or platform.processor() or "unknown",
        "cores": cores,
        "memory_gib": round(int(kibibytes) / 2**20) if kibibytes else None,
        "gpus": [name for card in cards if (name := _first(card, r"Model:\s*(.+)"))],
    }


def _first(path: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, path.read_text())
    except OSError:
        return None
    return found.group(1).strip() if found else None
