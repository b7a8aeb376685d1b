"""Equal settings and seeds give equal results, whatever the process did before or drew at random."""

import copy
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from steps import Steps

REPOSITORY = Path(__file__).parents[2]
TINY = {
    "prompts": {"train": 4, "validation": 2, "test": 4},
    "foundation": {
        "writer": {"answers": 40, "steps": 3, "batch_size": 8, "width": 16, "layers": 1},
        "painter": {"images": 64, "steps": 2, "batch_size": 8, "width": 32, "layers": 1, "components": 8},
        "regressor": {"images": 40, "steps": 2, "batch_size": 8},
    },
    "trajectories": {"samples_per_prompt": 3},
    "evaluation": {"samples_per_prompt": 1},
}


def tiny_config() -> dict:
    shipped = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    system = copy.deepcopy(shipped["systems"]["progressive_images"]) | TINY
    system["training"] |= {"steps": 2, "batch_size": 4, "warmup_steps": 1}
    return {"systems": {"progressive_images": system}}


def whole_chain(root: Path, noise: int) -> Steps:
    """Every step of one method, with torch's global generator in another state before each."""
    steps = Steps(root, tiny_config())
    torch.manual_seed(noise)
    steps.prepare()
    torch.manual_seed(noise + 1)
    assert steps("train", method="direct") == 0
    torch.manual_seed(noise + 2)
    assert steps("evaluate", method="direct", training=steps.run / "direct" / "training") == 0
    steps.compare("direct")
    return steps


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[Steps]:
    return [whole_chain(tmp_path_factory.mktemp("chain"), noise) for noise in (100, 200)]


def test_foundation_models_trajectories_and_pairs_are_equal(twice: list[Steps]) -> None:
    first, second = (steps.run for steps in twice)
    made = [path.relative_to(first) for path in sorted(first.rglob("*.safetensors")) if "foundation" in path.parts]
    assert len(made) >= 4
    for name in [*made, "trajectories.parquet", "scores.parquet", "pairs.parquet"]:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_training_is_equal_up_to_its_seconds(twice: list[Steps]) -> None:
    logs = []
    for steps in twice:
        lines = (steps.run / "direct" / "training" / "training.jsonl").read_text().splitlines()
        logs.append([{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines])
    assert logs[0] == logs[1]


def test_adapters_are_equal_to_the_bit(twice: list[Steps]) -> None:
    first, second = (steps.run / "direct" / "training" for steps in twice)
    names = [path.relative_to(first) for path in first.rglob("*.safetensors")]
    assert len(names) == 2
    for name in names:
        ours, theirs = load_file(first / name), load_file(second / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_table_of_metrics_is_equal_to_the_byte(twice: list[Steps]) -> None:
    first, second = ((steps.root / "metrics.csv").read_bytes() for steps in twice)
    assert first == second
