"""What a training depends on is in its fingerprint, and nothing else."""

import copy
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from sysdpo.method.settings import MethodSettings
from sysdpo.run import fingerprint
from sysdpo.run.fingerprint import content_checksum, training_fingerprint

DESCRIBED: dict[str, Any] = {
    "factory": "sysdpo.applications.answers.settings:ChatRefinement",
    "components": {"drafter": {"model": "hub/drafter", "lora": {"r": 2}, "batch_size": 3}},
    "trajectories": {"samples_per_prompt": 2},
    "scorer": {"model": "hub/judge", "batch_size": 2},
}


def taken(tmp_path: Path, described: dict[str, Any] | None = None, *, seed: int = 0, **method: Any) -> dict[str, str]:
    table = tmp_path / "pairs.parquet"
    if not table.exists():
        table.write_bytes(b"pairs")
    rates = {"learning_rate": {"drafter": 0.1}, "chosen_weight": {"drafter": 0.0}}
    settings = MethodSettings(**{"objective": "direct"} | rates | method)
    made = {"seed": seed, "foundation": tmp_path / "foundation", "tables": {"pairs": table}}
    return training_fingerprint(described or DESCRIBED, settings, **made)


def differing(first: dict[str, str], second: dict[str, str]) -> set[str]:
    return {name for name, _ in first.items() ^ second.items()}


def described(**over: Any) -> dict[str, Any]:
    changed = copy.deepcopy(DESCRIBED)
    for section, values in over.items():
        changed[section] |= values
    return changed


def test_it_is_of_the_settings_the_seed_and_the_tables(tmp_path: Path) -> None:
    first = taken(tmp_path)
    assert taken(tmp_path) == first
    assert differing(first, taken(tmp_path, seed=1)) == {"seed"}
    assert differing(first, taken(tmp_path, beta=0.25)) == {"method"}
    assert differing(first, taken(tmp_path, candidates={"count": 3})) == {"method"}
    assert taken(tmp_path, candidates={"count": 4}, pairs="all", beta=0.5) == first  # the defaults, written down
    (tmp_path / "pairs.parquet").write_bytes(b"other")
    assert differing(first, taken(tmp_path)) == {"pairs"}


def test_what_samples_between_rounds_counts_where_there_are_several(tmp_path: Path) -> None:
    other = described(scorer={"model": "hub/other"})
    assert taken(tmp_path, other) == taken(tmp_path)
    assert differing(taken(tmp_path, other, rounds=2), taken(tmp_path, rounds=2)) == {"scorer"}
    same = described(scorer={"batch_size": 7}, trajectories={"shards": 4})
    assert taken(tmp_path, same, rounds=2) == taken(tmp_path, rounds=2)


def test_a_model_counts_by_its_content_and_not_by_its_name(tmp_path: Path) -> None:
    made = {}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        made[name] = described(components={"drafter": {"model": str(tmp_path / name)}})
    first = taken(tmp_path, made["one"])
    assert taken(tmp_path, made["two"]) == first
    (tmp_path / "one" / ".hidden").write_bytes(b"a timestamp")
    assert taken(tmp_path, made["one"]) == first
    (tmp_path / "one" / "model.safetensors").write_bytes(b"Weights")
    assert differing(first, taken(tmp_path, made["one"])) == {"components"}


def test_a_hub_id_counts_with_its_revision_and_the_commit_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revised = described(components={"drafter": {"model": "hub/drafter", "revision": "v2"}})
    assert differing(taken(tmp_path), taken(tmp_path, revised)) == {"components"}
    commits = iter(("aaa", "bbb"))

    def cached(name: str, file: str, revision: str | None) -> str | None:
        return f"/cache/snapshots/{next(commits)}/{file}" if name == "hub/drafter" else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    assert differing(taken(tmp_path), taken(tmp_path)) == {"components"}


def test_foundation_models_count_and_what_lies_beside_them_does_not(tmp_path: Path) -> None:
    model = tmp_path / "foundation" / "writer"
    model.mkdir(parents=True)
    (model / "weights").write_text("a")
    first = taken(tmp_path)
    (tmp_path / "foundation" / "quality.json").write_text("{}")  # another step's, at its own time
    (model / ".snakemake_timestamp").touch()
    assert taken(tmp_path) == first
    (model / "weights").write_text("b")
    assert differing(first, taken(tmp_path)) == {"foundation models"}


def test_the_module_behind_a_system_of_ones_own_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def build(settings): ...")
    own = DESCRIBED | {"factory": "mine:build"}
    first = taken(tmp_path, own)
    assert "mine" not in sys.modules
    (tmp_path / "mine.py").write_text("def build(settings): pass")
    assert differing(first, taken(tmp_path, own)) == {"module"}


def test_of_a_large_file_pieces_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "WHOLE", 2**20)
    monkeypatch.setattr(fingerprint, "BEGINNING", 2**10)
    monkeypatch.setattr(fingerprint, "PIECE", 2**8)
    path = tmp_path / "model.safetensors"
    weights = bytearray(os.urandom(2**21))
    path.write_bytes(weights)
    first, size = content_checksum(path), len(weights)
    assert content_checksum(path) == first
    for place in (0, 2**10 - 1, (size - 2**8) * 77 // 256, size - 1):
        path.write_bytes(weights[:place] + bytes([weights[place] ^ 1]) + weights[place + 1 :])
        assert content_checksum(path) != first, place
    path.write_bytes(weights[:-1])
    assert content_checksum(path) != first
    path.write_bytes(weights[: 2**10] + bytearray(os.urandom(size - 2**10)))
    assert content_checksum(path) != first
