"""The error that is written for users, and text that is safe to print."""

import re
import sys


class UserError(ValueError):
    """Bad configuration, data or model. The message is one sentence: the setting, its value, what would be right.

    The command line prints it and exits with code 2, without a traceback.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def tell(sentence: str) -> None:
    """Print a warning for the user on stderr."""
    print(f"sysdpo: {printable(sentence)}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text on one line with control characters escaped: names and values in it may contain anything."""
    line = re.sub(r"\s*\n\s*", " ", text.strip())
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in line)
