"""Whether commands that pages print would be understood: by their own parsers, with files and targets that exist."""

import re
import shlex
from collections.abc import Collection
from contextlib import chdir
from pathlib import Path

from pip._internal.commands import create_command
from project import REPOSITORY
from snakemake.cli import parse_args

from sysdpo.run.cli import commands as steps
from sysdpo.run.options import written

MADE = ("results", "build", ".venv", ".snakemake")
"""Folders of what a run, or make, leaves."""
MAKEFILE = (REPOSITORY / "Makefile").read_text()
PLAIN = {
    "cp": {"-r"},
    "git": {"--stat"},
    "hf": {"--revision"},
    "rm": {"-r"},
    "source": set(),
    "squeue": {"--me", "--format"},
    "tail": {"-f"},
    "tar": {"-czf", "--exclude"},
    "touch": set(),
}
"""Programs that are not this project's, with the options that pages give them."""


def commands_of(text: str) -> list[list[str]]:
    """The commands of a block in their words, without comments, variables that are set, and what joins them."""
    found: list[list[str]] = []
    for line in text.splitlines():
        command: list[str] = []
        for word in shlex.split(line, comments=True):
            if word == "&&":
                found.append(command)
                command = []
            elif command or not re.match(r"\w+=", word):
                command.append(word)
        found.append(command)
    return [command for command in found if command]


def is_command(words: list[str]) -> bool:
    return words[0] in PLAIN or words[0] in ("make", "snakemake", "sysdpo") or is_python(words[0])


def is_python(program: str) -> bool:
    return re.fullmatch(r"(\.venv/bin/)?python[\d.]*", program) is not None


def named_on(page: str) -> set[str]:
    """The files that come to be by what a page prints: its blocks, and what its commands write."""
    named = set(re.findall(r"^```\w+ file=(\S+)$", page, re.MULTILINE))
    for name in re.findall(r"\bsysdpo new (\w+)", page):
        named |= {f"{name}.{kind}" for kind in ("py", "yaml", "jsonl")}
    return named | set(re.findall(r"\b(?:cp -r \S+|tar -czf) (\S+)", page))


def check_command(words: list[str], named: Collection[str]) -> None:
    """Fails unless the program would take these words; `named` are the files that the page makes."""
    program, rest = words[0], words[1:]
    if program == "make":
        targets = [word for word in rest if not word.startswith("-")]
        assert targets
        for target in targets:
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"make has no target {target}"
    elif program == "snakemake":
        check_snakemake(rest, named)
    elif program == "sysdpo":
        check_step(rest, named)
    elif is_python(program):
        check_python(rest, named)
    else:
        options = {word.split("=")[0] for word in rest if word.startswith("-")}
        assert options <= PLAIN[program], f"{program}: {options - PLAIN[program]}"
        for word in rest:
            if "/" in word and not word.startswith("-"):
                check_file(word, named)


def check_file(name: str, named: Collection[str]) -> None:
    """Fails unless a file is there, or comes to be by a run or by what the page prints."""
    is_made = Path(name).parts[0] in MADE or any(name == path or name.startswith(f"{path}/") for path in named)
    assert is_made or (REPOSITORY / name).exists(), f"there is no {name}"


def check_snakemake(words: list[str], named: Collection[str]) -> None:
    for name in words:
        if name.endswith(".yaml") or "profiles/" in name:
            check_file(name, named)
    with chdir(REPOSITORY):
        # A copy of a profile is not there to be read.
        args = parse_args([word.replace("profiles/mine", "profiles/slurm-gpu") for word in words])[1]
    for target in args.targets:
        assert target in rules(), f"snakemake has no target {target}"


def rules() -> set[str]:
    files = [REPOSITORY / "Snakefile", REPOSITORY / "workflow/Snakefile", *(REPOSITORY / "workflow/rules").iterdir()]
    text = "\n".join(path.read_text() for path in files)
    return set(re.findall(r"^ *rule (\w+):", text, re.MULTILINE))


def check_step(words: list[str], named: Collection[str]) -> None:
    name, *options = words
    command = steps().commands[name]
    if name == "warm":
        return check_command(options, named)
    values = command.make_context(name, list(options)).params
    outputs = written(command.callback)
    for option, value in values.items():
        for path in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(path, Path) and option not in outputs and path != Path():
                check_file(str(path).split(":")[0], named)
    return None


def check_python(words: list[str], named: Collection[str]) -> None:
    if words[:2] == ["-m", "venv"]:
        assert words[2:] == [".venv"]
    elif words[:3] == ["-m", "pip", "install"]:
        options, _ = create_command("install").parser.parse_args(words[3:])
        for name in options.requirements:
            check_file(name, named)
    elif words[:2] == ["-m", "sysdpo"]:
        check_step(words[2:], named)
    else:
        script = words[0]
        check_file(script, named)
        source = (REPOSITORY / script).read_text()
        for word in words[1:]:
            if word.startswith("--"):
                assert f'"{word}"' in source, f"{script} has no {word}"
            else:
                check_file(word, named)
