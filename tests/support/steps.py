"""The steps of the command line, called as the workflow calls them but in this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sysdpo.run.cli import main


class Steps:
    """A run of one seed of one system, at the paths that the workflow uses."""

    def __init__(self, root: Path, config: Mapping[str, Any], seed: int = 0):
        self.system = next(iter(config["systems"]))
        self.runs = root / "runs" / self.system
        self.run = self.runs / str(seed)
        self.seed = seed
        self.root = root
        self.config = root / "config.yaml"
        root.mkdir(parents=True, exist_ok=True)
        self.write_config(config)

    def write_config(self, config: Mapping[str, Any]) -> None:
        self.config.write_text(yaml.safe_dump(dict(config)))

    def arguments(self, step: str, **over: Any) -> list[str]:
        """The command line of a step; `over` adds options, replaces them, or (None) leaves them out."""
        method = self.run / str(over.get("method"))
        places = {
            "validate": {},
            "prompts": {"output": self.runs / "prompts.parquet"},
            "foundation": {"seed": self.seed, "output": self.run / "foundation" / str(over.get("model"))},
            "sample": {"output": self.run / "trajectories.parquet"},
            "score": {"trajectories": self.run / "trajectories.parquet", "output": self.run / "scores.parquet"},
            "pair": {"scores": self.run / "scores.parquet", "output": self.run / "pairs.parquet"},
            "train": {
                "trajectories": self.run / "trajectories.parquet",
                "scores": self.run / "scores.parquet",
                "pairs": self.run / "pairs.parquet",
                "output": method / "training",
            },
            "evaluate": {
                "output": method / "evaluation",
                "training": method / "training" if (method / "training").is_dir() else None,
            },
            "inspect": {"foundation": self.run / "foundation", "output": self.run / "foundation" / "quality.json"},
        }
        options: dict[str, Any] = {"config": self.config, "system": self.system}
        if step not in ("validate", "prompts"):
            options["seed"] = self.seed
        if step in ("sample", "score", "train", "evaluate"):
            options |= {"prompts": self.runs / "prompts.parquet", "foundation": self.run / "foundation"}
        if step == "validate":
            del options["system"]
        options |= places[step] | over
        given = {name: value if isinstance(value, list) else [value] for name, value in options.items()}
        named = [(f"--{name}", *map(str, values)) for name, values in given.items() if values != [None]]
        return [step, *(part for each in named for part in each)]

    def __call__(self, step: str, **over: Any) -> int:
        return main(self.arguments(step, **over))

    def prepare(self) -> None:
        """Everything before training."""
        for step in ("validate", "prompts"):
            assert self(step) == 0
        for model in yaml.safe_load(self.config.read_text())["systems"][self.system].get("foundation", {}):
            assert self("foundation", model=model) == 0
        for step in ("sample", "score", "pair"):
            assert self(step) == 0

    def compare(self, *methods: str) -> Path:
        """The table of the metrics of these methods."""
        descriptions = str(self.root / "descriptions.json")
        assert main(["describe", "--config", str(self.config), "--output", descriptions]) == 0
        evaluations = [str(self.run / method / "evaluation") for method in methods]
        tables = ["--comparisons", str(self.root / "comparisons.csv"), "--output", str(self.root / "metrics.csv")]
        options = ["--config", str(self.config), "--descriptions", descriptions, "--evaluations", *evaluations]
        assert main(["metrics", *options, *tables]) == 0
        return self.root / "metrics.csv"
