"""The steps that make the data of a training: prompts, trajectories, scores, preference pairs.

A step imports the model libraries by itself: they take seconds, and some environments have none of them.
"""

from pathlib import Path
from typing import Annotated

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table, whole, write_table
from sysdpo.base.tables import SCORE_COLUMNS, check_prompts, check_scores
from sysdpo.method.config import system_config
from sysdpo.run import options
from sysdpo.run.inputs import benchmark_of, preferences_of, read_checked_trajectories, read_prompts
from sysdpo.run.parts import gather_parts, prompts_of_part


def prompts(*, config: options.Config, system: options.System, output: options.OutputFile) -> None:
    """Write a system's prompts, each in its split: train, validation or test."""
    benchmark = benchmark_of(config, system)
    table = benchmark.prompts()
    check_prompts(table, f"the prompts of systems.{system}", benchmark.inputs)
    write_table(table, output)


def sample(
    *,
    config: options.Config,
    system: options.System,
    seed: options.Seed,
    prompts: options.Prompts,
    foundation: options.Foundation,
    part: options.Shard = None,
    output: options.OutputFile,
) -> None:
    """Sample trajectories for the training prompts from the system before alignment."""
    benchmark = benchmark_of(config, system)
    from sysdpo.method.evaluation import sample_trajectories
    from sysdpo.method.preferences import write_trajectories

    setting = f"systems.{system}.trajectories.shards"
    shard, offset = prompts_of_part(read_prompts(prompts, benchmark, "train"), part, setting)
    count = system_config(config, system)["trajectories"]["samples_per_prompt"]
    models = benchmark.system(foundation).to()
    sampled = sample_trajectories(benchmark, models, shard, count, seed=seed, purpose="train", offset=offset)
    write_trajectories(sampled, output)


def score(
    *,
    config: options.Config,
    system: options.System,
    seed: options.Seed,
    prompts: options.Prompts,
    trajectories: options.Trajectories,
    foundation: options.Foundation,
    output: options.OutputFile,
) -> None:
    """Score trajectories with the system's scorer."""
    benchmark = benchmark_of(config, system)
    from sysdpo.method.benchmark import Scored
    from sysdpo.method.evaluation import score_trajectories

    has_score = isinstance(benchmark, Scored)
    if not has_score:
        raise UserError(f"--system: '{system}' has no score")
    all_prompts = read_prompts(prompts, benchmark)
    sampled = read_checked_trajectories(trajectories, benchmark, all_prompts)
    write_table(score_trajectories(benchmark, all_prompts, sampled, foundation), output)


def pair(
    *,
    config: options.Config,
    system: options.System,
    seed: options.Seed,
    scores: options.Scores,
    output: options.OutputFile,
) -> None:
    """Make the preference pairs: any two trajectories of a prompt whose scores differ."""
    from sysdpo.method.preferences import make_pairs

    table = read_table(scores, SCORE_COLUMNS)
    check_scores(table, f"'{scores}'")
    write_table(make_pairs(table), output)


def dataset(
    *, config: options.Config, system: options.System, prompts: options.Prompts, output: options.OutputFolder
) -> None:
    """Write the preferences that a system's own data set has for the training prompts."""
    benchmark = benchmark_of(config, system)
    from sysdpo.method.benchmark import HasPreferences
    from sysdpo.method.preferences import write_trajectories

    if not isinstance(benchmark, HasPreferences):
        raise UserError(f"--system: the data of '{system}' come with no preferences")
    training_prompts = read_prompts(prompts, benchmark, "train")
    with whole(output, holds=("trajectories.parquet", "pairs.parquet")) as folder:
        folder.mkdir()
        trajectories, pairs = preferences_of(benchmark, training_prompts, system)
        write_trajectories(trajectories, folder / "trajectories.parquet")
        write_table(pairs, folder / "pairs.parquet")


def gather(
    *,
    config: options.Config,
    parts: Annotated[list[Path], options.path("The jobs' outputs, in the order of their shards.", "PATH...")],
    output: Annotated[Path, options.path("The table or folder to write.", "PATH"), options.WRITTEN],
) -> None:
    """Merge the shards of one sampling, or of one evaluation, that several jobs have made."""
    gather_parts(parts, output)
