"""Tiny random stand-ins for the models and the data set of the paper's scale, and what to lay over it to use them.

python tests/support/tiny_hub.py FOLDER [--deep]
"""

import sys
from pathlib import Path
from typing import Any

import tiny_chat
import tiny_pictures
import yaml

NAME = "tiny.yaml"
SMALL_LORA = {"r": 4}


def save_hub(folder: Path, *, deep: bool = False) -> Path:
    """Write checkpoints of the very classes of the paper's scale, and a scale that names them; returns the scale.

    deep: in proportions nearer to those of large models: several layers, pictures of the usual size, plain texts.
    """
    layers, side = (6, 224) if deep else (2, 32)
    folder.mkdir(parents=True, exist_ok=True)
    tiny_pictures.save_llama_3(folder / "llama", layers=layers)
    tiny_pictures.save_stable_diffusion_xl(folder / "sdxl", variant="fp16")
    tiny_pictures.save_clip(folder / "clip", side=side)
    tiny_pictures.save_clip(folder / "other-clip", seed=7, side=side)
    tiny_chat.save_qwen2(folder / "qwen", layers=layers, plain=deep)
    tiny_chat.save_pair_reward_model(folder / "deberta", layers=layers)
    tiny_chat.save_chat_reward_model(folder / "llama-reward", layers=layers, plain=deep)
    tiny_chat.save_orca_pairs(folder / "orca")
    scale = folder / NAME
    scale.write_text(yaml.safe_dump(overlay(folder), sort_keys=False))
    return scale


def overlay(folder: Path) -> dict[str, Any]:
    """Other models, and less of everything; how they are loaded, trained and judged stays."""

    def at(name: str, **less: Any) -> dict[str, Any]:
        return {"model": str(folder / name), **less}

    few = {"steps": 3, "batch_size": 2, "warmup_steps": 1}
    chat = at("qwen", max_new_tokens=12, lora=SMALL_LORA)
    pictures = {"num_inference_steps": 2, "height": 64, "width": 64}
    return {
        "results": "build/rehearsal",
        "seeds": [0],
        "systems": {
            "picture_series": {
                "prompts": {"train": 8, "validation": 2, "test": 4},
                "components": {
                    "writer": at("llama", max_new_tokens=16, lora=SMALL_LORA),
                    "painter": at("sdxl", sampling=pictures, lora=SMALL_LORA),
                },
                "scorer": at("clip"),
                "judge": at("other-clip"),
                "trajectories": {"samples_per_prompt": 2, "shards": 2},
                "training": few,
            },
            "chat_refinement": {
                "data": {"source": str(folder / "orca")},
                "prompts": {"train": 12, "validation": 4, "test": 10},
                "components": {"drafter": chat, "refiner": chat},
                "scorer": at("deberta"),
                "judge": at("llama-reward"),
                "trajectories": {"samples_per_prompt": 2, "shards": 2},
                "training": few,
            },
        },
    }


if __name__ == "__main__":
    print(save_hub(Path(sys.argv[1]), deep="--deep" in sys.argv))
