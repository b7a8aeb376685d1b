"""What an export's model cards say about the run that it comes from."""

from pathlib import Path
from typing import Any

import sysdpo
from sysdpo.base.errors import UserError
from sysdpo.library.model_cards import Facts
from sysdpo.method.config import Config, evaluation_settings, method_rows, method_settings, system_config
from sysdpo.method.method_words import name_methods
from sysdpo.report.files import read_metrics
from sysdpo.run.manifest import commit, versions

LIBRARIES = ("python", "torch", "transformers", "diffusers", "peft")


def facts_of(
    config: Config, system: str, seed: int, method: str, benchmark: Any, prompts: Any, metrics: Path | None
) -> Facts:
    """The facts about the system that a method trained from one seed.

    prompts: those of the benchmark. metrics: the file `metrics.csv`; None leaves measurements out.
    """
    described, declared = system_config(config, system), benchmark.description
    components = {
        name: declared.components.get(name, f"the {name.replace('_', ' ')}") for name in described["components"]
    }
    words = name_methods(method_rows(config, system), components)[method]
    settings = method_settings(config, system, method)
    results, remark = _results(config, system, seed, method, benchmark, components, metrics)
    return Facts(
        title=declared.title or system.replace("_", " ").capitalize(),
        story=declared.story,
        method=words.label,
        meaning=words.meaning,
        components=components,
        data=_data(described, settings, prompts, seed),
        settings={"seed": seed} | settings.model_dump(mode="json", exclude={"label", "meaning", "role"}),
        results=results,
        remark=remark,
        origin=_origin(),
    )


def _data(described: Config, settings: Any, prompts: Any, seed: int) -> list[str]:
    counts = prompts["split"].value_counts()
    told = [f"{counts.get('train', 0)} prompts to train on, {counts.get('test', 0)} held out to evaluate on."]
    source = (described.get("data") or {}).get("source") or (described.get("questions") or {}).get("source")
    named = f" of '{source}'" if source else ""
    if settings.preferences == "dataset":
        told.append(f"Preferences: those that come with the data{named}.")
    else:
        count = described["trajectories"]["samples_per_prompt"]
        told.append(
            f"Preferences: {count} trajectories of each prompt{named}, drawn from the system before alignment with "
            f"seed {seed} and scored; pairs are '{settings.pairs}', labels '{settings.labels}'."
        )
    return told


def _results(
    config: Config, system: str, seed: int, method: str, benchmark: Any, components: Any, metrics: Path | None
) -> tuple[list[tuple[str, str, str]], str]:
    if metrics is None:
        return [], ""
    rows = read_metrics(metrics, system)
    rows = rows[rows["method"] == method]
    if rows.empty:
        raise UserError(f"--metrics: '{metrics}' should have rows of the method '{method}' of '{system}'")
    evaluation = evaluation_settings(system_config(config, system), system)
    known = benchmark.description.all_metrics(components, evaluation.greedy, evaluation.win_rates_against)
    table = {str(row["metric"]): row for row in rows.to_dict("records")}
    found = []
    for name in [*(name for name in known if name in table), *sorted(set(table) - set(known))]:
        row, metric = table[name], known.get(name)
        numbers = [float(number) for number in (row["mean"], row["ci_low"], row["ci_high"])]
        mean, low, high = (f"{number:.4g}" if metric is None else metric.show(number) for number in numbers)
        found.append((metric.heading if metric else name, f"{mean} [{low}, {high}]", metric.meaning if metric else ""))
    one = rows.iloc[0]
    return found, (
        f"Means with 95 % intervals over {one['n_seeds']} seeds and, within them, {one['n_prompts']} held-out prompts; "
        f"this is the model of seed {seed}."
    )


def _origin() -> dict[str, str]:
    made_by = commit(Path(sysdpo.__file__).resolve().parents[1], Path())
    changed = " with uncommitted changes" if made_by["uncommitted_changes"] else ""
    source = f" (commit {made_by['commit']}{changed})" if made_by["commit"] else ""
    found = versions()
    return {"sysdpo": f"{sysdpo.__version__}{source}"} | {name: found[name] for name in LIBRARIES if name in found}
