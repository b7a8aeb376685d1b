"""`python -m sysdpo`, and the command `sysdpo`."""

import sys

from sysdpo import warm


def main() -> int:
    """Run one step, in the warm process where there is one; or a command of many steps with such a process."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["warm"]:
        return warm.run_command(arguments[1:])
    status = warm.run_step(arguments)
    if status is None:
        from sysdpo import cli

        status = cli.main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
