"""What an encoding job is, whatever its output, and the loop that all outputs share."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizer import codec
from tokenizer.errors import ImageError, InputError
from tokenizer.files import Existing, remove_temporaries_of
from tokenizer.images import Source
from tokenizer.jobs.outcomes import OnError, Outcome
from tokenizer.models import Tokenizer
from tokenizer.tokens import (
    PARTIAL_SUFFIX,
    EncodedRow,
    Header,
    Journal,
    StackWriter,
    TarWriter,
    TokenSet,
    Writer,
    earlier_outcomes,
    sidecar_of,
)


@dataclass(frozen=True)
class EncodeJob:
    """How images become files of tokens.

    Attributes:
        model: the tokenizer, on its device.
        options: of the encoding.
        header: of the token files.
        file_format: npy, safetensors or tar.
        existing: what becomes of an output that is there: `resume` keeps what belongs to this job.
        on_error: `fail` stops at the first image that cannot be read, `skip` records it.
    """

    model: Tokenizer
    options: codec.EncodeOptions
    header: Header
    file_format: str
    existing: Existing = "refuse"
    on_error: OnError = "skip"

    @property
    def resumes(self) -> bool:
        """Whether it goes on with what is there."""
        return self.existing == "resume"

    @property
    def overwrites(self) -> bool:
        """Whether it replaces what is there."""
        return self.existing == "overwrite"

    def describe(self) -> dict[str, Any]:
        """Return what must be the same when a job goes on, as plain values."""
        return {**self.header.to_json(), "file": self.file_format}

    def writer(self, journal: Journal) -> Writer:
        """Return what makes one token file of rows."""
        if self.file_format == "tar":
            return TarWriter(journal, self.header)
        return StackWriter(journal, self.header, self.file_format)


def encoded_rows(job: EncodeJob, sources: Iterable[Source]) -> Iterator[EncodedRow]:
    """Yield what becomes of each source, in order.

    Raises:
        ImageError: one cannot be read, and the job is to fail then.
    """
    for result in codec.encode_images(job.model, sources, job.options):
        if isinstance(result, codec.Encoded):
            yield EncodedRow(result.record, result.grid, result.source.carried, result.has_more)
            continue
        if job.on_error == "fail":
            raise ImageError(f"{result.failure.name}: {result.failure.reason}")
        yield EncodedRow(result.failure)


def fill_writer(job: EncodeJob, writer: Writer, sources: Iterable[Source]) -> Generator[Outcome]:
    """Encode sources into a writer, after those that are there, and yield what became of each.

    Raises:
        InputError: those that are there are not the first of the sources.
        ImageError: one cannot be read, and the job is to fail then.
    """
    rest = iter(sources)
    for number, (name, reason) in enumerate(earlier_outcomes(writer.journal)):
        refuse_other_input(number, name, next(rest, None))
        yield Outcome(name, reason, kept=True)
    for row in encoded_rows(job, rest):
        writer.add(row)
        yield outcome_of(row)


def outcome_of(row: EncodedRow) -> Outcome:
    """Return what became of the input of a row."""
    return Outcome(row.record.name, getattr(row.record, "reason", None), has_more=row.has_more)


def refuse_other_input(number: int, name: str, source: Source | None) -> None:
    """Raise InputError unless the source that comes `number`-th (from 0) has the name that it had."""
    if source is None or source.name != name:
        now = "missing" if source is None else source.name
        raise InputError(
            f"cannot resume: input {number + 1} was {name}, now it is {now}: pass --overwrite to start anew"
        )


def finished_outcomes(tokens: TokenSet, sources: Iterable[Source], path: Path) -> Generator[Outcome]:
    """Yield the outcomes of a file that is whole, whose inputs must be these sources.

    Raises:
        InputError: they are not.
    """
    done = {record.name for record in tokens.images}
    failed = {failure.name: failure.reason for failure in tokens.failed}
    count = 0
    for source in sources:
        if source.name not in done and source.name not in failed:
            raise InputError(f"{path} was made without {source.name}: pass --overwrite to start anew")
        count += 1
        yield Outcome(source.name, failed.get(source.name), kept=True)
    if count < len(tokens.images) + len(tokens.failed):
        raise InputError(f"{path} was made of more images than there are now: pass --overwrite to start anew")


@contextlib.contextmanager
def growing(job: EncodeJob, path: Path) -> Iterator[Journal]:
    """Keep other processes from a token file, and yield the journal that it grows in; what killed ones left goes.

    Raises:
        OutputError: another process is writing the file, what is there is not to be touched, or it cannot be written.
        InputError: what is to be resumed belongs to another job.
    """
    with Journal(partial_of(path), job.describe(), resume=job.resumes, overwrite=job.overwrites) as journal:
        for file in (path, sidecar_of(path)):
            remove_temporaries_of(file)
        yield journal


def partial_of(path: Path) -> Path:
    """Return where the rows on their way to a token file grow."""
    return path.with_name(path.name + PARTIAL_SUFFIX)
