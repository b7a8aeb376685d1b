"""`python -m sysdpo`, and the command `sysdpo`."""

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sysdpo.base import numerics
from sysdpo.base.errors import UserError
from sysdpo.run import warm


def main() -> int:
    """Run one step, in the warm process where there is one; or a command of many steps with such a process."""
    arguments = sys.argv[1:]
    try:
        numerics.choose(asked_numerics(arguments))
    except UserError as error:
        print(f"sysdpo: {error}", file=sys.stderr)
        return 2
    status = None if arguments[:1] == ["warm"] else warm.run_step(arguments)
    if status is None:
        from sysdpo.run import cli

        status = cli.main(arguments)
    return status


def asked_numerics(arguments: Sequence[str]) -> str:
    """What the step's configuration asks for; where it has none, or is none, what the environment does."""
    default = os.environ.get(numerics.VARIABLE, "portable")
    after = dict(itertools.pairwise(arguments))
    file = after.get("--config") or next((word[9:] for word in arguments if word.startswith("--config=")), None)
    if file is None:
        return default
    from sysdpo.method.config import read_yaml  # which imports no numpy: it would be too late to choose

    try:
        config = read_yaml(Path(file))
    except UserError:
        return default  # the step itself says what is wrong with the file
    return str(config.get("numerics", default)) if isinstance(config, dict) else default


if __name__ == "__main__":
    sys.exit(main())
