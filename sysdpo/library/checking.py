"""What is wrong with a system, found in seconds: it is built, sampled, scored and taken through one backward pass."""

import string
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch

from sysdpo.base.errors import UserError
from sysdpo.base.functions import LIBRARY
from sysdpo.base.tables import check_prompts
from sysdpo.components.language import LanguageModel
from sysdpo.library.drawing import draw, function_name
from sysdpo.method.benchmark import Benchmark, HasPreferences
from sysdpo.method.component import Component, Deterministic, LogProbs, Templated
from sysdpo.method.evaluation import measure_trajectories, score_trajectories
from sysdpo.method.function import Function
from sysdpo.method.intermediates import BatchLogProbs
from sysdpo.method.preferences import as_frame, read_trajectories, write_trajectories
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import Node, System, Trajectories, conditions_of
from sysdpo.method.training import check_trained, pair_loss
from sysdpo.method.values import Completion

PROMPTS, SAMPLES = 3, 2
"""How many prompts are sampled, and how often: the longest one, and the first of the others."""
OBJECTIVE = "direct"


@dataclass
class Findings:
    """What a check has found.

    problems: a sentence for each thing that is wrong. notes: what may be meant so. seen: what has been looked at and is
    well. graph: the system as text, empty where it cannot be built.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    graph: str = ""

    @contextmanager
    def noting(self, where: str) -> Iterator[None]:
        """Whatever fails within it is a problem; the sentence begins with `where`."""
        try:
            yield
        except Exception as error:
            self.problems.append(sentence(where, error))


def sentence(where: str, error: Exception) -> str:
    """An error as one sentence: a `UserError`'s own; of any other its kind, its words, and the user's line."""
    said = str(error)
    if isinstance(error, UserError):
        return said if said.startswith(where.partition(",")[0]) else f"{where}: {said}"
    own = [
        f", in line {frame.lineno} of {Path(frame.filename).name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if LIBRARY not in Path(frame.filename).parents
        and "site-packages" not in frame.filename
        and not frame.filename.startswith("<")
    ]
    return f"{where}: it raised {type(error).__name__}{f' ({said})' if said else ''}{own[-1] if own else ''}"


def check_benchmark(
    benchmark: Benchmark, foundation: Path = Path(), methods: Mapping[str, MethodSettings] | None = None
) -> Findings:
    """What is wrong with a benchmark: its system, prompts, preferences, score and metrics, and how `methods` fit it."""
    findings = Findings()
    system = _built(findings, lambda: benchmark.system(foundation))
    if system is None:
        return findings
    for name, settings in (methods or {}).items():
        if settings.trains:
            with findings.noting(f"methods.{name}"):
                check_trained(system, settings)
    prompts = None
    with findings.noting("prompts"):
        table = benchmark.prompts()
        check_prompts(table, "prompts", benchmark.inputs)
        splits = set(table["split"])
        if missing := [split for split in ("train", "test") if split not in splits]:
            raise UserError(f"prompts: some should be of the split '{missing[0]}'; there are {sorted(splits)}")
        prompts = _chosen(table)
        findings.seen.append(f"{len(table)} prompts")
        if isinstance(benchmark, HasPreferences):
            _, pairs = benchmark.preferences(table[table["split"] == "train"])
            findings.seen.append(f"{len(pairs)} pairs for training")
    if prompts is None:
        return findings
    trajectories = _check(findings, system, prompts)
    if trajectories is not None:
        with findings.noting("score"):
            scores = score_trajectories(benchmark, prompts, trajectories, foundation)
            if "score" in scores:
                low, high = scores["score"].min(), scores["score"].max()
                findings.seen.append(f"scores from {low:g} to {high:g}")
                if low == high:
                    findings.notes.append(f"all {len(scores)} scores are {low:g}; nothing can be learnt from ties")
            with findings.noting("metrics"):
                measure_trajectories(benchmark, prompts, trajectories, scores, foundation)
    return findings


def check_system(make: Callable[[], System], rows: pd.DataFrame) -> Findings:
    """What is wrong with a system alone; rows: its inputs by name, a row a prompt."""
    findings = Findings()
    system = _built(findings, make)
    if system is not None:
        prompts = rows[list(system.inputs)].drop_duplicates().reset_index(drop=True)
        names = [f"p{number:05d}" for number in range(len(prompts))]
        texts = [" | ".join(map(str, row)) for row in prompts.itertuples(index=False)]
        findings.seen.append(f"{len(prompts)} prompts")
        _check(findings, system, _chosen(prompts.assign(prompt_id=names, split="train", text=texts)))
    return findings


def _built(findings: Findings, make: Callable[[], System]) -> System | None:
    with findings.noting("system"):
        system = make()
        findings.graph = draw(system)
        if not system.trainable:
            raise UserError(
                f"system: none of its components {list(system.components)} can be trained; give one an adapter"
            )
        return system.to()
    return None


def _chosen(prompts: pd.DataFrame) -> pd.DataFrame:
    """The longest prompt, by its text, and the first others; of the training split where there is one."""
    of_training = prompts[prompts["split"] == "train"]
    longest = of_training["text"].astype(str).str.len().idxmax()
    others = [row for row in of_training.index if row != longest]
    return of_training.loc[[longest, *others[: PROMPTS - 1]]].reset_index(drop=True)


def _check(findings: Findings, system: System, prompts: pd.DataFrame) -> pd.DataFrame | None:
    """Everything that needs no score; the trajectories, where every node could be sampled."""
    for node in system.nodes:
        findings.problems += _template_problems(node, system.components[node.component])
    drawn = _sampled(findings, system, prompts)
    if len(drawn) < len(system.inputs) + len(system.nodes):
        return None
    findings.seen.append(f"{len(system.nodes)} nodes sampled on {len(prompts)} of them")
    for node in system.nodes:
        findings.notes += context_notes(node, system, drawn)
    samples = list(range(SAMPLES)) * len(prompts)
    trajectories = as_frame(prompts["prompt_id"].repeat(SAMPLES).tolist(), samples, drawn)
    with findings.noting("trajectories"), TemporaryDirectory() as folder:
        write_trajectories(trajectories, Path(folder) / "trajectories.parquet")
        read_trajectories(Path(folder) / "trajectories.parquet")
    _check_gradients(findings, system, drawn)
    for name in system.trainable:
        with findings.noting(f"component '{name}'"), TemporaryDirectory() as folder:
            _check_saved(name, system.components[name], Path(folder) / name)
    return trajectories


def _template_problems(node: Node, component: Component) -> list[str]:
    """A component's own template that leaves out some of what its node is generated from."""
    read = component.reads if isinstance(component, Templated) else None
    if read is None:
        return []
    named = {name.partition(".")[0].partition("[")[0] for _, name, _, _ in string.Formatter().parse(read) if name}
    shown = node.parents if node.template is None else ("template",)
    unread = [parent for index, parent in enumerate(shown) if str(index) not in named]
    if not unread or "" in named:
        return []
    remedy = f"give the node a template with {{{'} and {'.join(node.parents)}}}"
    return [f"node '{node.name}': its model reads {read!r} and nothing of '{unread[0]}'; {remedy}"]


def _sampled(findings: Findings, system: System, prompts: pd.DataFrame) -> dict[str, list[Any]]:
    """Values of the inputs and of every node that can be sampled, `SAMPLES` rows a prompt."""
    rows = prompts.loc[prompts.index.repeat(SAMPLES)]
    drawn: dict[str, list[Any]] = {name: rows[name].tolist() for name in system.inputs}
    for number, node in enumerate(system.nodes):
        if not set(node.parents) <= drawn.keys():
            continue
        component = system.components[node.component]
        of_function = f", function {function_name(component.function)}" if isinstance(component, Function) else ""
        with findings.noting(f"node '{node.name}'{of_function}"), torch.no_grad():
            seeds = range(number * len(rows), (number + 1) * len(rows))
            alone = System(list(drawn), [node], {node.component: component})
            drawn |= alone.sample(drawn, seeds=seeds)
    return drawn


def context_notes(node: Node, system: System, drawn: Trajectories) -> list[str]:
    """Whether a prompt would be too long, were the texts that it holds as long as their models may make them."""
    component = system.components[node.component]
    if not isinstance(component, LanguageModel) or component.architecture.context is None:
        return []
    growth = [0] * len(drawn[node.name])
    for parent in node.parents:
        owner = next((system.components[other.component] for other in system.nodes if other.name == parent), None)
        for row, value in enumerate(drawn[parent]):
            if isinstance(owner, LanguageModel) and isinstance(value, Completion):
                growth[row] += owner.max_new_tokens - len(value.tokens)
    prompts = [len(component.encode_prompt(condition)) for condition in conditions_of(node, drawn)]
    longest, context = max(map(sum, zip(prompts, growth, strict=True))), component.architecture.context
    if longest + component.max_new_tokens <= context:
        return []
    return [
        f"node '{node.name}': with texts as long as max_new_tokens allows, its prompt may have {longest} tokens; with "
        f"{component.max_new_tokens} of its own that is more than the {context} that its model has positions for"
    ]


def _check_gradients(findings: Findings, system: System, drawn: Trajectories) -> None:
    """One backward pass on made-up pairs: a prompt's trajectory is preferred to one of another prompt."""
    count = len(drawn[system.nodes[0].name])
    chosen = list(range(0, count, SAMPLES))
    order = [*chosen, *(row + 1 for row in [*chosen[1:], chosen[0]])]
    pairs = {name: [values[row] for row in order] for name, values in drawn.items()}
    before, found = len(findings.problems), dict[str, LogProbs]()
    for name in [name for name in system.components if name not in _computed(system)]:
        with findings.noting(f"component '{name}'"):
            draw_numbers = list(range(len(chosen))) * 2
            found[name] = system.log_probs(pairs, draw=draw_numbers, components=[name])[name]
            for side, values in found[name]._asdict().items():
                if wrong := int((~values.isfinite()).sum()):
                    raise UserError(f"the {side}'s log-probabilities of {wrong} of {len(order)} values are not finite")
            if found[name].reference.requires_grad:
                raise UserError("its reference should be constant; it is computed from what is trained")
    if len(findings.problems) > before:
        return
    rates, weights = (dict.fromkeys(system.trainable, value) for value in (1e-4, 0.0))
    settings = MethodSettings(objective=OBJECTIVE, learning_rate=rates, chosen_weight=weights)
    with findings.noting("gradients"):
        loss, _ = pair_loss(BatchLogProbs({name: found[name] for name in system.trainable}), settings)
        if loss.requires_grad:
            loss.backward()
        for name in system.trainable:
            findings.problems += _gradient_problems(name, system, pairs)
        if len(findings.problems) == before:
            findings.seen.append(f"gradients reach {' and '.join(map(repr, system.trainable))}")


def _computed(system: System) -> list[str]:
    return [name for name, component in system.components.items() if isinstance(component, Deterministic)]


def _gradient_problems(name: str, system: System, pairs: Trajectories) -> list[str]:
    weights = system.components[name].trainable_parameters()
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    for weight in weights:
        weight.grad = None
    if not all(bool(gradient.isfinite().all()) for gradient in gradients):
        return [f"component '{name}': its gradient is not finite"]
    if any(bool(gradient.any()) for gradient in gradients):
        return []
    nodes = [node for node in system.nodes if node.component == name]
    seen = {repr((condition, value)) for node in nodes for condition, value in _factors(node, pairs)}
    if len(seen) <= len(nodes):
        return [
            f"component '{name}': it made the same value of the same inputs each time, and a preference between equal "
            "values teaches nothing; raise its temperature, or give it inputs that differ"
        ]
    return [
        f"component '{name}': the loss gives it no gradient; its log_probs should be computed from its "
        "trainable_parameters, with nothing detached"
    ]


def _factors(node: Node, pairs: Trajectories) -> Sequence[tuple[Any, Any]]:
    return list(zip(conditions_of(node, pairs), pairs[node.name], strict=True))


def _check_saved(name: str, component: Component, folder: Path) -> None:
    """Raises `UserError` unless what is saved is what is loaded."""
    before = [weight.detach().clone() for weight in component.trainable_parameters()]
    component.save(folder)
    component.load(folder)
    after = component.trainable_parameters()
    if len(before) != len(after) or not all(torch.equal(one, other) for one, other in zip(before, after, strict=True)):
        raise UserError(f"component '{name}': its load should give back the weights that its save has written")
