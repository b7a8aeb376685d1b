"""A system of tiny real models, and preferences between its trajectories."""

from pathlib import Path

import pandas as pd
import torch
from tiny_models import DIFFUSION_LORA, LANGUAGE_LORA, completion, picture

from sysdpo.applications.images.pipeline import SmallStableDiffusion3Pipeline
from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.language import LanguageModel
from sysdpo.method.preferences import as_frame
from sysdpo.method.system import Node, System


def tiny_system(language_folder: Path, painter_folder: Path) -> System:
    """A writer, whose answer a painter draws twice."""
    torch.manual_seed(0)  # the adapters' first matrices are drawn at random
    pipeline = SmallStableDiffusion3Pipeline.from_pretrained(painter_folder)
    components = {
        "writer": LanguageModel.from_pretrained(language_folder, lora=LANGUAGE_LORA, max_new_tokens=6),
        "painter": DiffusionModel(pipeline, lora=DIFFUSION_LORA),
    }
    nodes = [
        Node("caption", "writer", ("text",)),
        Node("image_1", "painter", ("caption",)),
        Node("image_2", "painter", ("caption",)),
    ]
    return System(("text",), nodes, components)


def preference_data(system: System) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Six trajectories of three prompts, and a pair of each prompt."""
    texts = ["cat", "big dog", "red cat"]
    answers = ["runs", "sleeps big", "red dog runs", "blue", "small cat", "dog"]
    variables = {
        "text": [text for text in texts for _ in range(2)],
        "caption": [completion(system.components["writer"], answer) for answer in answers],
        "image_1": [picture(row) for row in range(6)],
        "image_2": [picture(10 + row) for row in range(6)],
    }
    frame = as_frame([f"p{row // 2}" for row in range(6)], [0, 1] * 3, variables)
    pairs = pd.DataFrame({"pair_id": list("abc"), "prompt_id": ["p0", "p1", "p2"], "margin": 1.0})
    chosen, rejected = ["p0/0", "p1/1", "p2/0"], ["p0/1", "p1/0", "p2/1"]
    return frame, pairs.assign(chosen_id=chosen, rejected_id=rejected)
