"""The steps that make models: foundation models, and adapters by training.

A step imports the model libraries by itself: they take seconds, and some environments have none of them.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from sysdpo.base.devices import is_worker, process_state
from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table, whole
from sysdpo.base.functions import module_file
from sysdpo.base.settings import NotNegative
from sysdpo.base.tables import PAIR_COLUMNS, SCORE_COLUMNS, check_pairs, check_scores
from sysdpo.method.config import method_settings, system_config
from sysdpo.run import options
from sysdpo.run.inputs import benchmark_of, preferences_of, read_checked_trajectories, read_prompts
from sysdpo.run.launch import launch
from sysdpo.run.parts import prompts_of_part
from sysdpo.run.trained import HOLDS, identity, write_identity


def foundation(
    *,
    config: options.Config,
    system: options.System,
    seed: options.Seed,
    model: Annotated[str, options.text("The model's name in the system's section `foundation`.")],
    output: options.OutputFolder,
) -> None:
    """Make one foundation model of a system."""
    made = benchmark_of(config, system).foundations
    if model not in made:
        raise UserError(f"--model: '{model}' should be one of {sorted(made)}")
    with whole(output) as folder:
        made[model](seed, folder)


def inspect(
    *,
    config: options.Config,
    system: options.System,
    seed: options.Seed,
    foundation: options.Foundation,
    output: options.OutputFile,
) -> None:
    """Measure the quality of a system's foundation models."""
    quality = benchmark_of(config, system).inspect(foundation, seed)
    with whole(output) as path:
        path.write_text(json.dumps(quality, indent=1))


def train(
    *,
    context: typer.Context,
    config: options.Config,
    system: options.System,
    seed: options.Seed,
    method: options.Method,
    prompts: options.Prompts,
    trajectories: options.Trajectories,
    scores: options.TrainingScores = None,
    pairs: options.Pairs,
    foundation: options.Foundation,
    output: options.OutputFolder,
    checkpoint: options.Checkpoint = None,
    checkpoint_every: Annotated[float, options.number("Time between two checkpoints.", NotNegative, "SECONDS")] = 600.0,
    processes: Annotated[int, options.number("Processes that share the training, one per GPU.")] = 1,
    machines: Annotated[int, options.number("Machines that the processes are spread over.")] = 1,
    rendezvous: Annotated[str | None, options.text("Where the machines meet, outside of SLURM.", "HOST:PORT")] = None,
) -> None:
    """Train a system on preference pairs by one method."""
    settings = method_settings(config, system, method)
    if not settings.trains:
        raise UserError(f"--method: '{method}' has the objective 'none' and nothing to train")
    if processes != 1 and not is_worker():
        launch(context.obj, processes, machines, rendezvous)
        return
    benchmark = benchmark_of(config, system)
    training_prompts = read_prompts(prompts, benchmark, "train")
    pair_table = read_table(pairs, PAIR_COLUMNS)
    score_table = None if scores is None else read_table(scores, SCORE_COLUMNS)
    import pandas as pd
    from accelerate.utils import gather_object

    from sysdpo.base.seeds import seed_torch
    from sysdpo.method.benchmark import HasPreferences
    from sysdpo.method.checkpoints import Checkpoint
    from sysdpo.method.evaluation import sample_trajectories, score_trajectories
    from sysdpo.method.intermediates import check_seen
    from sysdpo.method.preferences import make_pairs
    from sysdpo.method.training import align
    from sysdpo.run.fingerprint import training_fingerprint

    state = process_state()

    sampled = read_checked_trajectories(trajectories, benchmark, training_prompts)
    if score_table is not None:
        check_scores(score_table, f"'{scores}'", sampled)
    check_pairs(pair_table, f"'{pairs}'", sampled)
    seed_torch("adapters", seed)  # adapters start at random
    described = system_config(config, system)
    samples = described["trajectories"]["samples_per_prompt"]
    models = benchmark.system(foundation).to()
    check_seen(sampled.columns, models, settings, f"'{trajectories}'")
    held_out = None
    if settings.eval_every and isinstance(benchmark, HasPreferences):
        everyone = read_prompts(prompts, benchmark)
        if (validation := everyone[everyone["split"] == "validation"]).size:
            held_out = preferences_of(benchmark, validation, system)

    def collect(round_number: int) -> tuple[Any, Any]:
        if round_number == 0:
            return sampled, pair_table
        worker = f"{state.process_index + 1}/{state.num_processes}"
        shard, offset = prompts_of_part(training_prompts, worker, "--processes")
        own: dict[str, Any] = {"seed": seed + 1000 * round_number, "purpose": "train", "offset": offset}
        with models.unsharded():
            fresh = sample_trajectories(benchmark, models, shard, samples, **own)
        scored = score_trajectories(benchmark, shard, fresh, foundation)
        fresh, scored = (pd.concat(gather_object([table]), ignore_index=True) for table in (fresh, scored))
        return fresh, make_pairs(scored)

    checkpoints = Checkpoint()
    if checkpoint is not None:
        fingerprint = training_fingerprint(
            described,
            settings,
            seed=seed,
            foundation=foundation,
            tables={"prompts": prompts, "trajectories": trajectories, "pairs": pairs}
            | ({"scores": scores} if scores else {}),
            held_out=held_out is not None,
            plugins=[path for name in config.get("plugins", ()) if (path := module_file(name))],
        )
        checkpoints = Checkpoint(checkpoint, fingerprint, every=checkpoint_every)
    # Of several processes one writes what all have made.
    made = whole(output, holds=HOLDS) if state.is_main_process else TemporaryDirectory()
    with made as name:
        folder, title = Path(name), f"{method}, seed {seed}"
        align(
            *(models, collect, settings),
            seed=seed,
            title=title,
            output=folder,
            checkpoint=checkpoints,
            held_out=held_out,
        )
        write_identity(folder, identity(system, method, seed, settings))
        state.wait_for_everyone()
    if state.is_main_process:
        checkpoints.clear()
    state.destroy_process_group()
