"""The model card beside a saved system, and the Python that loads one."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any


def load_expression(folder: str, components: Iterable[str], saved: Collection[str]) -> str:
    """A Python expression that loads a system from `folder`, with `...` for each function that was not saved."""
    missing = sorted(set(components) - set(saved))
    functions = f", functions={{{', '.join(f'{name!r}: ...' for name in missing)}}}" if missing else ""
    return f"sysdpo.System.load({folder}{functions})"


def saved_card(graph: Mapping[str, Any]) -> str:
    """A model card in the hub's format."""
    parts = graph["components"].values()
    named = {str(part.get("model") or part["arguments"].get("model", "")) for part in parts}
    bases = sorted(named - {""})
    load = load_expression("folder", (node["component"] for node in graph["nodes"]), graph["components"])
    lines = [f"- `{node['name']}`: `{node['component']}` from {', '.join(node['parents'])}" for node in graph["nodes"]]
    head = ["---", "library_name: sysdpo", "base_model:", *(f"- {base}" for base in bases), "tags: [dpo, lora]", "---"]
    text = ["# A compound system, aligned with sysdpo", "", "Its nodes, in order:", "", *lines, "", "Load it with", ""]
    return "\n".join([*head, "", *text, f"    {load}", ""])
