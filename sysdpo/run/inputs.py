"""Reading and checking the inputs of steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table
from sysdpo.base.tables import PROMPT_COLUMNS, check_pairs, check_prompts, check_trajectories
from sysdpo.method.config import Config, check_offer, system_config


def benchmark_of(config: Config, system: str) -> Any:
    """The benchmark of a system of the configuration.

    Raises `UserError` if a setting asks for a score or preferences that it does not have.
    """
    from sysdpo.method.benchmark import load_benchmark, offer_of

    benchmark = load_benchmark(system, system_config(config, system))
    check_offer(config, system, offer_of(benchmark))
    return benchmark


def read_prompts(path: Path, benchmark: Any, split: str | None = None) -> Any:
    """The prompts in a file; raises `UserError` if they are not prompts of the benchmark's system.

    split: the only one to read; None is all.
    """
    table = read_table(path, PROMPT_COLUMNS)
    check_prompts(table, f"'{path}'", benchmark.inputs)
    if split is not None and not (table["split"] == split).any():
        raise UserError(f"'{path}' should have prompts of the split '{split}', but has none")
    return table if split is None else table[table["split"] == split]


def read_checked_trajectories(path: Path, benchmark: Any, prompts: Any) -> Any:
    """The trajectories in a file; raises `UserError` if they are not of the system and these prompts."""
    from sysdpo.method.preferences import read_trajectories

    trajectories = read_trajectories(path)
    check_trajectories(trajectories, f"'{path}'", prompts, generated_variables(benchmark))
    return trajectories


def preferences_of(benchmark: Any, prompts: Any, system: str) -> tuple[Any, Any]:
    """The trajectories and pairs of a benchmark's own data for these prompts; raises `UserError` if they are wrong."""
    trajectories, pairs = benchmark.preferences(prompts)
    name = f"the preferences of systems.{system}"
    check_trajectories(trajectories, f"{name}: trajectories", prompts, generated_variables(benchmark))
    check_pairs(pairs, f"{name}: pairs", trajectories)
    return trajectories, pairs.reset_index(drop=True)


def generated_variables(benchmark: Any) -> list[str]:
    """The variables that every trajectory has: the system's inputs and what its models generate."""
    models = getattr(benchmark, "components", {})
    nodes = [node.name for node in getattr(benchmark, "nodes", ()) if node.component in models]
    return [*benchmark.inputs, *nodes]


def inputs_of(words: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """A system's inputs from the words of a command.

    words: the first input as it is, the others as NAME=VALUE. names: of the inputs.

    Raises `UserError` unless each is given exactly once.
    """
    values: dict[str, str] = {}
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if position == 0 and not (equals and name in names):
            name, value = names[0], word
        elif not equals or name not in names:
            wanted = [f"{name}=VALUE" for name in names[1:]]
            told = f"be one of {wanted}" if wanted else f"be left out; the system's only input is '{names[0]}'"
            raise UserError(f"PROMPT: '{word}' should {told}")
        if name in values:
            raise UserError(f"PROMPT: '{word}' should be left out, since '{name}' is given already")
        values[name] = value
    if missing := [name for name in names if name not in values]:
        raise UserError(f"PROMPT: the input '{missing[0]}' should be given, as {missing[0]}=VALUE")
    return {name: values[name] for name in names}
