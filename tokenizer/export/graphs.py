"""Encoder and decoder as ONNX graphs that run without vqtok and without torch.

`encoder.onnx` takes images, (batch, height, width, 3) uint8 RGB, sides multiples of the downsampling, and gives tokens,
(batch, h, w, C) int64; `decoder.onnx` takes these and gives images of the same kind.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.metadata
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tokenizer._version import __version__
from tokenizer.errors import InputError, OutputError
from tokenizer.files import canonical_json
from tokenizer.models import Tokenizer, to_pixels, to_unit_range

ENCODER_FILE, DECODER_FILE = "encoder.onnx", "decoder.onnx"
EXPORT_FORMAT, EXPORT_VERSION = "vqtok-onnx", 1
OPSET = 18
# The oldest files format with that opset: runtimes from 2023 on read it.
_IR_VERSION = 8
_LARGEST = 2**31 - 1
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """The bytes of both files, and what `vqtok.json` says of them."""

    encoder: bytes
    decoder: bytes
    about: Mapping[str, Any]


class _Encode(nn.Module):
    def __init__(self, model: Tokenizer) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.quantizer.encode(self.model.latents(to_unit_range(images)))


class _Decode(nn.Module):
    def __init__(self, model: Tokenizer) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return to_pixels(self.model.pictures(self.model.quantizer.decode(tokens)).clamp(-1, 1))


def require_packages() -> None:
    """Raise InputError when what exporting needs is not installed."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} not installed, which export needs: pip install 'vqtok[onnx]'")


def to_onnx(model: Tokenizer, fingerprint: str) -> Exported:
    """Return encoder and decoder as ONNX graphs in float32; batch, height and width are free.

    Args:
        model: stays as it is.
        fingerprint: of the checkpoint it comes from, written into both files.

    Raises:
        InputError: a package is missing.
        OutputError: the network or the quantizer does something that has no ONNX form, or is too large for one file.
    """
    require_packages()
    model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    model.quantizer.merge_()
    sizes = list(model.codebook_sizes)
    facts = {"model": fingerprint, "downsample": model.downsample, "codebook_sizes": sizes}
    # No side of these is 1: torch takes a 1 for a size that never changes.
    images = torch.zeros(2, 3 * model.downsample, 5 * model.downsample, 3, dtype=torch.uint8)
    tokens = torch.zeros(2, 3, 5, len(sizes), dtype=torch.int64)
    encoder = _graph(_Encode(model), ("images", "tokens"), images, model.downsample, facts)
    decoder = _graph(_Decode(model), ("tokens", "images"), tokens, 1, facts)
    return Exported(encoder, decoder, _about(facts, encoder, decoder))


def _about(facts: Mapping[str, Any], encoder: bytes, decoder: bytes) -> dict[str, Any]:
    layouts = {
        "images": {"shape": ["batch", "height", "width", 3], "type": "uint8", "values": "RGB, 0 to 255"},
        "tokens": {"shape": ["batch", "h", "w", len(facts["codebook_sizes"])], "type": "int64"},
    }
    return {
        "format": EXPORT_FORMAT,
        "version": EXPORT_VERSION,
        **facts,
        "opset": OPSET,
        "layouts": layouts,
        "encoder": {"file": ENCODER_FILE, "input": "images", "output": "tokens", "sha256": _digest(encoder)},
        "decoder": {"file": DECODER_FILE, "input": "tokens", "output": "images", "sha256": _digest(decoder)},
        "made_by": {"vqtok": __version__, "torch": torch.__version__, **_versions()},
    }


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _graph(
    module: nn.Module, names: tuple[str, str], example: Tensor, multiple: int, facts: Mapping[str, Any]
) -> bytes:
    """Return the ONNX file of a module from (batch, height, width, n) to the same, sides multiples of `multiple`."""
    batch, rows, columns = (torch.export.Dim(name, min=1) for name in ("batch", "rows", "columns"))
    sides = {1: multiple * rows, 2: multiple * columns} if multiple > 1 else {1: rows, 2: columns}
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(module, (example,), dynamic_shapes=({0: batch, **sides},), strict=False)
            made = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, input_names=names[:1], output_names=names[1:], verbose=False
            )
    except Exception as error:  # whatever a network of one's own meets in the tracer or the converter
        reason = str(error).strip().partition("\n")[0]
        raise OutputError(f"what turns {names[0]} into {names[1]} has no ONNX form: {reason}") from error
    proto = made.model_proto  # type: ignore[union-attr]  # None is for the exporter of old
    _tidy(proto, facts)
    if proto.ByteSize() > _LARGEST:
        raise OutputError(f"what turns {names[0]} into {names[1]} is over 2 GiB, which one ONNX file cannot hold")
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tracer and the converter, which warn of what is theirs and log whole programs."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def _tidy(proto: Any, facts: Mapping[str, Any]) -> None:
    """Take paths and names of this machine's code out of a graph, name its free sizes, and put `facts` in."""
    graph = proto.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    for value in (*graph.input, *graph.output):
        sides = ("height", "width") if value.name == "images" else ("h", "w")
        for size, name in zip(value.type.tensor_type.shape.dim, ("batch", *sides), strict=False):
            size.dim_param = name
    proto.ir_version = _IR_VERSION
    proto.ClearField("metadata_props")
    proto.metadata_props.add(key="vqtok", value=canonical_json(facts))
