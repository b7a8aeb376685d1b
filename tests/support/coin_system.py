"""A system small enough to know everything about, written as a user would write one: two coins, one parser.

`text -> left -> shown -> right`; the score counts heads.
"""

import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import logsigmoid

from sysdpo.base.errors import UserError
from sysdpo.method.component import Drift, LogProbs
from sysdpo.method.description import Description, Metric
from sysdpo.method.function import Function
from sysdpo.method.system import Node, System


class Coin:
    """`p(heads) = σ(logit)`, whatever the condition."""

    def __init__(self, logit: float):
        self.logit = torch.nn.Parameter(torch.tensor(logit))
        self.reference = torch.tensor(logit)

    def sample(self, conditions, *, seeds):
        probability = torch.sigmoid(self.logit).item()
        return ["heads" if random.Random(seed).random() < probability else "tails" for seed in seeds]

    def log_probs(self, conditions, values, *, draw):
        sign = torch.tensor([1.0 if value == "heads" else -1.0 for value in values])
        return LogProbs(logsigmoid(sign * self.logit), logsigmoid(sign * self.reference))

    def trainable_parameters(self):
        return [self.logit]

    def to(self, device):
        pass

    def drift(self, conditions, values, *, draw):
        policy, reference = self.log_probs(conditions, values, draw=draw)
        return Drift((policy - reference).detach(), -policy.detach())

    def rebase_reference(self):
        self.reference = self.logit.detach().clone()

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"logit": self.logit.detach()}, folder / "coin.safetensors")

    def load(self, folder: Path) -> None:
        try:
            self.logit.data = load_file(folder / "coin.safetensors")["logit"]
        except OSError as error:
            raise UserError(f"coin: '{folder}' holds no coin ({error})") from error


class Coins:
    """The benchmark. `settings['fault']` makes its system ill-formed: `cycle` or `orphan`."""

    inputs = ("text",)
    nodes = (
        Node("left", "first", ("text",)),
        Node("shown", "parser", ("left",)),
        Node("right", "second", ("text", "shown")),
    )
    components = dict.fromkeys(("first", "second"))
    description = Description(metrics={"spread": Metric("Spread", True, "", 3, "whether the left coin shows heads")})

    def __init__(self, settings: Mapping[str, Any]):
        self.settings = settings
        self.foundations = {"mint": partial(_mint, float(settings.get("logit", 0.0)))}

    def prompts(self) -> pd.DataFrame:
        sizes = self.settings["prompts"]
        splits = [split for split in ("train", "validation", "test") for _ in range(sizes[split])]
        names = [f"p{row:03d}" for row in range(len(splits))]
        return pd.DataFrame({"prompt_id": names, "split": splits, "text": names})

    def system(self, foundation: Path) -> System:
        if not (foundation / "mint").is_dir():
            raise UserError(f"model: '{foundation / 'mint'}' should be a folder")
        fault = self.settings.get("fault")
        shown = "right" if fault == "cycle" else "left"
        nodes = [
            Node("left", "first", ("text",)),
            Node("shown", "parser", (shown,)),
            Node("right", "nobody" if fault == "orphan" else "second", ("text", "shown")),
        ]
        logit = float((foundation / "mint" / "logit").read_text())
        coins = {"first": Coin(logit), "second": Coin(logit), "parser": Function(str.upper)}
        return System(self.inputs, nodes, coins)

    def score(self, prompts, trajectories, foundation):
        heads = [(row.left == "heads") + (row.right == "heads") for row in trajectories.itertuples()]
        return trajectories[["trajectory_id", "prompt_id"]].assign(score=np.array(heads, float))

    def metrics(self, prompts, trajectories, scores, foundation):
        return pd.DataFrame({"spread": (trajectories["left"] == "heads").astype(float)})

    def inspect(self, foundation: Path, seed: int) -> dict[str, Any]:
        return {"logit": float((foundation / "mint" / "logit").read_text())}


def _mint(logit: float, seed: int, folder: Path) -> None:
    folder.mkdir()
    (folder / "logit").write_text(str(logit))


def build(settings: Mapping[str, Any]) -> Coins:
    return Coins(settings)


def coins(first: float = 0.0, second: float = 0.0) -> System:
    """The system with these logits."""
    nodes = [Node("left", "first", ("text",)), Node("right", "second", ("text", "left"))]
    return System(("text",), nodes, {"first": Coin(first), "second": Coin(second)})


CONFIG = {
    "systems": {
        "coins": {
            "factory": "coin_system:build",
            "prompts": {"train": 8, "validation": 2, "test": 4},
            "foundation": {"mint": {}},
            "components": {"first": {}, "second": {}},
            "trajectories": {"samples_per_prompt": 6},
            "training": {
                "steps": 20,
                "batch_size": 8,
                "learning_rate": {"first": 0.2, "second": 0.2},
                "chosen_weight": {"first": 0.0, "second": 0.0},
                "warmup_steps": 1,
            },
            "methods": {
                "before": {"objective": "none"},
                "direct": {"objective": "direct"},
                "only_first": {"objective": "only_first"},
            },
            "baselines": ["before", "only_first"],
            "evaluation": {"samples_per_prompt": 2},
        }
    }
}
