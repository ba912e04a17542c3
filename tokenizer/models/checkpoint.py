"""Checkpoints: folders with `config.json` and `model.safetensors`, complete for every command but `--resume`."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizer._version import __version__
from tokenizer.config import RENAMED, NetworkConfig, parse_settings, to_dict
from tokenizer.errors import CheckpointError, ConfigError
from tokenizer.models.shipped import shipped_names

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tokenizer.models.tokenizer import Tokenizer

FORMAT = "vqtok-checkpoint"
VERSION = 2
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_QUANTIZER = "quantizer."
_LONGEST_REASON = 300


@dataclass(frozen=True)
class CheckpointDescription:
    """What a checkpoint says of itself, read without torch.

    Attributes:
        network: the encoder's and decoder's shape.
        quantizer: name and options.
        codebook_sizes: alphabet size of each of the C codes per position.
        downsample: pixels per position along each side: the network's, times the quantizer's block.
        training: what made it: data, steps, seconds, figures on the validation images.
        reads: fingerprints of the checkpoints that it was tuned from and whose tokens mean the same to it.
        vqtok: the version that wrote it.
    """

    network: NetworkConfig
    quantizer: Mapping[str, Any]
    codebook_sizes: tuple[int, ...]
    downsample: int
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reads: tuple[str, ...] = ()
    vqtok: str = __version__

    def faults(self, unread: frozenset[str] = frozenset()) -> list[str]:
        """Return what is wrong with it, one line each; see `NetworkConfig.faults` for `unread`."""
        sizes = self.codebook_sizes
        found = self.network.faults(unread)
        if not sizes or min(sizes) < 1:
            found.append(f"codebook_sizes is {sizes[:9]}, expected one or more sizes of 1 or more")
        if self.downsample < 1:
            found.append(f"downsample is {self.downsample}, expected 1 or more")
        return found

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the tokens of one pixel, every token at the log2 of its alphabet."""
        return sum(math.log2(size) for size in self.codebook_sizes) / self.downsample**2


def describe_checkpoint(folder: Path) -> CheckpointDescription:
    """Read `config.json`.

    Raises:
        CheckpointError: the folder is no checkpoint, is damaged, or was written by a newer vqtok.
    """
    values = _read_config(folder)
    version = values.pop("version", None)
    if values.pop("format", None) != FORMAT or not isinstance(version, int):
        raise CheckpointError(f"{folder / CONFIG_FILE} is not that of a vqtok checkpoint")
    if version > VERSION:
        raise CheckpointError(f"{folder} has format version {version}, this vqtok reads {VERSION}: upgrade vqtok")
    try:
        return parse_settings(CheckpointDescription, _upgrade(values) if version == 1 else values)
    except (ConfigError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} is damaged: {_short(error)}") from error


def _upgrade(values: Any) -> Any:
    """Return what `config.json` of version 1, as vqtok 0.1 wrote it, holds, with the names of version 2."""
    if isinstance(values, dict):
        names = {**RENAMED, "held_out": "validation"}
        return {names.get(name, name): _upgrade(value) for name, value in values.items()}
    return [_upgrade(value) for value in values] if isinstance(values, list) else values


def _read_config(folder: Path) -> dict[str, Any]:
    if folder.is_file():
        raise CheckpointError(
            f"{folder} is a file, a checkpoint is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}; "
            "pickled weights (.pt, .pth, .ckpt) are never opened"
        )
    if not folder.exists():
        ships = f", or name one that ships: {', '.join(shipped_names())}" if shipped_names() else ""
        raise CheckpointError(f"there is no checkpoint {folder}: train one with vqtok train{ships}")
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is not a checkpoint: it has no {name}")
    try:
        values = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {folder / CONFIG_FILE}: {error}") from error
    return values if isinstance(values, dict) else {}


def fingerprint_of(folder: Path) -> str:
    """Return the SHA-256 of the checkpoint's weights: names, types, shapes and values, whatever their order on disk.

    Raises:
        CheckpointError: the weights cannot be read.
    """
    import safetensors

    from tokenizer.files import read_safetensors_header

    path = folder / WEIGHTS_FILE
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = read_safetensors_header(data, path)
            for name, entry in sorted(header.entries.items()):
                digest.update(f"{name}\0{entry.dtype}\0{list(entry.shape)}\0".encode())
                digest.update(data[header.length + entry.start : header.length + entry.end])
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {_short(error)}") from error
    return digest.hexdigest()


def save_checkpoint(folder: Path, model: Tokenizer, training: Mapping[str, Any], reads: Sequence[str] = ()) -> None:
    """Write `model` as the checkpoint in `folder`; `training` says what made it, `reads` whose tokens it decodes too.

    Code vectors that are computed from other parameters are written as a plain table.

    Raises:
        OutputError: it cannot be written.
    """
    import safetensors.torch
    import torch

    from tokenizer.files import write_bytes

    quantizer = copy.deepcopy(model.quantizer)
    quantizer.merge_()
    network = model.network
    description = CheckpointDescription(
        network, quantizer.spec, model.codebook_sizes, model.downsample, training, tuple(reads)
    )
    values = {"format": FORMAT, "version": VERSION, **to_dict(description)}
    weights = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(_QUANTIZER)}
    weights |= {_QUANTIZER + name: tensor for name, tensor in quantizer.state_dict().items()}
    # Copies: safetensors refuses shared memory, and a network of one's own may share weights.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()
    }
    write_bytes(folder / WEIGHTS_FILE, safetensors.torch.save(tensors))
    write_bytes(folder / CONFIG_FILE, (json.dumps(values, indent=2) + "\n").encode())


def load_checkpoint(folder: Path, *, encoder: nn.Module | None = None, decoder: nn.Module | None = None) -> Tokenizer:
    """Return the tokenizer of a checkpoint, on the CPU, in evaluation mode, in channels-last layout.

    A checkpoint whose network is not vqtok's takes modules like those that were trained as `encoder` and `decoder`;
    they become part of the tokenizer, and their weights the checkpoint's.

    Raises:
        CheckpointError: it is missing, damaged, does not fit, holds NaN, or was written by a newer vqtok.
    """
    import torch

    from tokenizer.files import read_tensors
    from tokenizer.models.tokenizer import Tokenizer

    description = describe_checkpoint(folder)
    try:
        weights, _ = read_tensors(folder / WEIGHTS_FILE)
    except Exception as error:  # of the library, of torch, of the system
        raise CheckpointError(f"cannot read {folder / WEIGHTS_FILE}: {_short(error)}") from error
    try:
        refuse_larger_model(
            description.quantizer, description.network, weights, own=encoder is None and decoder is None
        )
        model = Tokenizer(description.network, description.quantizer, encoder=encoder, decoder=decoder)
        _refuse_misfits(model.state_dict(), weights)
        model.load_state_dict(weights, strict=True)
    except (RuntimeError, TypeError, ValueError, ConfigError) as error:
        raise CheckpointError(_misfit(folder, str(error))) from error
    if model.codebook_sizes != description.codebook_sizes or model.downsample != description.downsample:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} names codebook sizes {description.codebook_sizes[:9]} and a downsample of "
            f"{description.downsample}, its quantizer has {model.codebook_sizes[:9]} and {model.downsample}"
        )
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise CheckpointError(f"the weights in {folder} hold NaN or infinity")
    return model.channels_last().eval().requires_grad_(False)


def refuse_larger_model(
    quantizer: Mapping[str, Any], network: NetworkConfig, tensors: Mapping[str, Tensor], *, own: bool
) -> None:
    """Raise ValueError where settings describe a larger model than tensors can fill, before memory is asked for.

    Args:
        quantizer: its spec.
        network: its shape.
        tensors: what a file holds.
        own: the encoder and the decoder are those of `network`.
    """
    from tokenizer.quantizers import min_parameters

    found = sum(tensor.numel() for tensor in tensors.values())
    least = min_parameters(quantizer, network.latent_dim)
    if least > found:
        raise ValueError(f"quantizer.*: {least} numbers or more are described, {found} are there")
    if own and least + network.min_parameters > found:
        raise ValueError(
            f"encoder.* and decoder.*: {network.min_parameters} numbers or more are described, {found} are there"
        )


def _refuse_misfits(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise ValueError, which names the first few, unless both hold tensors of the same names, shapes and types.

    Weights in half precision stand for float32.
    """
    import torch

    weights = {torch.float32, torch.float16, torch.bfloat16}
    faults = [f"{name} is missing" for name in wanted if name not in found]
    faults += [f"{name} is one too many" for name in found if name not in wanted]
    for name in wanted.keys() & found.keys():
        old, new = wanted[name], found[name]
        if old.shape != new.shape or not (old.dtype == new.dtype or {old.dtype, new.dtype} <= weights):
            faults.append(f"{name} is {_kind(new)}, expected {_kind(old)}")
    if faults:
        raise ValueError("; ".join(sorted(faults)[:9]))


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _short(error: BaseException | str) -> str:
    """Return what an error says, on one line of some length."""
    line = " ".join(str(error).split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."


def _misfit(folder: Path, reason: str) -> str:
    line = _short(reason)
    if "coder." not in line:
        return f"the weights in {folder} do not fit its {CONFIG_FILE}: {line}"
    return (
        f"the weights in {folder} do not fit its encoder and decoder; if it was trained from Python with others, pass "
        f"these to load_checkpoint: {line}"
    )
