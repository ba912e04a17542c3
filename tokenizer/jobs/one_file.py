"""All tokens in one file, or one stream; several processes each make a part, and the last one joins them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizer.errors import OutputError, UsageError
from tokenizer.files import Lock, refuse_existing
from tokenizer.images import Source
from tokenizer.jobs.encode_job import EncodeJob, fill_writer, finished_outcomes, growing, partial_of
from tokenizer.jobs.outcomes import Outcome
from tokenizer.tokens import (
    PARTIAL_SUFFIX,
    Journal,
    StackWriter,
    is_finished,
    read_tokens,
    refuse_another_job,
    sidecar_of,
)


def encode_to_file(
    job: EncodeJob, sources: Iterable[Source], path: Path, share: tuple[int, int] = (0, 1)
) -> Generator[Outcome]:
    """Encode sources into one token file, and yield what became of each.

    With `share` (i, n), only the i-th (from 0) of n runs of sources of about equal length is encoded; the process that
    finishes last joins what all of them made. Where no image can be read, nothing is written.

    Raises:
        UsageError: the images have several grids and the format is npy; or a share of a stream or a tar is asked for.
        OutputError: the output is there, or another process is writing it, or it cannot be written.
        InputError: what is to be resumed belongs to another job.
        ImageError: an image cannot be read, and the job is to fail then.
    """
    _refuse_existing(job, path)
    if job.resumes and path.exists() and not partial_of(path).exists():
        tokens = read_tokens(path)
        refuse_another_job(tokens.header.to_json(), job.header.to_json(), path)
        yield from finished_outcomes(tokens, sources, path)
        shutil.rmtree(_parts_of(path), ignore_errors=True)  # of a process that was killed once it had joined them
    elif share[1] == 1:
        yield from _alone(job, sources, path)
    else:
        if not isinstance(sources, Sequence) or job.file_format == "tar":
            raise UsageError("sharing the work on one file needs files or folders, not archives: pass --shard-size")
        yield from _part(job, sources, path, *share)


def is_unfinished(path: Path) -> bool:
    """Return whether something on its way to a token file was left, by this process or another."""
    return partial_of(path).exists() or _parts_of(path).exists()


def _parts_of(path: Path) -> Path:
    return path.with_name(path.name + ".parts")


def _refuse_existing(job: EncodeJob, path: Path) -> None:
    for file in (path, sidecar_of(path)):
        refuse_existing(file, overwrite=job.existing != "refuse")


def _alone(job: EncodeJob, sources: Iterable[Source], path: Path) -> Generator[Outcome]:
    with growing(job, path) as journal:
        writer = job.writer(journal)
        try:
            yield from fill_writer(job, writer, sources)
        except UsageError:  # no other run with these options would end better
            journal.discard()
            raise
        journal.commit()
        if writer.images:
            writer.write(path)
        journal.discard()


def encode_to_stream(job: EncodeJob, sources: Iterable[Source], write: Callable[[bytes], Any]) -> Generator[Outcome]:
    """Encode sources, yield what became of each, and then `write` one token file, if there is an image in it."""
    with tempfile.TemporaryDirectory(prefix="vqtok-") as folder, Journal(Path(folder, "stream"), {}) as journal:
        writer = job.writer(journal)
        yield from fill_writer(job, writer, sources)
        journal.commit()
        for piece in writer.pieces() if writer.images else ():
            write(piece)
        journal.discard()


def _part(job: EncodeJob, sources: Sequence[Source], path: Path, part: int, parts: int) -> Generator[Outcome]:
    folder = _parts_of(path)
    first, last = part * len(sources) // parts, (part + 1) * len(sources) // parts
    described = {**job.describe(), "parts": parts, "inputs": len(sources)}
    mine = _part_folder(folder, part)
    with Journal(mine, described, resume=job.resumes, overwrite=job.overwrites) as journal:
        yield from fill_writer(job, job.writer(journal), sources[first:last])
        journal.finish()
    _join(job, described, folder, parts, path)


def _part_folder(folder: Path, part: int) -> Path:
    return folder / f"{part + 1}{PARTIAL_SUFFIX}"


def _join(job: EncodeJob, described: dict[str, Any], folder: Path, parts: int, path: Path) -> None:
    """Make the file, if all parts are there: each process looks once it is done, so that the last one finds them."""
    try:
        lock = Lock(folder / "lock", wait=True)
    except OutputError:
        if folder.exists():
            raise
        return  # another process was faster
    try:
        if all(is_finished(_part_folder(folder, part)) for part in range(parts)):
            _write_joined(job, described, [_part_folder(folder, part) for part in range(parts)], path)
            shutil.rmtree(folder)
    finally:
        lock.release()


def _write_joined(job: EncodeJob, described: dict[str, Any], parts: Sequence[Path], path: Path) -> None:
    with Journal(partial_of(path), {}, overwrite=True) as journal:
        whole = StackWriter(journal, job.header, job.file_format)
        for part in parts:
            with Journal(part, described, resume=True, wait=True) as finished:
                whole.add_part(StackWriter(finished, job.header, job.file_format))
        journal.commit()
        if whole.images:
            whole.write(path)
        journal.discard()
