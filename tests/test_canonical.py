"""Equal adapters are equal files, in whatever order a library wrote them."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sysdpo.canonical import put_in_order


def test_configurations_come_into_one_order(tmp_path: Path) -> None:
    contents = set()
    for number, names in enumerate((["q", "v", "k"], ["k", "v", "q"])):
        folder = tmp_path / str(number) / "adapter"
        folder.mkdir(parents=True)
        config = {"target_modules": names, "ranks": [3, 1], "r": 4}
        (folder / "adapter_config.json").write_text(json.dumps(dict(sorted(config.items(), reverse=bool(number)))))
        put_in_order(tmp_path / str(number))
        contents.add((folder / "adapter_config.json").read_bytes())
    assert len(contents) == 1
    assert json.loads(contents.pop()) == {"target_modules": ["k", "q", "v"], "ranks": [3, 1], "r": 4}


def test_a_safetensors_file_says_the_same_afterwards(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(5.0), "a": torch.tensor([1, 2], dtype=torch.bfloat16), "none": torch.empty(0)}
    metadata = {f"ключ {number}": 'with "quotes" and \n' for number in range(8)}
    written = set()
    for number in range(8):  # the library's order is another one every time
        path = tmp_path / f"{number}.safetensors"
        save_file(tensors, path, metadata)
        put_in_order(tmp_path)
        written.add(path.read_bytes())
        with safe_open(path, "pt") as file:
            assert file.metadata() == metadata
            assert all(torch.equal(file.get_tensor(name), value) for name, value in tensors.items())
    assert len(written) == 1


def test_files_without_metadata_stay(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    put_in_order(tmp_path)
    assert (tmp_path / "a.safetensors").read_bytes() == before
