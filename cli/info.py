"""`vqtok info`, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import options as o
from cli.console import printable, write_json, write_rows
from cli.decode import read_all
from tokenizer.checkpoint import WEIGHTS, describe, fingerprint
from tokenizer.errors import InputError
from tokenizer.token_files import SUFFIXES, TokenSet


def info(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A checkpoint, a token file, or - .", show_default=False)],
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,  # noqa: ARG001  # every command takes these three
    verbose: o.Verbose = False,  # noqa: ARG001
    no_progress: o.NoProgress = False,  # noqa: ARG001
    debug: o.Debug = False,  # noqa: ARG001  # read by main
) -> None:
    """Say what a checkpoint or a token file is.

    \b
    vqtok info run
    vqtok info tokens.safetensors --json
    """
    if path != "-" and not Path(path).exists():
        raise InputError(f"{path} does not exist")
    is_tokens = path == "-" or (Path(path).suffix in SUFFIXES and not Path(path).is_dir())
    if not is_tokens and Path(path).is_file():
        raise InputError(f"{path} is neither the folder of a checkpoint nor a {' or '.join(SUFFIXES)} file")
    values = _tokens(path) if is_tokens else _checkpoint(Path(path))
    if as_json:
        write_json(values)
        return
    failed = values.pop("failed", [])
    rows = [(key.replace("_", " "), _text(value)) for key, value in values.items() if value not in (None, {}, [])]
    rows += [("not encoded", printable(f"{failure['name']}: {failure['reason']}")) for failure in failed]
    write_rows(rows)


def _checkpoint(folder: Path) -> dict[str, Any]:
    description = describe(folder)
    training = description.training
    return {
        "kind": "checkpoint",
        "fingerprint": fingerprint(folder),
        "quantizer": dict(description.quantizer),
        "codebook_sizes": list(description.codebook_sizes),
        "bits_per_pixel": round(description.bits_per_pixel, 5),
        "downsample": description.downsample,
        "widths": list(description.network.widths),
        "depths": list(description.network.depths),
        "latent_dim": description.network.latent_dim,
        "bytes": (folder / WEIGHTS).stat().st_size,
        "trained_on_images": training.get("images"),
        "steps": training.get("steps"),
        "seconds": training.get("seconds"),
        "held_out": training.get("held_out"),
        "written_by": f"vqtok {description.vqtok}",
    }


def _tokens(path: str) -> dict[str, Any]:
    (_, tokens), *_ = read_all([path])
    header = tokens.header
    return {
        "kind": "tokens",
        "images": len(tokens.grids),
        "tokens": sum(grid.size for grid in tokens.grids),
        "grids": _grids(tokens),
        "codes_per_position": tokens.codes_per_position,
        "codebook_sizes": list(header.codebook_sizes),
        "downsample": header.downsample,
        "dtype": str(tokens.grids[0].dtype) if tokens.grids else None,
        "model": header.model,
        "made_by": dict(header.made_by),
        "failed": [{"name": failure.name, "reason": failure.reason} for failure in header.failed],
    }


def _grids(tokens: TokenSet) -> dict[str, int]:
    counts: dict[str, int] = {}
    for record in tokens.header.images:
        key = f"{record.grid[0]}x{record.grid[1]}"
        counts[key] = counts.get(key, 0) + 1
    return counts


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else printable(value)
