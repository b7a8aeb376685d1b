"""Every code block of the documentation is run, or held against the code; a block that no test knows fails.

- A block that names its file, of any language, is laid out and run with the others of its page: `RUN_BY`.
- Other Python is run as it is printed, too: `RUN_BY`.
- Commands are parsed by their programs' own parsers; what they name exists or is made by the page: `printed_commands`.
- YAML is read by the settings' own classes, resources of a profile by the rules that they are for.
- What commands print, formulas and examples are compared with what the code makes of them: `SHOWN_BY`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from printed_commands import check_command, commands_of, is_command, named_on
from project import REPOSITORY, training_on_several_nodes
from test_rules import rule_texts

from sysdpo.components.settings import LanguageModelSettings
from sysdpo.method.settings import Evaluation, TrainingTrajectories

PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "config/README.md"]
PAGES += [f"docs/{path.name}" for path in sorted((REPOSITORY / "docs").glob("*.md"))]

RUN_BY = {
    "README.md": "tests/library/test_printed_programs.py",
    "docs/annotate.md": "tests/run/test_annotating_steps.py",
    "docs/cluster.md": "tests/workflow/test_module.py",
    "docs/experiments.md": "tests/library/test_printed_programs.py",
    "docs/export.md": "tests/run/test_exporting_steps.py",
    "docs/extending.md": "tests/workflow/test_extending.py",
    "docs/language-models.md": "tests/components/test_chat_api.py",
    "docs/your-own-preferences.md": "tests/workflow/test_own_preferences.py",
    "docs/your-own-system.md": "tests/workflow/test_own_system.py",
}
"""Of pages whose programs are run: the test that runs them."""

SHOWN_BY = {
    "docs/crew.md": "tests/applications/crew/test_crew.py",
    "docs/debate.md": "tests/applications/debate/test_debate.py",
    "docs/plan.md": "tests/plan/test_command.py",
    "docs/statistics.md": "tests/report/test_intervals.py",
    "docs/your-own-system.md": "tests/workflow/test_own_system.py",
}
"""Of pages that show what a program prints or computes: the test that compares it."""


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    info: str
    text: str

    @property
    def language(self) -> str:
        return self.info.split(" ")[0]

    @property
    def file(self) -> str:
        found = re.search(r" file=(\S+)$", self.info)
        return found[1] if found else ""


def blocks_of(page: str) -> list[Block]:
    """The fenced and the indented blocks of a page, those within lists too."""
    tokens = MarkdownIt("commonmark").parse((REPOSITORY / page).read_text())
    code = [token for token in tokens if token.type in ("fence", "code_block")]
    return [Block(page, token.map[0] + 1, token.info, token.content) for token in code]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def is_yaml(block: Block) -> bool:
    if block.language not in ("yaml", "") or not re.match(r"\w+:( |$)", block.text, re.MULTILINE):
        return False
    return isinstance(yaml.safe_load(block.text), dict)


def check_file_block(block: Block) -> None:
    source = source_of(block, RUN_BY)
    assert re.search(rf"\b{re.escape(Path(block.file).stem)}\b", source), f"{block.file} is not run"


def check_python_block(block: Block) -> None:
    assert re.search(r'blocks\("python"|python_of\(', source_of(block, RUN_BY))


def check_commands(block: Block) -> None:
    named = named_on((REPOSITORY / block.page).read_text())
    for words in commands_of(block.text):
        assert is_command(words), f"no test knows the program {words[0]}"
        check_command(words, named)


def check_yaml(block: Block) -> None:
    for key, value in yaml.safe_load(block.text).items():
        SECTIONS[key](value)


def check_resources(asked: dict[str, Any]) -> None:
    """Of a profile for the rule `train`."""
    several = training_on_several_nodes()
    assert set(asked) <= {*re.findall(r"^        (\w+)=", rule_texts()["train"], re.MULTILINE), *several}
    if "nodes" in asked:  # which the workflow's own tests run
        assert asked == several


def check_components(components: dict[str, Any]) -> None:
    for name, settings in components.items():
        LanguageModelSettings.read(settings | {"lora": None}, f"components.{name}")


SECTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "components": check_components,
    "evaluation": lambda settings: Evaluation.read(settings, "evaluation"),
    "train": check_resources,
    "trajectories": lambda settings: TrainingTrajectories.read(settings, "trajectories"),
}


def check_shown(block: Block) -> None:
    assert source_of(block, SHOWN_BY)


def source_of(block: Block, tests: dict[str, str]) -> str:
    """The text of the test that a page is checked by, which names the page."""
    assert block.page in tests, f"no test knows this block: {block.text[:60]!r}"
    source = (REPOSITORY / tests[block.page]).read_text()
    assert block.page in source
    return source


def check_of(block: Block) -> Callable[[Block], None]:
    if block.file:
        return check_file_block
    if block.language == "python":
        return check_python_block
    if is_yaml(block):
        return check_yaml
    if block.language == "bash" or (not block.language and is_command(commands_of(block.text)[0])):
        return check_commands
    return check_shown


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_every_code_block_is_checked(block: Block) -> None:
    check_of(block)(block)


def test_there_are_blocks_of_every_kind() -> None:
    kinds = {check_of(block) for block in BLOCKS}
    assert kinds == {check_file_block, check_python_block, check_yaml, check_commands, check_shown}


@pytest.mark.parametrize(
    "block",
    [
        Block("docs/paper.md", 1, "python", "import sysdpo\n"),
        Block("docs/extending.md", 1, "python file=new.py", "import sysdpo\n"),
        Block("docs/paper.md", 1, "", "a table\n"),
        Block("docs/paper.md", 1, "bash", "make nothing\n"),
        Block("docs/paper.md", 1, "bash", "snakemake --cores all nothing\n"),
        Block("docs/paper.md", 1, "bash", "snakemake --configfile workflow/scales/nothing.yaml\n"),
        Block("docs/paper.md", 1, "bash", "python benchmarks/plan_fit.py --nothing 1\n"),
        Block("docs/paper.md", 1, "bash", "curl x\n"),
    ],
    ids=lambda block: block.text.strip(),
)
def test_a_block_that_no_test_knows_fails(block: Block) -> None:
    with pytest.raises(AssertionError):
        check_of(block)(block)


@pytest.mark.parametrize("words", ["sysdpo plan --nothing", "snakemake --nothing", "sysdpo nothing"])
def test_a_command_with_an_unknown_option_fails(words: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        check_commands(Block("docs/paper.md", 1, "bash", f"{words}\n"))
