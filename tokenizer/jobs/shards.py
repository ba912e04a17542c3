"""Token files of a number of images each, in one folder, with an index: what many processes can write together."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizer.errors import InputError
from tokenizer.files import canonical_json, locked_folder, refuse_existing, write_bytes
from tokenizer.images import Source
from tokenizer.jobs.encode_job import EncodeJob, fill_writer, finished_outcomes, growing, partial_of
from tokenizer.jobs.outcomes import Outcome
from tokenizer.tokens import (
    DONE_SUFFIX,
    INDEX_FILE,
    INDEX_FORMAT,
    INDEX_VERSION,
    crc32_of,
    read_tokens,
    refuse_another_job,
)

_COUNTS = ("images", "failed", "bytes", "crc32")


@dataclass(frozen=True)
class Piece:
    """The inputs of one shard.

    Attributes:
        name: of the shard, without suffix.
        sources: a sequence; or what reads an archive, which is not read where the shard is there.
        from_stream: they come from a stream that the next piece comes from too, and must be read.
    """

    name: str
    sources: Iterable[Source]
    from_stream: bool = False


def shard_pieces(sources: Iterable[Source], size: int) -> Iterator[Piece]:
    """Yield pieces of `size` sources, called `shard-000000` and so on; a stream's must be taken one after the other."""
    if isinstance(sources, Sequence):
        for number, start in enumerate(range(0, len(sources), size)):
            yield Piece(f"shard-{number:06d}", sources[start : start + size])
        return
    rest = iter(sources)
    for number in itertools.count():
        first = next(rest, None)
        if first is None:
            return
        yield Piece(f"shard-{number:06d}", itertools.chain([first], itertools.islice(rest, size - 1)), True)


def encode_to_shards(
    job: EncodeJob, pieces: Iterable[Piece], folder: Path, share: tuple[int, int] = (0, 1)
) -> Generator[Outcome]:
    """Encode pieces into a token file each, and yield what became of each source.

    With `share` (i, n), only every n-th piece from the i-th (from 0) on. A shard that is whole has a mark beside it,
    `NAME.done`, with its size and checksum. Once all shards of all
    processes are whole, `index.json` names them in order.

    Raises:
        OutputError: the output is there, or another process is writing it, or it cannot be written.
        InputError: what is to be resumed, or what another process made, belongs to another job.
        ImageError: an image cannot be read, and the job is to fail then.
    """
    part, parts = share
    if parts == 1:
        refuse_existing(folder, overwrite=job.existing != "refuse")
    names: list[str] = []
    with locked_folder(folder, share):
        for number, piece in enumerate(pieces):
            names.append(piece.name)
            if number % parts == part:
                yield from _shard(job, piece, folder)
            elif piece.from_stream:
                deque(piece.sources, maxlen=0)
        _write_index(job, names, folder)


def _shard(job: EncodeJob, piece: Piece, folder: Path) -> Generator[Outcome]:
    path, mark = folder / f"{piece.name}.{job.file_format}", _mark(folder, piece.name)
    if job.resumes and not partial_of(path).exists() and _is_whole(job, mark, path):
        yield from _kept(piece, path)
        return
    if not job.resumes:
        refuse_existing(path, overwrite=job.overwrites)
    for file in (mark, folder / INDEX_FILE):
        file.unlink(missing_ok=True)
    with growing(job, path) as journal:
        writer = job.writer(journal)
        yield from fill_writer(job, writer, piece.sources)
        journal.commit()
        writer.write(path)
        entry = {"name": path.name, "images": writer.images, "failed": writer.failed}
        entry |= {"bytes": path.stat().st_size, "crc32": crc32_of(path)}
        write_bytes(mark, canonical_json({**entry, "job": job.describe()}).encode())
        journal.discard()


def _mark(folder: Path, name: str) -> Path:
    return folder / (name + DONE_SUFFIX)


def _is_whole(job: EncodeJob, mark: Path, path: Path) -> bool:
    """Return whether a shard of this job is there as it was written."""
    try:
        done = _read_mark(mark)
        whole = path.stat().st_size == done["bytes"] and crc32_of(path) == done["crc32"]
    except (OSError, InputError):
        return False
    refuse_another_job(done["job"], job.describe(), path)
    return whole


def _read_mark(mark: Path) -> dict[str, Any]:
    """Return what a mark says; OSError where there is none, InputError where it is damaged."""
    try:
        values = json.loads(mark.read_bytes())
        counts = {key: int(values[key]) for key in _COUNTS}
        return {"name": str(values["name"]), **counts, "job": dict(values["job"])}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{mark} is damaged: delete it, and pass --resume") from error


def _kept(piece: Piece, path: Path) -> Generator[Outcome]:
    tokens = read_tokens(path)
    if isinstance(piece.sources, Sequence) or piece.from_stream:
        yield from finished_outcomes(tokens, piece.sources, path)
        return
    yield from (Outcome(record.name, kept=True) for record in tokens.images)
    yield from (Outcome(failure.name, failure.reason, kept=True) for failure in tokens.failed)


def _write_index(job: EncodeJob, names: Sequence[str], folder: Path) -> None:
    """Name all shards in order, once all of them are whole."""
    marks = [_mark(folder, name) for name in names]
    if not marks or not all(mark.exists() for mark in marks):
        return
    shards = []
    for mark in marks:
        done = _read_mark(mark)
        refuse_another_job(_common(done.pop("job")), _common(job.describe()), mark)
        shards.append(done)
    totals = {key: sum(shard[key] for shard in shards) for key in ("images", "failed")}
    values = {"format": INDEX_FORMAT, "version": INDEX_VERSION, "shards": shards, **totals}
    write_bytes(folder / INDEX_FILE, json.dumps(values, indent=1).encode() + b"\n")


def _common(job: dict[str, Any]) -> dict[str, Any]:
    """Return what processes on several machines must agree in."""
    return {key: value for key, value in job.items() if key != "made_by"}
