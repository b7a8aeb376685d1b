"""`sysdpo plan CONFIG`: what a run will take, printed before anything is spent."""

import argparse
import gc
import os
from pathlib import Path

from sysdpo.config import Config, _merged, load_config, without_dropped

BASE = Path("config.yaml")


def add_options(step: argparse.ArgumentParser) -> None:
    """What the command takes."""
    step.add_argument("config", type=Path, metavar="CONFIG", help="a scale, or a whole configuration (YAML)")
    step.add_argument("--base", type=Path, help="what CONFIG is laid over: config.yaml, where that is there")
    step.add_argument("--alone", action="store_true", help="CONFIG is whole, and laid over nothing")
    step.add_argument("--processes", type=int, default=1, metavar="N", help="GPUs that share each training")
    step.add_argument(
        "--prompt-tokens", type=int, default=256, metavar="N", help="of prompts from a data set that is not here"
    )
    step.add_argument("--csv", type=Path, metavar="FILE", help="write the table to this file too")


def plan(options: argparse.Namespace) -> None:
    """Print what a run will take: memory, arithmetic, disk, and time on named cards."""
    config = configured(options)
    # Configs that are not here must be asked for, not downloaded.
    os.environ["HF_HUB_OFFLINE"] = "1"
    gc.disable()  # nearly all objects of a network last; looking for others takes a fifth of the time
    from sysdpo.plan.rules import plan_systems
    from sysdpo.plan.table import write_csv, written

    rows, systems = plan_systems(config, processes=options.processes, assumed=options.prompt_tokens)
    if options.csv is not None:
        write_csv(rows, options.csv)
    print(written(rows, systems))


def configured(options: argparse.Namespace) -> Config:
    """The configuration as the workflow has it."""
    config = load_config(options.config)
    base = None if options.alone else options.base or (BASE if BASE.is_file() else None)
    return without_dropped(_merged(load_config(base), config) if base else config)
