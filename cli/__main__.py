"""The entry point: runs the app, and turns errors into one line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback

import typer

from cli.app import app
from cli.command_line import command_name, is_typed
from cli.console import drop_unwritten, printable, tell
from cli.signals import EXITS, exit_on_signals
from cli.usage_errors import describe_usage_error
from tokenizer.errors import UsageError, VqtokError, lacks_memory

_EXIT_PIPE = 141
_TRUE = ("1", "true", "t", "yes", "y", "on")


def main() -> None:
    """Run `vqtok` on the arguments of this process."""
    exit_on_signals()
    # What libraries log, such as where matplotlib keeps its fonts, is not for the user.
    logging.lastResort = logging.NullHandler()
    code = _run()
    _drop_unwritten(broken=code == _EXIT_PIPE)
    sys.exit(code)


def _run() -> int:
    try:
        code: int = app(prog_name="vqtok", standalone_mode=False) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):
            return _EXIT_PIPE
        if stop.code in EXITS:
            _say("interrupted: no half-written file is left")
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BrokenPipeError:
        return _EXIT_PIPE
    except typer.TyperException as error:
        return _fail(describe_usage_error(error, _called()), 2)
    except (VqtokError, OSError, MemoryError) as error:
        return _fail(_reason(error), 2 if isinstance(error, UsageError) else 1)
    except (RuntimeError, ImportError, SystemError) as error:
        if not lacks_memory(error):
            raise
        return _fail(_reason(MemoryError()), 1)
    return code


def _fail(reason: str, code: int) -> int:
    if is_typed("--debug") or os.environ.get("VQTOK_DEBUG", "").lower() in _TRUE:
        tell(traceback.format_exc())
    _say(f"error: {reason}")
    return code


def _say(text: str) -> None:
    tell(f"{_called()}: {printable(text)}\n")


def _drop_unwritten(*, broken: bool) -> None:
    """Leave nothing in stdout's buffer that the flush at exit would fail on once more."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        broken = True
    if broken and sys.stdout is not None:
        drop_unwritten(sys.stdout)


def _called() -> str:
    """Return the program, and the command that is called, if it is one."""
    return f"vqtok {command_name([str(command.name) for command in app.registered_commands])}".rstrip()


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError):
        return f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")
    return str(error)


if __name__ == "__main__":
    main()
