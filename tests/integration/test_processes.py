"""Several processes at one training, started by the step itself: what they make is what one process makes.

The system is a Llama 3 that writes captions and a Stable Diffusion XL that draws them, tiny and random.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_pictures
from safetensors.numpy import load_file
from steps import Steps

from sysdpo.run.cli import main

LANGUAGE_LORA = {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"}
DIFFUSION_LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["to_q", "to_k", "to_v", "to_out.0"]}
SAMPLING = {"num_inference_steps": 2, "guidance_scale": 2.0, "height": 64, "width": 64}


def configuration(folder: Path, *, sharded: bool = False, **training: Any) -> dict[str, Any]:
    shared = {"sharded": sharded, "gradient_checkpointing": sharded}
    writer = {"model": str(folder / "writer"), "lora": LANGUAGE_LORA, "max_new_tokens": 12} | shared
    painter = {"model": str(folder / "painter"), "lora": DIFFUSION_LORA, "sampling": SAMPLING} | shared
    names = ("writer", "painter")
    return {
        "seeds": [0],
        "systems": {
            "picture_series": {
                "factory": "sysdpo.applications.images.settings:PictureSeries",
                "prompts": {"train": 8, "validation": 1, "test": 2},
                "components": {"writer": writer, "painter": painter},
                "scorer": {"kind": "clip", "model": str(folder / "clip")},
                "trajectories": {"samples_per_prompt": 2},
                "evaluation": {"samples_per_prompt": 1},
                "training": {
                    "steps": 20,
                    "batch_size": 4,
                    "learning_rate": dict.fromkeys(names, 0.003),
                    "chosen_weight": {"writer": 0.01, "painter": 0.0},
                    "warmup_steps": 1,
                }
                | training,
                "methods": {
                    "direct": {"objective": "direct"},
                    "sampling": {
                        "objective": "sampling",
                        "candidates": {"generator": "ancestral", "count": 2, "refresh": 10},
                    },
                },
            }
        },
    }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """Models, and the preferences to train on."""
    folder = tmp_path_factory.mktemp("processes")
    tiny_pictures.save_llama_3(folder / "writer")
    tiny_pictures.save_stable_diffusion_xl(folder / "painter")
    tiny_pictures.save_clip(folder / "clip")
    steps = Steps(folder, configuration(folder))
    steps.prepare()
    return steps


@pytest.fixture(scope="module")
def alone(prepared: Steps) -> dict[str, Path]:
    """What one process makes of each method."""
    made = {method: prepared.root / f"{method} alone" for method in ("direct", "sampling")}
    for method, output in made.items():
        assert prepared("train", method=method, output=output) == 0
    return made


def train(prepared: Steps, folder: Path, method: str = "direct", processes: int = 2, **over: Any) -> int:
    config = folder / "config.yaml"
    config.write_text(json.dumps(configuration(prepared.root, **over)))
    output = folder / "training"
    return main(prepared.arguments("train", method=method, processes=processes, config=config, output=output))


def log(training: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (training / "training.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def adapters(training: Path) -> dict[str, np.ndarray]:
    files = sorted((training / "adapters").rglob("*.safetensors"))
    return {f"{path.parent.name}.{key}": value for path in files for key, value in load_file(path).items()}


@pytest.mark.parametrize(
    ("method", "over"),
    [("direct", {}), ("direct", {"sharded": True}), ("sampling", {"micro_batch_size": 1})],
    ids=["whole models", "models split", "hidden captions, in parts"],
)
def test_two_processes_train_as_one_does(
    prepared: Steps,
    alone: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    method: str,
    over: dict[str, Any],
) -> None:
    assert train(prepared, tmp_path, method, **over) == 0
    assert capfd.readouterr().err.count("20/20") == 1  # two lone processes would each report
    ours, theirs = log(tmp_path / "training"), log(alone[method])
    assert len(ours) == len(theirs) == 20
    for one, other in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
        one.pop("accuracy"), other.pop("accuracy")  # a share of margins above 0, of which one may lie next to it
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert theirs[-1]["chosen_writer"] != 0 != theirs[-1]["chosen_painter"]
    after, expected = adapters(tmp_path / "training"), adapters(alone[method])
    assert {name.partition(".")[0] for name in after} == {"writer", "painter"}
    assert after.keys() == expected.keys()
    for name, value in after.items():
        np.testing.assert_allclose(value, expected[name], atol=1e-4, err_msg=name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "training"]
