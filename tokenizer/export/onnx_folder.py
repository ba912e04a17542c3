"""A checkpoint exported into a folder: `encoder.onnx`, `decoder.onnx`, and what they are in `vqtok.json`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizer.errors import ImageError
from tokenizer.export.graphs import DECODER_FILE, ENCODER_FILE, Exported, require_packages, to_onnx
from tokenizer.export.proof import ExportCheck, check_exported
from tokenizer.files import Existing, check_output, locked_folder, write_bytes
from tokenizer.images import Pixels, Source, read_image
from tokenizer.inputs import find_images
from tokenizer.models import LoadedModel, load_model
from tokenizer.runtime import Track, untracked

ABOUT_FILE = "vqtok.json"


@dataclass(frozen=True)
class ExportResult:
    """What was exported, and how it compares.

    Attributes:
        about: what `vqtok.json` says, the comparison included.
        checked: the comparison with the checkpoint.
        model: the checkpoint.
        size: bytes of encoder and decoder.
        export_seconds: time that making the graphs took.
        seconds: time that everything took after the checkpoint was loaded.
    """

    about: Mapping[str, Any]
    checked: ExportCheck
    model: LoadedModel
    size: int
    export_seconds: float
    seconds: float


def export_onnx(
    folder: str | os.PathLike[str],
    model: str | os.PathLike[str] | LoadedModel | None = None,
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    *,
    existing: Existing = "refuse",
    track: Track = untracked,
) -> ExportResult:
    """Export a checkpoint into a folder, once onnxruntime has given what the checkpoint itself gives.

    Args:
        folder: where to.
        model: folder of a checkpoint, the name of one that ships, or None for the default; a loaded one on the CPU.
        images: a file or a folder of images to compare on too, besides drawn ones; or several.
        existing: what becomes of a folder that is there; `overwrite` replaces the files of an earlier export.
        track: what the images pass through.

    Raises:
        InputError: a package is missing, or an image cannot be read.
        CheckpointError: the checkpoint is missing or damaged.
        OutputError: the folder is in the way, is being written, or cannot be written; the network has no ONNX form, or
            the exported graphs differ from it.
    """
    folder = Path(folder)
    check_output(folder, folder=True, existing=existing)
    sources = find_images(images) if images else []
    require_packages()
    loaded = load_model(model, "cpu")
    began = time.perf_counter()
    exported = to_onnx(loaded.network, loaded.fingerprint)
    export_seconds = time.perf_counter() - began
    pictures = _read_all(track(sources, len(sources)) if sources else ())
    checked = check_exported(exported, loaded.network, pictures)
    with locked_folder(folder):
        about = write_exported(folder, exported, checked)
    size = len(exported.encoder) + len(exported.decoder)
    return ExportResult(about, checked, loaded, size, export_seconds, time.perf_counter() - began)


def _read_all(sources: Iterable[Source]) -> Iterator[Pixels]:
    for source in sources:
        try:
            yield read_image(source.file)
        except ImageError as error:
            raise ImageError(f"{source.name}: {error}") from error


def write_exported(folder: Path, exported: Exported, checked: ExportCheck) -> dict[str, Any]:
    """Write `encoder.onnx`, `decoder.onnx`, and last `vqtok.json`: where that one lies, the others are whole.

    Returns:
        What `vqtok.json` says.

    Raises:
        OutputError: they cannot be written.
    """
    (folder / ABOUT_FILE).unlink(missing_ok=True)
    write_bytes(folder / ENCODER_FILE, exported.encoder)
    write_bytes(folder / DECODER_FILE, exported.decoder)
    about = {**exported.about, "checked": asdict(checked)}
    write_bytes(folder / ABOUT_FILE, (json.dumps(about, indent=2) + "\n").encode())
    return about
