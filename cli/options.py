"""Options that several commands share. Every option can come from the environment as VQTOK_<OPTION>."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tokenizer.config import PRESETS, RECIPES, SETTING_OPTIONS, Precision, gather_settings
from tokenizer.models import DEFAULT_CHECKPOINT, shipped_names

_RENAMED_PARAMETERS = {"compiled": "compile"}  # which is a name of Python's own


def option(*names: str, help: str, env: bool = True, **settings: Any) -> Any:  # noqa: A002  # Typer's own word
    """Return a Typer option that VQTOK_<OPTION> sets, unless `env` is false; the flag wins."""
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    variable = "VQTOK_" + long.removeprefix("--").upper().replace("-", "_")
    return typer.Option(*names, help=help, envvar=variable if env else None, show_envvar=False, **settings)


def complete_model(incomplete: str) -> list[str]:
    """Return the names of shipped checkpoints that begin so; where there are none, the shell completes paths."""
    return [name for name in shipped_names() if name.startswith(incomplete)]


def given_settings(context: typer.Context, config_file: Path | None, pairs: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a run that a command line gave, nested: every parameter that is a setting is one.

    Raises:
        ConfigError: one of `pairs`, which are KEY=VALUE, is malformed.
        InputError: the config file cannot be read.
    """
    typed: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    for parameter, value in context.params.items():
        name = _RENAMED_PARAMETERS.get(parameter, parameter)
        if name in SETTING_OPTIONS:
            source = context.get_parameter_source(parameter)
            layer = environment if source is not None and source.name == "ENVIRONMENT" else typed
            layer[name] = _plain(value)
    return gather_settings(typed, environment, config_file, pairs)


def _plain(value: Any) -> Any:
    """Return the value of a parameter as a config file would hold it."""
    if isinstance(value, (list, tuple)):
        return sorted(set(value)) or None
    return str(value) if isinstance(value, Path) else value


OnError = Literal["skip", "fail"]
# What the library calls so too, written here because there numpy comes with it; a test holds them equal.
ImageFormat = Literal["png", "jpg", "webp"]
TokenFormat = Literal["npy", "safetensors", "tar"]
ResizeMode = Literal["none", "crop", "pad", "squash"]

Quiet = Annotated[bool, option("--quiet", "-q", help="No messages but warnings and errors.")]
Verbose = Annotated[bool, option("--verbose", "-v", help="More messages.")]
AsJson = Annotated[bool, option("--json", help="One result object on stdout.", env=False)]
NoProgress = Annotated[bool, option("--no-progress", help="No progress bar.")]
Debug = Annotated[bool, option("--debug", help="A traceback in place of a one-line error.")]
Overwrite = Annotated[bool, option("--overwrite", "-f", help="Replace the output when it exists.", env=False)]
Shard = Annotated[
    str | None,
    option("--shard", help="I/N: only the I-th of N parts of the work; torchrun sets this by itself.", env=False),
]
MODEL_HELP = "Checkpoint: a folder that vqtok train wrote, or the name of one that ships (vqtok list)"
Model = Annotated[
    Path | None,
    option("--model", "-m", help=f"{MODEL_HELP}; {DEFAULT_CHECKPOINT} unless said.", autocompletion=complete_model),
]
ModelOfTokens = Annotated[
    Path | None,
    option(
        "--model", "-m", help=f"{MODEL_HELP}; unless said, the one of these that fits.", autocompletion=complete_model
    ),
]
Device = Annotated[str, option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
BatchSize = Annotated[int, option("--batch-size", "-b", min=1, help="Images that go through the network together.")]
Workers = Annotated[int | None, option("--workers", "-j", min=0, help="Threads that read images.")]
Alpha = Annotated[str, option("--alpha", help="Color under transparent pixels: a name or #rrggbb.")]
FilesFrom = Annotated[
    str | None, option("--files-from", help="Read paths from this file, one a line; - is stdin.", env=False)
]
Null = Annotated[bool, option("--null", "-0", help="Paths in --files-from end with NUL, not newline.", env=False)]

# What a run of `train`, and every run of `compare`, takes; None leaves the choice to the config file and the plan.
Data = Annotated[
    list[Path],
    typer.Argument(metavar="DATA", help="Folders of images (any layout), or images.", show_default=False),
]
Config = Annotated[Path | None, option("--config", "-c", help="Settings from a TOML file.")]
Preset = Annotated[
    str | None,
    option("--preset", help=f"Size of the network: {', '.join(PRESETS)}; or a recipe: {', '.join(RECIPES)}."),
]
Downsample = Annotated[int | None, option("--downsample", help="Pixels per position and side: 4, 8, 16, 32.")]
CropSize = Annotated[int | None, option("--image-size", min=1, help="Side of the training crops.")]
EncodeSize = Annotated[
    int | None,
    option(
        "--encode-size", min=1, help="What encode --image-size will be; nothing said: images keep their size there."
    ),
]
Crops = Annotated[int | None, option("--batch-size", "-b", min=1, help="Crops at once, on each device.")]
TrainPrecision = Annotated[Precision | None, option("--precision", help="Of the network's arithmetic.")]
TrainDevice = Annotated[str | None, option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
