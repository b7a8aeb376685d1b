"""`sysdpo STEP …`: each step of the workflow as a command of its own."""

import argparse
import gc
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sysdpo.base import numerics
from sysdpo.base.errors import UserError
from sysdpo.base.files import check_outputs
from sysdpo.base.settings import NotNegative, Seed, WrongSetting, read
from sysdpo.method.config import load_config
from sysdpo.plan.command import add_options, plan
from sysdpo.run import settings_page, steps
from sysdpo.run.launch import tell_launcher

ENVIRONMENT = {
    # Torch's OpenMP threads spin at barriers; where cores are shared that costs a factor of ten and more.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Progress bars and advice of the model libraries would bury a step's own log.
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
}

PATHS = (
    *("prompts", "foundation", "trajectories", "scores", "pairs", "metrics", "comparisons", "table"),
    *("runs", "results", "figures", "descriptions", "digests", "claims", "committed", "checkpoint", "output"),
)
STEPS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "validate": (steps.validate, ()),
    "describe": (steps.describe, ("output",)),
    "prompts": (steps.prompts, ("system", "output")),
    "foundation": (steps.foundation, ("system", "seed", "model", "output")),
    "inspect": (steps.inspect, ("system", "seed", "foundation", "output")),
    "sample": (steps.sample, ("system", "seed", "prompts", "foundation", "part?", "output")),
    "score": (steps.score, ("system", "seed", "prompts", "trajectories", "foundation", "output")),
    "pair": (steps.pair, ("system", "seed", "scores", "output")),
    "given": (steps.given, ("system", "prompts", "output")),
    "gather": (steps.gather, ("parts", "output")),
    "train": (
        steps.train,
        (
            *("system", "seed", "method", "prompts", "trajectories", "scores", "pairs", "foundation", "output"),
            *("checkpoint?", "checkpoint-every?", "processes?", "machines?", "rendezvous?"),
        ),
    ),
    "evaluate": (
        steps.evaluate,
        ("system", "seed", "method", "prompts", "foundation", "training?", "split?", "part?", "output"),
    ),
    "metrics": (steps.metrics, ("evaluations", "descriptions", "comparisons", "output")),
    "tables": (steps.tables, ("system", "descriptions", "metrics", "comparisons", "output")),
    "figure": (
        steps.figure,
        ("system", "figure", "descriptions", "metrics", "comparisons", "runs", "output"),
    ),
    "credit": (steps.credit, ("system", "descriptions", "runs", "output")),
    "claims": (steps.claims, ("claims", "descriptions", "metrics", "comparisons", "ablations?", "output")),
    "show": (steps.show, ("claims", "descriptions", "committed?")),
    "quote": (steps.quote, ("results", "descriptions", "output")),
    "study": (steps.study, ("study", "output")),
    "draw": (steps.draw, ("study", "table", "output")),
    "report": (steps.report, ("results", "descriptions", "output")),
    "manifest": (steps.manifest, ("results", "output")),
    "verify": (steps.verify, ("results", "digests")),
    "verdicts": (steps.verdicts, ("comparisons", "committed")),
    "experiment": (steps.experiment, ("experiment", "evaluations", "descriptions", "figures", "output")),
}


WRITTEN = {
    **dict.fromkeys(("validate", "figure", "draw"), ()),  # figures are written one by one into a folder
    "train": ("output", "checkpoint"),
    "metrics": ("output", "comparisons"),
}
"""Which options of a step name what it replaces, where that is not `output` alone."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="sysdpo",
        description="Aligning compound AI systems, step by step.",
        epilog="`sysdpo warm COMMAND` runs a command of many steps, each of which starts with its libraries imported.",
    )
    commands = top.add_subparsers(dest="step", required=True, metavar="STEP")
    for name, (function, options) in STEPS.items():
        step = commands.add_parser(name, help=(function.__doc__ or "").splitlines()[0])
        step.add_argument("--config", type=Path, required=True, help="the resolved configuration (YAML)")
        for option in options:
            _add_option(step, option.removesuffix("?"), required=not option.endswith("?"))
    add_options(commands.add_parser("plan", help=(plan.__doc__ or "").splitlines()[0]))
    help_of = (settings_page.write_settings.__doc__ or "").splitlines()[0]
    settings_page.add_options(commands.add_parser("settings", help=help_of))
    return top


def _add_option(step: argparse.ArgumentParser, name: str, *, required: bool) -> None:
    if name == "seed":
        step.add_argument("--seed", type=number(int, Seed), required=required)
    elif name in ("evaluations", "parts"):
        step.add_argument(f"--{name}", type=Path, nargs="+", required=required)
    elif name == "training":
        step.add_argument(f"--{name}", type=Path, nargs="+", default=[], required=required)
    elif name == "part":
        step.add_argument("--part", metavar="2/4", required=required, help="do this part of the prompts alone")
    elif name in ("processes", "machines"):
        step.add_argument(f"--{name}", type=int, metavar="N", default=1, help=f"{name} that share the training")
    elif name == "checkpoint-every":
        step.add_argument(
            f"--{name}",
            type=number(float, NotNegative),
            metavar="SECONDS",
            default=600.0,
            help="between two checkpoints",
        )
    elif name == "rendezvous":
        step.add_argument("--rendezvous", metavar="HOST:PORT", help="where the machines meet, outside of SLURM")
    elif name == "split":
        step.add_argument("--split", choices=("validation", "test"), default="test")
    elif name == "ablations":
        step.add_argument("--ablations", action="store_true", help="the claims about ablations in place of the others")
    elif name in PATHS:
        step.add_argument(f"--{name}", type=Path, required=required)
    else:
        step.add_argument(f"--{name}", required=required)


def check_paths(options: argparse.Namespace) -> None:
    """Raises `UserError` if the step would replace what it reads."""
    given = {name: value for name, value in vars(options).items() if isinstance(value, Path)}
    outputs = {name: given.pop(name) for name in WRITTEN.get(options.step, ("output",)) if name in given}
    several = [path for name in ("evaluations", "parts", "training") for path in getattr(options, name, ())]
    check_outputs(outputs, [*given.values(), *several])


def number(kind: type, hint: Any) -> Callable[[str], Any]:
    """Reads a number of this type, such as `Seed`, from the command line."""

    def parse(text: str) -> Any:
        try:
            return read(hint, kind(text), "number")
        except WrongSetting as error:
            raise argparse.ArgumentTypeError(error.what) from error
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text}' should be a number") from error

    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one step; returns 0, or 2 with one sentence on stderr for what the user can mend."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    options.arguments = arguments
    prepare()
    try:
        if options.step in ("plan", "settings"):
            {"plan": plan, "settings": settings_page.write_settings}[options.step](options)
        else:
            config = load_config(options.config)
            numerics.choose(config.get("numerics", numerics.chosen()))
            check_paths(options)
            STEPS[options.step][0](options, config)
    except UserError as error:
        if not tell_launcher(error):
            print(f"sysdpo {options.step}: {error}", file=sys.stderr)
        return 2
    return 0


def prepare() -> None:
    """What must be set before a step imports the model libraries."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    # They make a million lasting objects: looking for garbage among those again and again makes their import a fifth
    # slower.
    gc.set_threshold(100_000, 50, 100)
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
