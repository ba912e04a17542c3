"""`vqtok export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cli import options
from cli.console import Console, write_json
from cli.options import option
from tokenizer.errors import UsageError
from tokenizer.files import existing_of

if TYPE_CHECKING:
    from tokenizer.export import ExportCheck


def export(
    output: Annotated[str, option("--output", "-o", help="A folder.", env=False)] = "",
    model: options.Model = None,
    images: Annotated[
        list[Path] | None,
        option("--images", help="Compare on these images too: a file or a folder; may be repeated.", env=False),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_progress: options.NoProgress = False,
    debug: options.Debug = False,  # noqa: ARG001  # read by main
) -> None:
    """Write encoder and decoder as ONNX files, which run without vqtok and torch.

    \b
    vqtok export -m run -o onnx/
    vqtok export -m run -o onnx/ --images photos/      compares on your images too
    vqtok export -m run -o onnx/ -f --json

    encoder.onnx takes (batch, height, width, 3) uint8 RGB pixels, height and width multiples of the downsampling, and
    gives (batch, h, w, C) int64 tokens; decoder.onnx takes these and gives pixels. vqtok.json says the rest. Before
    anything is written, onnxruntime must give the same tokens as vqtok encode, and pixels within one step of 255.

    Needs: pip install 'vqtok[onnx]'
    """
    console = Console("export", quiet=quiet, verbose=verbose, progress=not no_progress)
    if output in ("", "-"):
        raise UsageError("no output: pass -o FOLDER/")

    from tokenizer.export import export_onnx

    existing = existing_of(resume=False, overwrite=overwrite)
    result = export_onnx(output, model, images or [], existing=existing, track=console.track)
    console.tell_checkpoint(result.model, named=model is not None)
    console.detail(f"exported in {result.export_seconds:.1f} s")
    console.say(f"encoder and decoder exported to {output}, {result.size / 1e6:.1f} MB, in {result.seconds:.1f} s")
    console.say(_compared(result.checked))
    if as_json:
        write_json({"output": output, **result.about})


def _compared(checked: ExportCheck) -> str:
    ties = f" ({checked.near_ties / checked.tokens:.1g} of all), each a near tie" if checked.near_ties else ""
    return (
        f"compared on {checked.images} images: {checked.near_ties} of {checked.tokens} tokens differ{ties}; "
        f"{checked.off_by_one} of {checked.values} pixel values differ by 1 of 255, none by more"
    )
