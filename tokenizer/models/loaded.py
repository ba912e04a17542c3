"""A checkpoint on its device, the one that made some tokens, and whether tokens fit it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizer.errors import TokenFileError, UsageError
from tokenizer.models.checkpoint import describe_checkpoint, fingerprint_of, load_checkpoint
from tokenizer.models.shipped import locate_checkpoint, shipped_folder, shipped_names

if TYPE_CHECKING:
    import torch

    from tokenizer.models.tokenizer import Tokenizer
    from tokenizer.tokens import TokenSet


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint on its device.

    Attributes:
        network: the tokenizer.
        fingerprint: of its weights, see `fingerprint_of`.
        reads: fingerprints of the checkpoints whose tokens it decodes too.
        device: where it is.
        folder: of the checkpoint.
    """

    network: Tokenizer
    fingerprint: str
    reads: tuple[str, ...]
    device: torch.device
    folder: Path

    def __str__(self) -> str:
        """Return which one it is, and where."""
        return f"checkpoint {self.fingerprint[:12]} from {self.folder}, on {self.device}"

    def check(self, name: str, tokens: TokenSet, *, allow_mismatch: bool = False) -> None:
        """Refuse tokens that this checkpoint cannot decode.

        An array without a header names no checkpoint; its codes per position and their range are checked all the same.

        Args:
            name: of the file, which the message begins with.
            tokens: what it holds.
            allow_mismatch: take the tokens of another checkpoint too, where codes and pixels per position are alike.

        Raises:
            TokenFileError: another checkpoint made them, or codes or pixels per position or their range differ.
        """
        try:
            self._check(tokens, allow_mismatch=allow_mismatch)
        except TokenFileError as error:
            raise TokenFileError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from error

    def _check(self, tokens: TokenSet, *, allow_mismatch: bool) -> None:
        made_by, downsample = tokens.header.model, self.network.downsample
        if made_by is not None and made_by not in (self.fingerprint, *self.reads) and not allow_mismatch:
            raise TokenFileError(
                f"it was made by the checkpoint {made_by[:12]}, this one is {self.fingerprint[:12]}: pass the model "
                "that made it, or --allow-mismatch"
            )
        if tokens.header.downsample not in (None, downsample):
            raise TokenFileError(
                f"its tokens stand for {tokens.header.downsample} pixels along each side, the model's for "
                f"{downsample}: pass the model that made it"
            )
        tokens.check_range(self.network.codebook_sizes)


def load_model(model: str | os.PathLike[str] | LoadedModel | None = None, device: str = "auto") -> LoadedModel:
    """Load a checkpoint onto a device; one that is loaded comes back as it is.

    Args:
        model: folder of a checkpoint, the name of one that ships, or None for the default that ships.
        device: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        CheckpointError: it is missing, damaged, or does not fit.
        UsageError: no checkpoint is named and none ships, or `device` is no device.
        DeviceError: the device is absent.
    """
    if isinstance(model, LoadedModel):
        return model
    from tokenizer.runtime import choose_device

    folder, target = locate_checkpoint(model), choose_device(device)
    network = load_checkpoint(folder).to(target)
    return LoadedModel(network, fingerprint_of(folder), describe_checkpoint(folder).reads, target, folder)


def find_maker(fingerprint: str | None, name: str) -> Path:
    """Return the folder of the shipped checkpoint that made tokens.

    Args:
        fingerprint: of the checkpoint that made them; where nothing says it, the default that ships is taken.
        name: of their file, for the message.

    Raises:
        UsageError: none of them did.
    """
    if not fingerprint:
        return locate_checkpoint(None)
    for folder in (shipped_folder() / own for own in shipped_names()):
        if is_maker(folder, fingerprint):
            return folder
    raise UsageError(
        f"{name} was made by checkpoint {fingerprint[:12]}, which does not ship with vqtok: pass -m RUN, the folder "
        "that vqtok train wrote"
    )


def is_maker(folder: Path, fingerprint: str) -> bool:
    """Return whether a checkpoint made the tokens that name this fingerprint, or decodes them as the one that did.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    return fingerprint in (fingerprint_of(folder), *describe_checkpoint(folder).reads)
