"""How good is a marginal's gradient from a few candidates? Compared with enumeration, on tables and language models.

With `joint_y = log p(y|x) p(z|x,y)` the exact gradient of `log p(z|x)` is `Σ_y p(y|x,z) ∇joint_y`. Every estimator of
`sysdpo.method.objectives` has the gradient `Σ_k w_k ∇joint_{y_k}` with its own candidates and weights `w`, so the rows
`∇joint_y` are computed once for all of them; the candidates come from the code that training uses.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sysdpo.applications import tabular
from sysdpo.applications.small_llama import small_llama
from sysdpo.applications.tokenizer import make_tokenizer
from sysdpo.base.seeds import seed_torch
from sysdpo.components.language import LanguageModel
from sysdpo.method.candidates import GENERATORS, CandidateSettings, Decoder
from sysdpo.method.intermediates import HiddenIntermediates
from sysdpo.method.objectives import MARGINALS, posterior
from sysdpo.method.system import Node, System
from sysdpo.studies.settings import Gradients

LANGUAGE = "language"
WORDS = ("red", "blue", "green", "cat", "dog")


@dataclass(frozen=True)
class Exact:
    """The enumeration for one prompt `x`, float64: `priors` (`p(y|x)`) `[Y]`, `joints` `[Z, Y]`, `gradients` `[Z, Y,
    parameters]`, and `indices` along Y of the assignments of hidden variables.
    """

    inputs: Mapping[str, Any]
    indices: Mapping[tuple[Any, ...], int]
    priors: Tensor
    joints: Tensor
    gradients: Tensor


def run(settings: Gradients) -> pd.DataFrame:
    """One row per system, generator, estimator and number of candidates.

    bias: `‖E ĝ − g‖ / ‖g‖` over all prompts and outputs, with the replicates' noise subtracted; bias_se: that noise;
    spread: `sqrt(E‖ĝ − E ĝ‖²) / ‖g‖`; value_bias: mean of the estimate of `log p(z|x)` minus its true value, in nats;
    mass: share of `p(y|x)` that the distinct candidates cover.
    """
    rows = []
    for name in settings.systems:
        system, exact = _enumerate(name, settings)
        for candidates in _grid(settings, max(len(prompt.indices) for prompt in exact)):
            rows.append({"system": name} | _described(candidates) | measure(system, exact, candidates, settings))
    return pd.DataFrame(rows)


def measure(system: System, exact: list[Exact], candidates: CandidateSettings, settings: Gradients) -> dict[str, float]:
    """The errors of one generator and estimator; columns as in `run`."""
    hidden = HiddenIntermediates(system, candidates)
    replicates = settings.replicates if GENERATORS[candidates.generator].draws else 1
    squared = {"exact": 0.0, "bias": 0.0, "noise": 0.0, "spread": 0.0}
    values, masses = [], []
    for number, prompt in enumerate(exact):
        rows = {name: [value] * replicates for name, value in prompt.inputs.items()}
        seeds = [settings.seed + number * replicates + replicate for replicate in range(replicates)]
        sets = hidden.propose(rows, seeds=seeds)
        truth = (prompt.joints.softmax(-1)[..., None] * prompt.gradients).sum(1)
        estimates = []
        for assignments in sets:
            keys = [tuple(chosen.values[node.name] for node in hidden.hidden) for chosen in assignments]
            indices = [prompt.indices[key] for key in keys]
            joint = prompt.joints[:, indices]
            proposal = torch.tensor([chosen.log_prob for chosen in assignments], dtype=torch.float64).expand_as(joint)
            estimate = MARGINALS[candidates.estimator](joint, proposal)
            values.append((estimate - prompt.joints.logsumexp(-1)).mean().item())
            weights = posterior(joint if candidates.estimator == "truncated" else joint - proposal)
            estimates.append((weights[..., None] * prompt.gradients[:, indices]).sum(1))
            masses.append(prompt.priors[sorted(set(indices))].sum().item())
        stacked = torch.stack(estimates)
        mean = stacked.mean(0)
        variance = stacked.var(0).sum().item() if replicates > 1 else 0.0
        squared["exact"] += truth.square().sum().item()
        squared["bias"] += (mean - truth).square().sum().item()
        squared["noise"] += variance / replicates
        squared["spread"] += variance
    scale = squared["exact"]
    return {
        "bias": float(np.sqrt(max(squared["bias"] - squared["noise"], 0.0) / scale)),
        "bias_se": float(np.sqrt(squared["noise"] / scale)),
        "spread": float(np.sqrt(squared["spread"] / scale)),
        "value_bias": float(np.mean(values)),
        "mass": float(np.mean(masses)),
    }


def _grid(settings: Gradients, most: int) -> Iterator[CandidateSettings]:
    for count in settings.counts:
        if count > most:
            continue
        yield CandidateSettings(count=count, generator="beam")
        if count > 1:
            for diversity in settings.diversities:
                yield CandidateSettings(count=count, generator="diverse_beam", diversity=diversity)
        for generator in (name for name, kind in GENERATORS.items() if kind.draws):
            yield CandidateSettings(count=count, generator=generator)
        for temperature in settings.temperatures:
            yield CandidateSettings(count=count, generator="ancestral", estimator="importance", temperature=temperature)


def _described(candidates: CandidateSettings) -> dict[str, Any]:
    diverse = candidates.generator == "diverse_beam"
    return {
        "generator": candidates.generator,
        "estimator": candidates.estimator,
        "candidates": candidates.count,
        "diversity": candidates.diversity if diverse else np.nan,
        "temperature": candidates.temperature if candidates.estimator == "importance" else np.nan,
    }


def _enumerate(name: str, settings: Gradients) -> tuple[System, list[Exact]]:
    seed_torch("study", settings.seed)
    if name == LANGUAGE:
        system = _language_chain()
    else:
        enumerated = tabular.build(name, seed=settings.seed)
        system = enumerated.system
    for component in system.components.values():
        for weight in component.trainable_parameters():
            weight.data += settings.spread * torch.randn_like(weight)
    if name == LANGUAGE:
        first, second = (system.components[key] for key in ("first", "second"))
        prompts = [{"text": "red cat"}, {"text": "blue dog"}]
        drafts = {"draft": completions(first.decoder([("red",)]))}  # type: ignore[attr-defined]
        answers = {"answer": completions(second.decoder([("red", "cat")]))[::4]}  # type: ignore[attr-defined]
        return system, [_exact(system, prompt, drafts, answers) for prompt in prompts]
    hidden = {node.name: None for node in system.nodes if node.name not in system.outputs}
    values = {name: sorted(set(enumerated.trajectories[name])) for name in (*hidden, *system.outputs)}
    prompts = [{"x": prompt} for prompt in tabular.PROMPTS]
    assignments = [{name: values[name] for name in names} for names in (hidden, system.outputs)]
    return system, [_exact(system, prompt, *assignments) for prompt in prompts]


def _exact(
    system: System, inputs: Mapping[str, Any], hidden: Mapping[str, list[Any]], outputs: Mapping[str, list[Any]]
) -> Exact:
    assignments = list(product(*hidden.values()))
    parameters = [weight for component in system.components.values() for weight in component.trainable_parameters()]
    rows = {name: [value] * len(assignments) for name, value in inputs.items()}
    rows |= dict(zip(hidden, map(list, zip(*assignments, strict=True)), strict=True))
    nodes = [node for node in system.nodes if node.name in hidden]
    owners = {node.component: system.components[node.component] for node in nodes}
    before = System(system.inputs, nodes, owners)
    with torch.no_grad():
        prior = _joint(before, rows)
    joints, gradients = [], []
    for output in product(*outputs.values()):
        joint = _joint(
            system, rows | {name: [value] * len(assignments) for name, value in zip(outputs, output, strict=True)}
        )
        slopes = [torch.autograd.grad(y, parameters, retain_graph=True, materialize_grads=True) for y in joint]
        joints.append(joint.detach())
        gradients.append(torch.stack([torch.cat([slope.flatten() for slope in row]) for row in slopes]).double())
    indices = {assignment: index for index, assignment in enumerate(assignments)}
    return Exact(inputs, indices, prior.exp(), torch.stack(joints), torch.stack(gradients))


def _joint(system: System, rows: Mapping[str, list[Any]]) -> Tensor:
    log_probs = system.log_probs(rows, draw=[0] * len(rows[system.inputs[0]]))
    return torch.stack([policy.double() for policy, _ in log_probs.values()]).sum(0)


def _language_chain() -> System:
    """Two untrained Llamas with peaked distributions: a draft of at most two tokens, an answer of one."""
    tokenizer = make_tokenizer([" ".join(WORDS)], template="<s> $A", max_length=32)
    lora = {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"}

    def component(template: str, length: int) -> LanguageModel:
        model = small_llama(tokenizer, width=16, layers=1, initializer_range=0.5)
        return LanguageModel(model, tokenizer, lora=lora, template=template, max_new_tokens=length)

    components = {"first": component("{0}", 2), "second": component("{0} {1}", 1)}
    return System(
        ("text",), [Node("draft", "first", ("text",)), Node("answer", "second", ("text", "draft"))], components
    )


def completions(decoder: Decoder) -> list[Any]:
    """All values that a decoder of one condition can generate."""
    vocabulary = decoder.start().shape[-1]
    values = []
    for length in range(1, decoder.max_length + 1):
        for tokens in product(range(vocabulary), repeat=length):
            ended = [token in decoder.ends for token in tokens]
            if not any(ended[:-1]) and (ended[-1] or length == decoder.max_length):
                values.append(decoder.value(tokens))
    return values
