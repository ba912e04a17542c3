"""`vqtok list`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cli import options as o
from cli.console import write_json, write_rows
from tokenizer.config import DOWNSAMPLES, PRESETS, RECIPES
from tokenizer.images import IMAGE_SUFFIXES
from tokenizer.models import shipped_folder, shipped_names
from tokenizer.tokens import TOKEN_FORMATS

if TYPE_CHECKING:
    from tokenizer.models import CheckpointDescription
    from tokenizer.quantizers import Method


def list_all(
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,  # noqa: ARG001  # every command takes these three
    verbose: o.Verbose = False,  # noqa: ARG001
    no_progress: o.NoProgress = False,  # noqa: ARG001
    debug: o.Debug = False,  # noqa: ARG001  # read by main
) -> None:
    """List shipped checkpoints, quantizers, presets, losses and formats.

    \b
    vqtok list
    vqtok list --json | jq '.quantizers | keys'
    """
    from tokenizer.models import describe_checkpoint
    from tokenizer.quantizers import METHODS
    from tokenizer.train import LEARNED, TERMS

    # Those made of others last.
    methods = sorted(METHODS.values(), key=lambda method: ("stages" in method.options, method.name))
    values = {
        "checkpoints": {name: _checkpoint(describe_checkpoint(shipped_folder() / name)) for name in shipped_names()},
        "quantizers": {method.name: method.summary for method in methods},
        "quantizer options": {method.name: _options(method) for method in methods},
        "presets": {name: _shape(preset) for name, preset in PRESETS.items()}
        | {name: _recipe(recipe) for name, recipe in RECIPES.items()},
        "losses": {name: (term.__doc__ or "").splitlines()[0].removeprefix("Return ") for name, term in TERMS.items()}
        | {name: f"{text}." for name, text in LEARNED.items()},
        "downsample": {str(factor): f"one position for {factor}x{factor} pixels" for factor in DOWNSAMPLES},
        "token formats": {name: f".{name}" for name in TOKEN_FORMATS},
        "image suffixes": {"read": " ".join(IMAGE_SUFFIXES), "written": ".png .jpg .webp"},
    }
    if as_json:
        write_json(values)
        return
    write_rows(
        [
            (kind if first else "", name, text)
            for kind, entries in values.items()
            for first, (name, text) in zip([True] + [False] * len(entries), entries.items(), strict=False)
        ]
    )


def _checkpoint(made: CheckpointDescription) -> str:
    codes = " + ".join(map(str, made.codebook_sizes))
    quality = made.training.get("validation", {}).get("psnr")
    measured = "" if quality is None else f", {quality:.2f} dB on validation images"
    side = made.downsample
    return f"one position for {side}x{side} pixels, {codes} codes, {made.bits_per_pixel:.4f} bits a pixel{measured}"


def _options(method: Method) -> str:
    from tokenizer.quantizers import write_spec

    defaults = {key: default for key, (_, default) in method.options.items()}
    return write_spec({"name": method.name, **defaults})


def _shape(shapes: dict[int, tuple[tuple[int, ...], tuple[int, ...]]]) -> str:
    return "; ".join(f"f{factor} {_times(widths)} x {_times(depths)}" for factor, (widths, depths) in shapes.items())


def _recipe(settings: Mapping[str, Any], where: str = "") -> str:
    return " ".join(
        _recipe(value, f"{where}{key}.") if isinstance(value, Mapping) else f"{where}{key}={value}"
        for key, value in settings.items()
    )


def _times(numbers: tuple[int, ...]) -> str:
    return "-".join(map(str, numbers))
