"""A trained system as a folder that travels: for this library whole, for others each of its models."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sysdpo.base.errors import UserError
from sysdpo.base.files import whole
from sysdpo.library.model_cards import Facts, component_card, license_of, system_card
from sysdpo.method.component import Deterministic, Exportable, Reloadable, SampleOnly
from sysdpo.method.saved_card import load_expression
from sysdpo.method.system import ADAPTERS, CARD, GRAPH, MODELS, System, conditions_of
from sysdpo.method.values import plain

MERGED = "merged"


def export(
    system: System,
    folder: Path | str,
    example: Mapping[str, Any],
    *,
    trained: Sequence[str] | None = None,
    facts: Facts | None = None,
) -> None:
    """Write a trained system as a folder that needs nothing else of this machine.

    It holds what `System.save` writes, the base models, and for programs without this library the adapter and the
    merged model of each trained component, all with model cards.

        README.md            the system's card
        system.json          the graph and its settings, for `System.load`
        adapters/COMPONENT   the adapter, in PEFT's or diffusers' own format
        merged/COMPONENT     the model with the adapter in its weights, in `from_pretrained` format
        models/COMPONENT     the base model, where that is a folder of this machine and no hub id

    folder: replaced only if it has no other files than the new one.
    example: the inputs that the programs in the cards run on.
    trained: the components that were trained; None is all trainable ones.
    facts: what the cards say about data, method and measurements.

    Raises `UserError` if a component was not made by its class's `from_pretrained`, or cannot be exported.
    """
    chosen, told = list(system.trainable if trained is None else trained), facts or Facts()
    check_exportable(system, chosen)
    target = Path(folder)
    check_replaceable(target)
    with torch.no_grad():
        drawn = system.sample({name: [value] for name, value in example.items()}, seeds=[0])
    with whole(target) as path:
        system.save(path, trained=chosen, self_contained=True)
        graph = json.loads((path / GRAPH).read_text())["components"]
        bases = {
            name: str(part.get("model") or part["arguments"]["model"])
            for name, part in graph.items()
            if "model" in part or "model" in part["arguments"]
        }
        for name in chosen:
            node = next(node for node in system.nodes if node.component == name)
            condition = tuple(map(plain, conditions_of(node, drawn)[0]))
            _export_model(name, system, told, chosen, path, base=bases[name], condition=condition)
        call = _call(system, graph, example)
        (path / CARD).write_text(system_card(system, told, chosen, bases, call))
        for name in {Path(base).name for base in bases.values() if base.startswith(f"{MODELS}/")}:
            _write_base_note(path / MODELS / name, system.components[name])


def check_exportable(system: System, trained: Sequence[str]) -> None:
    """Raises `UserError` unless others can load what was trained, and this library all of it."""
    for name, component in system.components.items():
        is_made = isinstance(component, Reloadable) and component.made_from is not None
        if name in trained and not (isinstance(component, Exportable) and is_made):
            raise UserError(
                f"component '{name}': a {type(component).__name__} should be made by from_pretrained, and have "
                "save_model, save_adapter and usage, to be exported"
            )
        if not is_made and not isinstance(component, (Deterministic, SampleOnly)):
            raise UserError(f"component '{name}': it should be made by from_pretrained to be saved with the system")


def check_replaceable(folder: Path) -> None:
    """Raises `UserError` if a folder holds anything but a saved system."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"'{folder}' is a file, where an export is a folder; give the output another name")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / GRAPH).is_file():
        raise UserError(f"'{folder}' should be a new folder, or hold an earlier export; give the output another name")


def _export_model(
    name: str, system: System, facts: Facts, trained: Sequence[str], path: Path, *, base: str, condition: Any
) -> None:
    component: Any = system.components[name]
    made_from = component.made_from or {}
    common: dict[str, Any] = {"base": base, "license": license_of(made_from["model"])}
    common["adapter"] = _plain_settings(made_from["lora"])
    component.save_model(path / MERGED / name, merged=True)
    for kind, usage in (
        (MERGED, component.usage(condition, model=f"{MERGED}/{name}")),
        (ADAPTERS, component.usage(condition, model=base, adapter=f"{ADAPTERS}/{name}")),
    ):
        card = component_card(name, system, facts, trained, usage, merged=kind == MERGED, **common)
        (path / kind / name / CARD).write_text(card)


def _plain_settings(lora: Any) -> dict[str, Any]:
    return {key: value if isinstance(value, (str, int, float)) else list(value) for key, value in dict(lora).items()}


def _write_base_note(folder: Path, component: Any) -> None:
    """Write a card with the licence of the base model beside it."""
    if (license := license_of(component.made_from["model"])) != "unknown":
        (folder / CARD).write_text(f"---\nlicense: {license}\n---\n")


def _call(system: System, graph: Mapping[str, Any], example: Mapping[str, Any]) -> str:
    load = load_expression('"."', (node.component for node in system.nodes), graph)
    values = [example[name] for name in system.inputs]
    shown = ", ".join(repr(plain(value)) for value in values)
    return f"import sysdpo\n\nsystem = {load}\nprint(system({shown}, seed=0))"
