"""Typer's usage errors, told as one line like all others."""

from __future__ import annotations

import os

import typer

from cli.command_line import is_typed
from tokenizer.errors import UsageError, nearest_name

# Options that had another name in version 0.1.
RENAMED_OPTIONS = {"--peers": "--baselines"}


def describe_usage_error(error: typer.TyperException, command: str) -> str:
    """Return what is wrong with the command line, the nearest name, and where to look."""
    option = getattr(error, "option_name", None)
    possible = getattr(error, "possibilities", None)
    if option in RENAMED_OPTIONS and RENAMED_OPTIONS[option] in _options_of(error):
        return f"no such option {option}: it is now {RENAMED_OPTIONS[option]}"
    if possible:
        return f"no such option {option}{nearest_name(str(option), possible) or ', perhaps ' + ', '.join(possible)}"
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    text = " ".join(text.split()).replace("Value error, ", "").rstrip(".")
    text = text[:1].lower() + text[1:] + _from_environment(error)
    return text if "did you mean" in text.lower() else f"{text}: see {command} --help"


def _options_of(error: typer.TyperException) -> set[str]:
    """Return the names of all options of the command that was called wrongly."""
    command = getattr(getattr(error, "ctx", None), "command", None)
    return {name for parameter in getattr(command, "params", ()) for name in parameter.opts}


def refuse_renamed_variables() -> None:
    """Raise UsageError where a variable is set that sets an option no more, as that has another name."""
    for old, new in RENAMED_OPTIONS.items():
        variables = [f"VQTOK_{name.removeprefix('--').upper().replace('-', '_')}" for name in (old, new)]
        if variables[0] in os.environ:
            raise UsageError(f"{variables[0]} is set: it is now {variables[1]}")


def _from_environment(error: typer.TyperException) -> str:
    """Name the environment variable that a wrong value came from."""
    parameter = getattr(error, "param", None)
    variable = getattr(parameter, "envvar", None)
    if not isinstance(variable, str) or variable not in os.environ:
        return ""
    names = getattr(parameter, "opts", [])
    return "" if is_typed(*names) else f" (from {variable}={os.environ[variable]})"
