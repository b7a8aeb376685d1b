"""`ro-crate-metadata.json`: the results as an RO-Crate 1.1 (https://w3id.org/ro/crate/1.1), JSON-LD for archives.

It lists what is shown of a run (tables, figures, claims, manifest, the configuration), each file with its size, media
type and SHA-256, and says which software made it. The runs themselves, models and trajectories, are left out.
"""

import hashlib
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sysdpo
from sysdpo.base.errors import UserError
from sysdpo.method.config import Config
from sysdpo.report.files import write_text
from sysdpo.run.manifest import checksums, commit

CRATE = "ro-crate-metadata.json"
PROFILE, CONTEXT = "https://w3id.org/ro/crate/1.1", "https://w3id.org/ro/crate/1.1/context"
TERMS = {"sha256": "https://schema.org/sha256"}
"""What the profile's own context does not define."""
LICENSE = "https://spdx.org/licenses/Apache-2.0"
PAPER, SOFTWARE, RUN = "https://arxiv.org/abs/2502.17721", "#sysdpo", "#run"
LEFT_OUT = "runs"
MEDIA_TYPES = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tex": "application/x-tex",
    ".yaml": "application/yaml",
}


def check_crate(output: Path, results: Path) -> None:
    """Raises `UserError` unless `output` is where a crate's metadata must be."""
    if output.name != CRATE or output.resolve().parent != results.resolve():
        raise UserError(f"--crate: '{output}' should be '{results / CRATE}', where an RO-Crate has it")


def write_crate(results: Path, config: Config, manifest: Path, output: Path) -> None:
    """Write the description; the same results, commit and configuration give the same file."""
    names = {name: digest for name, digest in checksums(results).items() if LEFT_OUT not in Path(name).parts}
    if manifest.resolve().parent == results.resolve():
        names[manifest.name] = hashlib.sha256(manifest.read_bytes()).hexdigest()
    files = [_file(results, name, digest) for name, digest in sorted(names.items())]
    parts = [{"@id": file["@id"]} for file in files]
    configs = [part for part in parts if part["@id"] == "config.yaml"]
    source = Path(sysdpo.__file__).resolve().parents[1]
    made_by = commit(source, results)
    systems, seeds = ", ".join(config["systems"]), ", ".join(map(str, config.get("seeds", ())))
    graph = [
        {"@id": CRATE, "@type": "CreativeWork", "conformsTo": {"@id": PROFILE}, "about": {"@id": "./"}},
        {
            "@id": "./",
            "@type": "Dataset",
            "name": "Results of a SysDPO comparison",
            "description": f"Methods that align compound AI systems, compared on {systems}; seeds {seeds}.",
            "datePublished": _date(source, results, names),
            "license": {"@id": LICENSE},
            "citation": {"@id": PAPER},
            "hasPart": parts,
            "mentions": [{"@id": RUN}],
        },
        {
            "@id": RUN,
            "@type": "CreateAction",
            "name": "The run",
            "instrument": {"@id": SOFTWARE},
            "object": configs,
            "result": [part for part in parts if part not in configs],
        },
        {
            "@id": SOFTWARE,
            "@type": "SoftwareApplication",
            "name": "sysdpo",
            "softwareVersion": sysdpo.__version__,
            "license": {"@id": LICENSE},
            **({"identifier": f"git:{made_by['commit']}"} if made_by["commit"] else {}),
            **({"description": "with changes that are in no commit"} if made_by["uncommitted_changes"] else {}),
        },
        {"@id": LICENSE, "@type": "CreativeWork", "name": "Apache License 2.0"},
        {
            "@id": PAPER,
            "@type": "ScholarlyArticle",
            "name": "Aligning Compound AI Systems via System-level DPO",
        },
        *files,
    ]
    write_text(output, json.dumps({"@context": [CONTEXT, TERMS], "@graph": graph}, indent=2) + "\n")


def _file(results: Path, name: str, digest: str) -> dict[str, Any]:
    media = MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")
    size = str((results / name).stat().st_size)
    return {
        "@id": quote(name),
        "@type": "File",
        "name": name,
        "encodingFormat": media,
        "contentSize": size,
        "sha256": digest,
    }


def _date(source: Path, results: Path, names: Any) -> str:
    """The date of the commit, or without git that of the newest file."""
    try:
        command = ["git", "-C", str(source), "show", "-s", "--format=%cs", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        newest = max(((results / name).stat().st_mtime for name in names), default=0.0)
        return datetime.fromtimestamp(newest, UTC).date().isoformat()
