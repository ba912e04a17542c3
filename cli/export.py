"""`vqtok export`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cli import options as o
from cli.console import Console, printable, write_json
from tokenizer.errors import ImageError, UsageError
from tokenizer.files import check_output, locked_folder
from tokenizer.images import Pixels, Source, read_image
from tokenizer.inputs import find_images
from tokenizer.models import load_model, locate_checkpoint

if TYPE_CHECKING:
    from tokenizer.export import ExportCheck


def export(
    output: Annotated[str, o.option("--output", "-o", help="A folder.", env=False)] = "",
    model: o.Model = None,
    images: Annotated[
        list[Path] | None,
        o.option("--images", help="Compare on these images too: a file or a folder; may be repeated.", env=False),
    ] = None,
    overwrite: o.Overwrite = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    debug: o.Debug = False,  # noqa: ARG001  # read by main
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
    folder = Path(output)
    check_output(folder, folder=True, existing="overwrite" if overwrite else "refuse")
    checkpoint = locate_checkpoint(model)
    sources = find_images(images) if images else []

    from tokenizer import export as exporter

    exporter.require_packages()
    loaded = load_model(checkpoint, "cpu")
    console.tell_checkpoint(loaded, named=model is not None)
    began = time.perf_counter()
    exported = exporter.to_onnx(loaded.network, loaded.fingerprint)
    console.detail(f"exported in {time.perf_counter() - began:.1f} s")
    checked = exporter.check_exported(exported, loaded.network, _pictures(console, sources))
    with locked_folder(folder):
        exporter.write_exported(folder, exported, checked)
    size = (len(exported.encoder) + len(exported.decoder)) / 1e6
    console.say(f"encoder and decoder exported to {output}, {size:.1f} MB, in {time.perf_counter() - began:.1f} s")
    console.say(_compared(checked))
    if as_json:
        write_json({"output": output, **exported.about, "checked": asdict(checked)})


def _pictures(console: Console, sources: Sequence[Source]) -> Iterator[Pixels]:
    for source in console.track(sources, len(sources)) if sources else ():
        try:
            yield read_image(source.file)
        except ImageError as error:
            raise ImageError(f"{printable(source.name)}: {error}") from error


def _compared(checked: ExportCheck) -> str:
    ties = f" ({checked.near_ties / checked.tokens:.1g} of all), each a near tie" if checked.near_ties else ""
    return (
        f"compared on {checked.images} images: {checked.near_ties} of {checked.tokens} tokens differ{ties}; "
        f"{checked.off_by_one} of {checked.values} pixel values differ by 1 of 255, none by more"
    )
