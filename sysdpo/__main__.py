"""`python -m sysdpo`, and the command `sysdpo`."""

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sysdpo import numerics, warm
from sysdpo.errors import UserError


def main() -> int:
    """Run one step, in the warm process where there is one; or a command of many steps with such a process."""
    arguments = sys.argv[1:]
    try:
        numerics.choose(asked_numerics(arguments))
    except UserError as error:
        print(f"sysdpo: {error}", file=sys.stderr)
        return 2
    if arguments[:1] == ["warm"]:
        return warm.run_command(arguments[1:])
    status = warm.run_step(arguments)
    if status is None:
        from sysdpo import cli

        status = cli.main(arguments)
    return status


def asked_numerics(arguments: Sequence[str]) -> str:
    """What the step's configuration asks for; where it has none, or is none, what the environment does."""
    default = os.environ.get(numerics.VARIABLE, "portable")
    after = dict(itertools.pairwise(arguments))
    file = after.get("--config") or next((each[9:] for each in arguments if each.startswith("--config=")), None)
    if file is None:
        return default
    import yaml

    try:
        config = yaml.load(Path(file).read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return str(config.get("numerics", default))
    except (OSError, ValueError, yaml.YAMLError, AttributeError):
        return default  # the step itself says what is wrong with the file


if __name__ == "__main__":
    sys.exit(main())
