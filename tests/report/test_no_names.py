"""What is shown is read from descriptions: no module of these rooms knows a system, a row, a metric or a component."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from described import committed

REPOSITORY = Path(__file__).parents[2]
ROOMS = ("report", "run", "base", "method")
OTHER_WORDS = {
    **{path: {"accuracy"} for path in ("method/training.py", "report/curves.py", "report/figures/training.py")},
    "method/settings.py": {"before"},
}
"""Fields of every training's log that have the name of some metric, and when pydantic calls a validator."""
SIDES = {"left", "right"}
"""What the debaters are called, and what matplotlib calls the sides of a figure."""
OBJECTIVES = {"direct", "sampling", "separate", "likelihood"}
"""What the setting `objective` may be, which some rows are called after; where objectives are defined."""
DEFINED = ("base/settings.py", "method/objectives.py", "method/method_words.py")


def names() -> set[str]:
    """Of the systems, rows, components and metrics of every scale; `preference_score` and drift are every system's."""
    configs = [yaml.safe_load(path.read_text()) for path in (REPOSITORY / "config.yaml", *scales())]
    systems = {name: rows for config in configs for name, rows in (config.get("systems") or {}).items() if rows}
    names = set(systems) | {"order_consistency", "caption_fidelity", "reward", "judge_score", "draft_reward"}
    for described in systems.values():
        rows = (described.get("methods") or {}) | (described.get("ablations") or {})
        names |= set(rows) | set(described.get("components") or {})
    for shown in committed().systems.values():
        names |= set(shown.metrics) - {"preference_score"} - set(shown.drifts)
    return names - SIDES


def scales() -> list[Path]:
    return sorted((REPOSITORY / "workflow" / "scales").glob("*.yaml"))


def texts(path: Path) -> Iterator[str]:
    """The texts of a module that are no documentation."""
    tree = ast.parse(path.read_text())
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


MODULES = [path for room in ROOMS for path in sorted((REPOSITORY / "sysdpo" / room).rglob("*.py"))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(REPOSITORY / "sysdpo")))
def test_a_module_contains_no_name(path: Path) -> None:
    module = str(path.relative_to(REPOSITORY / "sysdpo"))
    allowed = OTHER_WORDS.get(module, set()) | (OBJECTIVES if module in DEFINED else set())
    # A component of an application may have the name of a word that is also a path: whole texts alone are compared.
    assert names() & set(texts(path)) <= allowed


def test_the_template_contains_no_name() -> None:
    template = (REPOSITORY / "sysdpo/report/template.html.j2").read_text()
    assert not [name for name in names() if f"'{name}'" in template or f'"{name}"' in template]
