"""`vqtok info`, without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.console import Console, printable, stdin_of, write_json, write_rows
from tokenizer.errors import InputError

if TYPE_CHECKING:
    from tokenizer.tokens import FailedInput

_SHOWN = 20


def info(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help="A checkpoint or its name, a token file, a folder of them, or - .", show_default=False
        ),
    ],
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_progress: options.NoProgress = False,
    debug: options.Debug = False,  # noqa: ARG001  # read by main
) -> None:
    """Say what a checkpoint or a token file is, or a folder of token files.

    \b
    vqtok info run
    vqtok info photo-f8
    vqtok info tokens.safetensors --json
    vqtok info shards/ --json | jq .images
    """
    from tokenizer.models import CONFIG_FILE, locate_checkpoint
    from tokenizer.tokens import TOKEN_SUFFIXES

    path = path if path == "-" else str(locate_checkpoint(path))
    if path != "-" and not Path(path).exists():
        raise InputError(f"{path} does not exist")
    is_folder = path != "-" and Path(path).is_dir()
    if path != "-" and not is_folder and not path.endswith(TOKEN_SUFFIXES):
        raise InputError(f"{path} is neither the folder of a checkpoint nor a {' or '.join(TOKEN_SUFFIXES)} file")
    console = Console("info", quiet=quiet, verbose=verbose, progress=not no_progress)
    if is_folder and (Path(path) / CONFIG_FILE).exists():
        values = _checkpoint(Path(path))
    else:
        values = _tokens(path, _listed_failures(Path(path)) if is_folder else (), console)
    if as_json:
        write_json(values)
        return
    failed = values.pop("failed", [])
    rows = [(key.replace("_", " "), _text(value)) for key, value in values.items() if value not in (None, {}, [])]
    rows += [("not encoded", printable(f"{failure['name']}: {failure['reason']}")) for failure in failed[:_SHOWN]]
    if len(failed) > _SHOWN:
        rows.append(("", f"and {len(failed) - _SHOWN} more: see --json"))
    write_rows(rows)


def _listed_failures(folder: Path) -> Sequence[FailedInput]:
    from tokenizer.models import CONFIG_FILE
    from tokenizer.tokens import find_token_files

    try:
        return find_token_files(folder).failed
    except InputError as error:
        raise InputError(f"{folder} is not a checkpoint: it has no {CONFIG_FILE}; {error}") from error


def _checkpoint(folder: Path) -> dict[str, Any]:
    from tokenizer.models import WEIGHTS_FILE, describe_checkpoint, fingerprint_of

    description = describe_checkpoint(folder)
    network, training = description.network, description.training
    return {
        "kind": "checkpoint",
        "fingerprint": fingerprint_of(folder),
        "quantizer": dict(description.quantizer),
        "codebook_sizes": list(description.codebook_sizes),
        "bits_per_pixel": round(description.bits_per_pixel, 5),
        "downsample": description.downsample,
        "widths": list(network.widths),
        "depths": list(network.depths),
        "decoder_widths": list(network.decoder_shape[0]),
        "decoder_depths": list(network.decoder_shape[1]),
        "linear": network.linear,
        "latent_dim": network.latent_dim,
        "bytes": (folder / WEIGHTS_FILE).stat().st_size,
        "trained_on_images": training.get("images"),
        "steps": training.get("steps"),
        "seconds": training.get("seconds"),
        "validation": training.get("validation"),
        "written_by": f"vqtok {description.vqtok}",
    }


def _tokens(path: str, listed: Sequence[FailedInput], console: Console) -> dict[str, Any]:
    from tokenizer.tokens import TokenSet, open_token_files

    files = open_token_files([path], stdin=stdin_of([path]))
    for warning in files.warnings:
        console.warn(warning)
    grids, made, failed, tokens = Counter[str](), dict[tuple[Any, ...], TokenSet](), list(listed), 0
    for one in files:
        for _, _, block in one.blocks():
            grids[f"{block.shape[1]}x{block.shape[2]}"] += len(block)
            tokens += block.size
        failed += one.failed
        made.setdefault((one.header.model, one.header.codebook_sizes, one.codes_per_position), one)
    if not made:
        raise InputError(f"{path} holds no tokens")
    first, *others = made.values()
    return {
        "kind": "tokens",
        "files": len(files),
        "images": sum(grids.values()),
        "tokens": tokens,
        "grids": dict(grids),
        "codes_per_position": first.codes_per_position,
        "codebook_sizes": list(first.header.codebook_sizes),
        "downsample": first.header.downsample,
        "dtype": str(first.grids[0].dtype) if len(first.grids) else None,
        "model": first.header.model,
        "other_models": [other.header.model for other in others],
        "made_by": dict(first.header.made_by),
        "options": dict(first.header.options),
        "failed": [{"name": failure.name, "reason": failure.reason} for failure in failed],
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else printable(value)
