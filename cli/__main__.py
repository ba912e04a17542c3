"""The entry point: runs the app, and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys

from cli.app import app
from cli.console import printable
from cli.stop import exit_on_sigterm
from tokenizer.errors import UsageError, VqtokError

_EXIT_PIPE = 141


def main() -> None:
    """Run `vqtok` on the arguments of this process."""
    exit_on_sigterm()
    try:
        app(prog_name="vqtok")
    except BrokenPipeError:
        # The reader has gone; nothing is left to say, not even by the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_EXIT_PIPE)
    except (VqtokError, OSError, MemoryError) as error:
        if "--debug" in sys.argv or os.environ.get("VQTOK_DEBUG"):
            raise
        sys.stderr.write(f"vqtok {_command()}: error: {_reason(error)}\n")
        sys.exit(2 if isinstance(error, UsageError) else 1)


def _command() -> str:
    return next((printable(word) for word in sys.argv[1:] if not word.startswith("-")), "")


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError):
        return printable(f"{error.filename or ''}: {error.strerror or error}".removeprefix(": "))
    return printable(error)


if __name__ == "__main__":
    main()
