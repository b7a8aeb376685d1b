"""The one error a user is meant to read."""

import re
import sys


class UserError(ValueError):
    """Bad configuration, data or model. The message is one sentence: the setting, its value, what would be right.

    The command line prints it and exits with code 2, without a traceback.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def tell(sentence: str) -> None:
    """Say on stderr what a user should know though nothing is wrong enough to stop."""
    print(f"sysdpo: {printable(sentence)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text as one line that a terminal takes for nothing but text: names and values in it may hold anything."""
    line = re.sub(r"\s*\n\s*", " ", text.strip())
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
