"""`sysdpo plan CONFIG`: the cost of a run, printed before it starts."""

import gc
import os
from functools import reduce
from pathlib import Path
from typing import Annotated

import typer

from sysdpo.base.files import whole
from sysdpo.method.config import Config, load_config
from sysdpo.method.scales import merged, without_dropped
from sysdpo.run import options


def plan(
    *,
    config: Annotated[
        list[Path], typer.Argument(metavar="CONFIG", help="A scale, or several laid one over the other.")
    ],
    base: Annotated[Path | None, options.path("What the scales are laid over; config.yaml if there is one.")] = None,
    alone: Annotated[bool, options.flag("--alone", "CONFIG is complete and laid over nothing.")] = False,
    processes: Annotated[int, options.number("GPUs that share each training.")] = 1,
    prompt_tokens: Annotated[int, options.number("Usual number of tokens in a prompt whose data set is absent.")] = 256,
    csv: Annotated[Path | None, options.path("Also write the table to this file."), options.WRITTEN] = None,
) -> None:
    """Print what a run will take: memory, arithmetic, disk, and time on named cards.

    For each rule of a run: weights, peak GPU memory, arithmetic, disk, and time
    on graphics cards, computed from the models' configurations on networks
    without weights. It downloads nothing, and needs neither a GPU nor a data
    set. docs/plan.md says how far to trust it.

    For example: sysdpo plan workflow/scales/paper.yaml --csv plan.csv
    """
    over = base or Path("config.yaml")
    files = [over] if not alone and (base or over.is_file()) else []
    whole_config: Config = without_dropped(reduce(merged, map(load_config, [*files, *config])))
    os.environ["HF_HUB_OFFLINE"] = "1"  # a missing configuration is an error, not downloaded
    gc.disable()  # nearly all objects of a network live on; collection would take a fifth of the time
    try:
        from sysdpo.plan.rules import plan_systems
        from sysdpo.plan.table import plan_table, written

        rows, systems, not_planned = plan_systems(whole_config, processes=processes, assumed=prompt_tokens)
    finally:
        gc.enable()
    if csv is not None:
        with whole(csv) as temporary:
            plan_table(rows).to_csv(temporary, index=False, float_format="%.4f")
    print(written(rows, systems, not_planned))
