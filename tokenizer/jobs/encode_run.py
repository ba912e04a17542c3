"""Images to token files, as one call: what the name of the output makes of them, with resuming and shares."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizer import codec, runtime
from tokenizer.errors import InputError, UsageError
from tokenizer.files import Existing, check_output, is_folder, refuse_existing
from tokenizer.inputs import Inputs, NamedInputs
from tokenizer.jobs.encode_job import EncodeJob
from tokenizer.jobs.job_run import JobRun
from tokenizer.jobs.one_file import encode_to_file, encode_to_stream
from tokenizer.jobs.outcomes import OnError, Outcome, Output, Totals
from tokenizer.jobs.shards import Piece, encode_to_shards, shard_pieces
from tokenizer.jobs.tree import encode_to_tree
from tokenizer.models import LoadedModel, load_model, locate_checkpoint
from tokenizer.tokens import TOKEN_FORMATS, sidecar_of


def encode(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | NamedInputs | Inputs,
    output: Output,
    model: str | os.PathLike[str] | LoadedModel | None = None,
    options: codec.EncodeOptions | None = None,
    *,
    device: str = "auto",
    token_format: str | None = None,
    shard_size: int | None = None,
    existing: Existing = "refuse",
    share: tuple[int, int] = (0, 1),
    on_error: OnError = "skip",
) -> JobRun:
    """Turn images into token files.

        for outcome in encode("photos/", "tokens.safetensors", "photo-f8"):
            print(outcome.name, outcome.reason or "done")

    What is asked for is checked here, and the checkpoint loaded; iterating does the work.

    Args:
        inputs: file, folder, tar archive or URL of images, or several; names with a list or a stream; or `Inputs`.
        output: of files and folders, the name says what is made: `FILE.npy`, `FILE.safetensors` or `FILE.tar` holds
            all tokens; a folder (its name ends with a slash, or has no suffix) one file an image, one file an archive
            where all inputs are archives, or with `shard_size` one file for so many images. A function is called with
            the bytes of one token file.
        model: a checkpoint's folder, the name of one that ships, a loaded model, or None for the default that ships.
        options: how images become tokens.
        device: of a checkpoint that is not loaded: auto, cpu, cuda, cuda:1 or mps.
        token_format: npy, safetensors or tar, of files in a folder and of a stream; safetensors unless said.
        shard_size: images of each file in a folder.
        existing: what becomes of an output that is there; `resume` keeps what an earlier call finished.
        share: (i, n): the i-th (from 0) of n parts of the work, which n processes do together.
        on_error: `skip` records an image that cannot be read, `fail` raises ImageError at the first.

    Returns:
        What does the work when it is iterated, and yields what became of each image. In the end it raises InputError
        where no image could be encoded.

    Raises:
        UsageError: arguments contradict each other, or the inputs do not fit the output.
        OutputError: the output is there, or cannot be written.
        InputError: an input is missing, there are no images, or the checkpoint is damaged.
        DeviceError: the device is absent.
    """
    target = _target(output, token_format, shard_size)
    target.refuse_loss(existing, share)
    options = options or codec.EncodeOptions()
    if model is None:
        locate_checkpoint(model)
    found = _gathered(inputs)
    if target.path and target.in_folder and found.count is None and shard_size is None and not found.archives:
        raise UsageError("archives beside images do not make a tree: pass --shard-size, or encode them apart")
    loaded = load_model(model, device)
    options = replace(options, precision=runtime.choose_precision(options.precision, loaded.device))
    header = codec.token_header(loaded.network, loaded.fingerprint, options)
    job = EncodeJob(loaded.network, options, header, target.token_format, existing, on_error)
    outcomes = _refusing_nothing(_outcomes(job, found, target, share), share)
    return JobRun(outcomes, loaded, found.count if share[1] == 1 else None, target.path)


@dataclass(frozen=True)
class _Target:
    """Where tokens go.

    Attributes:
        output: a path, or what takes the bytes of a stream.
        in_folder: the path is that of a folder.
        token_format: of the files.
        shard_size: images of each file in the folder.
    """

    output: Output
    in_folder: bool
    token_format: str
    shard_size: int | None

    @property
    def path(self) -> Path | None:
        """Of the file or the folder; None of a stream."""
        return None if callable(self.output) else Path(self.output)

    def refuse_loss(self, existing: Existing, share: tuple[int, int]) -> None:
        """Look before any work whether the output can be written; what other processes began is looked at later.

        Raises:
            UsageError: a stream cannot be resumed or shared.
            OutputError: something would be lost, or cannot be written.
        """
        if self.path is None:
            if existing == "resume" or share[1] > 1:
                raise UsageError("-o - cannot be combined with --resume or --shard: name a file for the tokens")
            return
        kept = existing if share[1] == 1 else "resume"
        check_output(self.path, folder=self.in_folder, existing=kept)
        if not self.in_folder:
            refuse_existing(sidecar_of(self.path), overwrite=kept != "refuse")


def _target(output: Output, wanted: str | None, shard_size: int | None) -> _Target:
    if callable(output):
        if shard_size is not None:
            raise UsageError("--shard-size makes several files, - is one: name a folder")
        return _Target(output, in_folder=False, token_format=wanted or "safetensors", shard_size=None)
    name = os.fspath(output)
    if not name:
        raise UsageError("no output: pass -o FILE.safetensors, -o FILE.npy, -o FILE.tar, -o FOLDER/ or -o -")
    if is_folder(name):
        return _Target(name, in_folder=True, token_format=wanted or "safetensors", shard_size=shard_size)
    if shard_size is not None:
        raise UsageError(f"--shard-size makes several files, {name} is one: name a folder")
    suffix = Path(name).suffix
    if suffix[1:] not in TOKEN_FORMATS:
        suffixes = ", ".join(f".{known}" for known in TOKEN_FORMATS)
        raise UsageError(f"{name} has the suffix {suffix}: use one of {suffixes}, or end a folder with /")
    if wanted not in (None, suffix[1:]):
        raise UsageError(f"{name} and --format {wanted} contradict each other")
    return _Target(name, in_folder=False, token_format=suffix[1:], shard_size=None)


def _gathered(inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | NamedInputs | Inputs) -> Inputs:
    if isinstance(inputs, Inputs):
        return inputs
    return inputs.gather() if isinstance(inputs, NamedInputs) else NamedInputs(inputs).gather()


def _outcomes(job: EncodeJob, found: Inputs, target: _Target, share: tuple[int, int]) -> Generator[Outcome]:
    """Return the work, which begins when the first outcome is asked for."""
    if callable(target.output):
        return encode_to_stream(job, found.sources, target.output)
    path = Path(target.output)
    if not target.in_folder:
        return encode_to_file(job, found.sources, path, share)
    if target.shard_size is not None:
        return encode_to_shards(job, shard_pieces(found.sources, target.shard_size), path, share)
    if found.archives:
        pieces = [Piece(archive.name, archive.sources()) for archive in found.archives]
        return encode_to_shards(job, pieces, path, share)
    return encode_to_tree(job, found.sources, path, share)


def _refusing_nothing(outcomes: Generator[Outcome], share: tuple[int, int]) -> Generator[Outcome]:
    """Yield outcomes, and raise InputError in the end where no image was encoded.

    A part without an image is none where it had no inputs, nor under torchrun, which would stop the other processes.
    """
    totals = Totals()
    with contextlib.closing(outcomes):
        for outcome in outcomes:
            totals.add(outcome)
            yield outcome
    if not totals.images and (share[1] == 1 or (totals.failed and not runtime.launch().under_torchrun)):
        first = f", the first failed with: {totals.failures[0].reason}" if totals.failures else ""
        raise InputError(f"0 of {totals.failed} images encoded{first}")
