"""The step that an engineer begins with: a system of one's own as three files that run as they are."""

import keyword
import re
import sys
import sysconfig
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Annotated

import typer

from sysdpo.base.errors import UserError
from sysdpo.base.files import whole
from sysdpo.base.functions import LIBRARY
from sysdpo.base.settings import MODULE, NAME
from sysdpo.base.yaml_files import read_yaml
from sysdpo.run import options

STARTER = LIBRARY / "library" / "starter"
"""The files as they are written, but for the name `starter` and the folder."""


def new(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the system is to be called.")],
    folder: Annotated[Path, options.path("The folder to write into.", "FOLDER")] = Path(),
) -> None:
    """Write a system of your own to start from: its Python file, a configuration, example rows.

    NAME.py has the graph, its prompts and a score, NAME.yaml the methods to
    compare, NAME.jsonl 20 rows. They run as they are and need no download.

    For example: sysdpo new helpdesk
    """
    check_name(name, folder)
    texts = starter(name, folder)
    for path in texts:
        if path.exists():
            raise UserError(f"NAME: '{path}' exists already; take another name or another folder")
    for path, text in texts.items():
        with whole(path) as temporary:
            temporary.write_text(text)
    code, config, rows = texts
    print(f"Written: {code}, {config} and {rows}. Now:")
    print(f"    sysdpo check {code}")
    print(f"    snakemake --cores all --configfile {config}")


def starter(name: str, folder: Path) -> dict[Path, str]:
    """The texts of the three files, by the paths where they belong."""
    return {
        folder / f"{name}{suffix}": (STARTER / f"starter{suffix}")
        .read_text()
        .replace("FOLDER/", "" if folder == Path() else f"{folder}/")
        .replace("starter", name)
        for suffix in (".py", ".yaml", ".jsonl")
    }


def check_name(name: str, folder: Path, config: Path = Path("config.yaml")) -> None:
    """Raises `UserError` unless a system in this folder may be called so.

    Its file must not hide a module that others import, nor its settings be laid over those of another system, which
    `config` describes.
    """
    if not re.fullmatch(NAME, name) or keyword.iskeyword(name):
        raise UserError(
            f"NAME: '{name}' should be a Python identifier of small letters, digits and underscores, a letter first"
        )
    installed = PathFinder.find_spec(name, [*sysconfig.get_paths().values(), str(LIBRARY.parent)])
    if name in sys.stdlib_module_names or (installed is not None and installed.origin is not None):
        raise UserError(f"NAME: '{name}' is a module that Python has already; take another name")
    if config.is_file():
        described = read_yaml(config)
        for section in ("systems", "studies"):
            if name in (described.get(section) or {}):
                raise UserError(f"NAME: '{name}' is one of the {section} of {config}; take another name")
    if not re.fullmatch(MODULE, f"{folder / name}.py"):
        raise UserError(f"--folder: '{folder}' should be without spaces and special characters")
