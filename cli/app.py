"""The command line's surface. Nothing here imports torch: `--help` and completion answer at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.compare import compare
from cli.console import write_text
from cli.decode import decode
from cli.encode import encode
from cli.export import export
from cli.info import info
from cli.listing import list_all
from cli.report import report
from cli.train import train
from tokenizer._version import __version__
from tokenizer.errors import InputError

app = typer.Typer(
    name="vqtok",
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
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


app.command("train")(train)
app.command("encode")(encode)
app.command("decode")(decode)
app.command("report")(report)
app.command("compare")(compare)
app.command("export")(export)
app.command("info")(info)
app.command("list")(list_all)
