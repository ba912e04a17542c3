"""The app: the commands, and what `vqtok` says without one.

A command's module is imported once the command is called, so that `--help`, `--version` and the completion of commands
cost little more than an empty Typer program.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cli.console import write_text
from cli.usage_errors import refuse_renamed_variables
from tokenizer._version import __version__
from tokenizer.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

# The first line of what `--help` of each command says.
COMMANDS = {
    "train": "Train a tokenizer on a folder of images.",
    "encode": "Turn images into tokens.",
    "decode": "Turn tokens back into images, with their names and sizes.",
    "report": "Say how well the codebook is used, and with images how good the pictures are.",
    "compare": "Train several quantizers alike, and rank them on validation images.",
    "export": "Write encoder and decoder as ONNX files, which run without vqtok and torch.",
    "info": "Say what a checkpoint or a token file is, or a folder of token files.",
    "list": "List shipped checkpoints, quantizers, presets, losses and formats.",
}


def command_function(name: str) -> Callable[..., Any]:
    """Return the function of a command: in the module of its name, with an underscore where Python has that name."""
    functions = vars(import_module(f"cli.{name}"))
    found: Callable[..., Any] = functions[name if name in functions else f"{name}_"]
    return found


class LazyGroup(TyperGroup):
    """Commands of which only names and first lines are known until one is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the command in the place of its name and line, and return it with its name and the words after it."""
        name = args[0]
        if name in COMMANDS:
            alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
            alone.command(name)(command_function(name))
            self.commands[name] = typer.main.get_command(alone)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="vqtok",
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:  # Typer's callback
    if value:
        write_text(f"vqtok {__version__}\n")
        raise typer.Exit


def _refuse_gone_folder() -> None:
    """Raise InputError where the working directory was removed: torch's libraries end the process then."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise InputError("the working directory was removed: change to one that is there") from None


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  # its callback acts on it
        bool, typer.Option("--version", help="Print the version, and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Image tokenizer: train a codebook on a folder of images, encode to integers, decode, report, compare.

    \b
    vqtok train photos/ -o run
    vqtok encode photos/ -m run -o tokens.safetensors
    vqtok decode tokens.safetensors -m run -o back/
    vqtok report tokens.safetensors -m run --images photos/
    vqtok compare photos/ -o cmp --quantizers 'diveq, ste, ema'

    Results go to stdout, messages to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 finished but some inputs
    failed, 4 a threshold was missed, 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM. Settings can come from the environment:
    VQTOK_MODEL for --model; the flag wins.
    """
    _refuse_gone_folder()
    refuse_renamed_variables()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


for _name, _line in COMMANDS.items():
    app.command(_name, help=_line)(lambda: None)
