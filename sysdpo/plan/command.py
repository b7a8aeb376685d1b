"""`sysdpo plan CONFIG`: what a run will take, printed before anything is spent."""

import argparse
import gc
import os
from functools import reduce
from pathlib import Path

from sysdpo.base.files import whole
from sysdpo.base.settings import at_least
from sysdpo.method.config import Config, load_config, merged, without_dropped

DESCRIPTION = """\
Prints what each rule of a run will take: weights, peak GPU memory, arithmetic, disk, and time on named graphics cards,
computed from the models' configurations on networks without weights. It downloads nothing, and needs neither a GPU nor
a data set. docs/plan.md says how far to trust it.
example: sysdpo plan workflow/scales/paper.yaml workflow/scales/small-gpu.yaml --csv plan.csv"""


def add_options(step: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    step.formatter_class, step.description = argparse.RawDescriptionHelpFormatter, DESCRIPTION
    config = "a scale, or several that are laid one over the other"
    tokens = "usual length of prompts whose data set is not here, in tokens (256)"
    step.add_argument("config", type=Path, nargs="+", metavar="CONFIG", help=config)
    step.add_argument("--base", type=Path, metavar="FILE", help="what they are laid over (config.yaml, where there is)")
    step.add_argument("--alone", action="store_true", help="CONFIG is whole, and is laid over nothing")
    step.add_argument("--processes", type=int, default=1, metavar="N", help="GPUs that share each training (1)")
    step.add_argument("--prompt-tokens", type=int, default=256, metavar="N", help=tokens)
    step.add_argument("--csv", type=Path, metavar="FILE", help="write the table to this file too, every method a line")


def plan(options: argparse.Namespace) -> None:
    """Print what a run will take: memory, arithmetic, disk, and time on named cards."""
    base = options.base or Path("config.yaml")
    files = [base] if not options.alone and (options.base or base.is_file()) else []
    config: Config = without_dropped(reduce(merged, map(load_config, [*files, *options.config])))
    for name in ("processes", "prompt_tokens"):
        at_least(f"--{name.replace('_', '-')}", getattr(options, name), 1)
    os.environ["HF_HUB_OFFLINE"] = "1"  # a missing configuration is an error, not downloaded
    gc.disable()  # nearly all objects of a network live on; collection would take a fifth of the time
    try:
        from sysdpo.plan.rules import plan_systems
        from sysdpo.plan.table import plan_table, written

        rows, systems, not_planned = plan_systems(config, processes=options.processes, assumed=options.prompt_tokens)
    finally:
        gc.enable()
    if options.csv is not None:
        with whole(options.csv) as path:
            plan_table(rows).to_csv(path, index=False, float_format="%.4f")
    print(written(rows, systems, not_planned))
