"""A model drafts a caption, a second one refines it, a painter draws it; people judge the picture."""

import os
from pathlib import Path
from typing import Any

import numpy as np

import sysdpo
from sysdpo import Metric, Node, System

MODELS = Path(os.environ["TINY_MODELS"])
LORA = {"r": 2, "target_modules": "all-linear"}
WISHES = ("big dog", "small cat", "red dog", "blue cat")
SPLITS = ("train", "train", "train", "test")


def make() -> System:
    drafter, refiner = (
        sysdpo.LanguageModel.from_pretrained(MODELS / "language", lora=LORA, max_new_tokens=4) for _ in range(2)
    )
    painter = sysdpo.DiffusionModel.from_pretrained(
        MODELS / "painter",
        lora={"r": 2, "target_modules": ["to_q", "to_k"]},
        sampling={"num_inference_steps": 2, "guidance_scale": 0.0, "height": 32, "width": 32},
        pipeline="sysdpo.applications.images.pipeline:SmallStableDiffusion3Pipeline",
    )
    return System(
        inputs=["wish"],
        nodes=[
            Node("draft", drafter, ["wish"]),
            Node("caption", refiner, ["wish", "draft"], template="{wish} {draft}"),
            Node("image", painter, ["caption"]),
        ],
    )


def brightness(image: Any) -> float:
    return float(np.asarray(image).mean() / 255)


benchmark = sysdpo.Benchmark(
    make,
    prompts=[{"wish": wish, "split": split} for split in SPLITS for wish in WISHES],
    score=brightness,
    metrics={"brightness": (Metric("Brightness", True, "%", 1, "mean of the pixels"), brightness)},
    title="Refined painter",
)
