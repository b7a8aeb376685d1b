"""`sysdpo STEP …`: each step of the workflow as a command of its own, made from its function's types."""

import gc
import os
import sys
import warnings
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from sysdpo.base.errors import UserError, printable
from sysdpo.base.files import check_outputs
from sysdpo.base.settings import unknown_name
from sysdpo.plan.command import plan
from sysdpo.run.launch import tell_launcher
from sysdpo.run.options import loaders, written
from sysdpo.run.settings_page import settings
from sysdpo.run.steps import annotating, checking, data, exporting, reproducing, results, starting, studies, training
from sysdpo.run.warm import run_command

ENVIRONMENT = {
    # Torch's OpenMP threads spin at barriers; where cores are shared that costs a factor of ten and more.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Progress bars and advice of the model libraries would bury a step's own log.
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
}


def warm(
    *, command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="The command, with its options.")]
) -> int:
    """Run a command of many steps, and import their libraries once for all of them.

    For example: sysdpo warm snakemake --cores all
    """
    return run_command(command, main)


GROUPS = {
    "A system of your own": (starting.new, checking.check),
    "Before a run": (checking.validate, plan, settings),
    "Data": (data.prompts, data.sample, data.score, data.pair, data.dataset, data.gather),
    "Models and training": (training.foundation, training.inspect, training.train),
    "Evaluation and results": (
        *(results.evaluate, results.metrics, results.describe, results.tables, results.figure, results.credit),
        *(results.experiment, results.claims, results.quote, results.report),
    ),
    "Trained systems": (exporting.try_, exporting.export),
    "People's preferences": (annotating.annotate,),
    "Studies": (studies.study, studies.draw),
    "Reproducibility": (reproducing.manifest, reproducing.verify, reproducing.verdicts, reproducing.show),
}


class Step(TyperCommand):
    """A command that refuses to replace a file it reads, and that loads its configuration."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        required = [param for param in self.params if param.required]
        self.no_args_is_help = bool(required)
        words = spread(args, [param.opts[0] for param in self.params if param.multiple])
        found = self.make_parser(ctx).parse_args(list(words))[0]
        missing = [param for param in required if found.get(param.name) is None]
        if words and missing and "help" not in found:
            raise UserError(f"{', '.join(map(called, missing))} should be given")
        return super().parse_args(ctx, words)

    def invoke(self, ctx: Any) -> Any:
        values, outputs = ctx.params, written(self.callback)
        named = [
            (name, value)
            for name, option in values.items()
            for value in (option if isinstance(option, list) else [option])
        ]
        inputs = [value for name, value in named if name not in outputs and isinstance(value, Path)]
        check_outputs({name: value for name, value in named if name in outputs and value is not None}, inputs)
        for name, load in loaders(self.callback).items():
            values[name] = load(values[name])
        return super().invoke(ctx)


class Steps(TyperGroup):
    """All commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            raise UserError(unknown_name(args[0], "step", self.commands))
        return super().resolve_command(ctx, args)


def spread(words: Sequence[str], several: Collection[str]) -> list[str]:
    """The words with `--parts a b` as `--parts a --parts b`, which is how click takes several values.

    several: the options that take several values.
    """
    result, option = list[str](), ""
    for word in words:
        if word.startswith("--"):
            option = word if word in several else ""
        if word != option:
            result += [option, word] if option else [word]
    return result


def called(param: Any) -> str:
    """The name of an option or argument in the help."""
    return str(param.metavar if param.param_type_name == "argument" else param.opts[0])


@cache
def commands() -> Any:
    """The command line."""
    about = "Align compound AI systems, step by step; `sysdpo STEP --help` says what a step takes."
    app = typer.Typer(cls=Steps, help=about, subcommand_metavar="STEP", no_args_is_help=True, add_completion=False)
    for group, functions in GROUPS.items():
        for function in functions:
            name = function.__name__.rstrip("_")  # `try` is a word of Python's own
            app.command(name, cls=Step, rich_help_panel=group)(function)
    its_own = {"allow_interspersed_args": False}  # what follows the command's name are its options
    app.command(cls=Step, rich_help_panel="Many steps", context_settings=its_own)(warm)
    return get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one step and return its exit code: 2, after one sentence on stderr, for errors that the user can correct."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    prepare()
    try:
        with commands().make_context("sysdpo", list(words), obj=words) as context:
            return commands().invoke(context) or 0
    except typer.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        if "--help" not in words:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # its reader, `head` say, has seen enough
        return 1
    except UserError as error:
        if not tell_launcher(error):
            say(words, str(error))
    except typer.TyperException as error:
        option: Any = getattr(error, "param", None)
        say(words, f"{called(option)}: {error.message}" if option else error.format_message())
    return 2


def say(words: Sequence[str], sentence: str) -> None:
    """Print what is wrong with a command."""
    command = " ".join(["sysdpo", *[word for word in words[:1] if word in commands().commands]])
    if sentence:  # where nothing is asked for, the help has been printed
        print(f"{command}: {printable(sentence)}", file=sys.stderr)


def prepare() -> None:
    """Set what must be set before a step imports the model libraries."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    # They make a million lasting objects: looking for garbage among those again and again makes their import a fifth
    # slower.
    gc.set_threshold(100_000, 50, 100)
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
