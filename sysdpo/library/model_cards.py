"""Model cards in the hub's format: of an exported system, of its adapters and of its merged models."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sysdpo.method.component import Usage
from sysdpo.method.system import System
from sysdpo.report.markdown import plain, table_lines

TAGS = ("sysdpo", "dpo", "compound-ai-system")
PAPER = "[Aligning Compound AI Systems via System-level DPO](https://arxiv.org/abs/2502.17721)"
UNKNOWN = "unknown"
"""The hub's word for a licence that nobody has named."""
FRONT_MATTER = re.compile(r"\A---\n(.*?)^---$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Facts:
    """What a card says of how a system came about.

    title, story: of the system, a name and a paragraph. method, meaning: what trained it, a name and sentences.
    components: what each is called within a sentence. data: sentences. settings: of the training. results: a row a
    metric: its name, its value with an interval, what it measures. remark: a sentence on the results. origin: what
    made it, by name, versions say.
    """

    title: str = "A compound system"
    story: str = ""
    method: str = "system-level DPO"
    meaning: str = ""
    components: Mapping[str, str] = field(default_factory=dict)
    data: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    results: Sequence[tuple[str, str, str]] = ()
    remark: str = ""
    origin: Mapping[str, str] = field(default_factory=dict)


def system_card(system: System, facts: Facts, trained: Sequence[str], bases: Mapping[str, str], call: str) -> str:
    """Of the whole system. bases: each model's name or folder. call: a program that loads and runs it."""
    head = {"library_name": "sysdpo", "base_model": sorted(set(bases.values())), "license": UNKNOWN}
    lines = [
        f"# {plain(facts.title)}, aligned by {plain(facts.method)}",
        *_about(facts),
        "## Use",
        "In the folder that holds this file, where sysdpo is installed:",
        _code(call),
        "Each trained model is here twice, for programs without sysdpo: the adapter in `adapters/`, and the model with "
        "the adapter in its weights in `merged/`. Their cards say how to load them.",
        "## Parts",
        _nodes(system),
        _frozen(system, facts, trained),
        *_training(facts),
    ]
    return _card(head | {"tags": list(TAGS)}, lines)


def component_card(
    name: str,
    system: System,
    facts: Facts,
    trained: Sequence[str],
    usage: Usage,
    *,
    base: str,
    license: str,
    merged: bool,
    adapter: Mapping[str, Any],
) -> str:
    """Of one trained component. base: its model's name or folder. adapter: the adapter's settings."""
    head = {
        "base_model": base,
        "base_model_relation": "finetune" if merged else "adapter",
        "library_name": usage.library,
        "pipeline_tag": usage.task,
        "license": license,
        "tags": [*TAGS, *([] if merged else ["lora"])],
    }
    called = facts.components.get(name, f"`{name}`")
    kind = "the model with its adapter merged into the weights" if merged else "the adapter (LoRA)"
    lines = [
        f"# {plain(called[0].upper() + called[1:])} of “{plain(facts.title)}”",
        f"This is {kind} of {plain(called)}, one of the models of a compound AI system that were aligned by "
        f"{plain(facts.method)}. It was trained to do well in that system, not alone.",
        *_about(facts),
        "## Use",
        "In the folder of the whole export, two above this file:",
        _code(usage.code),
        usage.exactness,
        "## Parts",
        _nodes(system),
        _frozen(system, facts, trained),
        *_training(facts),
        "## Adapter",
        _table(adapter),
    ]
    return _card(head, lines)


def license_of(model: Any) -> str:
    """The licence that the card in a model's folder names; unknown where there is none."""
    card = Path(str(model)) / "README.md"
    found = FRONT_MATTER.match(card.read_text()) if card.is_file() else None
    try:
        front = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        front = None
    return str(front.get("license", UNKNOWN)) if isinstance(front, dict) else UNKNOWN


def _card(head: Mapping[str, Any], parts: Sequence[str]) -> str:
    front = yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _about(facts: Facts) -> list[str]:
    return [plain(facts.story), plain(facts.meaning), f"The method is that of {PAPER} (Wang et al., NeurIPS 2025)."]


def _training(facts: Facts) -> list[str]:
    parts = ["## Data", *map(plain, facts.data)] if facts.data else []
    parts += ["## Training", f"Method: {plain(facts.method)}.", _table(facts.settings)] if facts.settings else []
    if facts.results:
        rows = [tuple(map(plain, row)) for row in facts.results]
        parts += ["## Results", "Of the whole system:", "\n".join(table_lines(["metric", "value", "meaning"], rows))]
        parts += [plain(facts.remark)]
    return parts + (["## Made with", _table(facts.origin)] if facts.origin else [])


def _nodes(system: System) -> str:
    told = [
        f"`{node.name}` by `{node.component}` from {', '.join(map(_quoted, node.parents))}" for node in system.nodes
    ]
    inputs, outputs = (", ".join(map(_quoted, names)) for names in (system.inputs, system.outputs))
    return f"Inputs: {inputs}. Outputs: {outputs}. In their order:\n\n" + "\n".join(f"- {line}" for line in told)


def _frozen(system: System, facts: Facts, trained: Sequence[str]) -> str:
    others = [name for name in system.components if name not in trained]
    told = f"Trained: the adapters of {', '.join(map(_quoted, trained))}. Frozen: the base models under them"
    return told + (f", and {', '.join(map(_quoted, others))}." if others else ".")


def _quoted(name: str) -> str:
    return f"`{name}`"


def _table(settings: Mapping[str, Any]) -> str:
    return "\n".join(table_lines(["setting", "value"], [(f"`{name}`", _shown(of)) for name, of in settings.items()]))


def _shown(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return plain(text.removesuffix("...\n"))


def _code(program: str) -> str:
    return f"```python\n{program}\n```"
