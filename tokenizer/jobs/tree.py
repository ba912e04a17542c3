"""One token file an image, in the tree of the images, and one manifest of them all."""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tokenizer.errors import InputError, OutputError, UsageError
from tokenizer.files import locked_folder, path_beneath, refuse_existing, replacing, safe_name
from tokenizer.images import Source
from tokenizer.jobs.encode_job import EncodeJob, encoded_rows, outcome_of
from tokenizer.jobs.outcomes import Outcome
from tokenizer.tokens import (
    MANIFEST_FILE,
    EncodedRow,
    ImageRecord,
    TokenSet,
    header_line,
    manifest_line,
    read_tokens,
    refuse_another_job,
    write_tokens,
)

_LOOKED_AT_ONCE = 4096


def encode_to_tree(
    job: EncodeJob, sources: Iterable[Source], folder: Path, share: tuple[int, int] = (0, 1)
) -> Generator[Outcome]:
    """Encode each source into a file of its own, `NAME.npy` or `NAME.safetensors`, and yield what became of each.

    With `share` (i, n), only every n-th source from the i-th (from 0) on. To go on, files are read: one that is
    missing, damaged or of another image is made again. `manifest.jsonl` (`manifest-2-of-4.jsonl` of a share) is written
    at the end: the header in the first line, then a row for each input, in order.

    Raises:
        OutputError: the output is there, or another process is writing it, or it cannot be written.
        InputError: what is to be resumed belongs to another job.
        ImageError: an image cannot be read, and the job is to fail then.
    """
    if job.file_format == "tar":
        raise UsageError("a tar holds many images: pass --shard-size, or name a file that ends with .tar")
    part, parts = share
    if parts == 1:
        refuse_existing(folder, overwrite=job.existing != "refuse")
    mine = (source for number, source in enumerate(sources) if number % parts == part)
    names = _Names(fresh=parts == 1 and job.existing == "refuse")
    with locked_folder(folder, share) as label, tempfile.TemporaryFile(prefix="vqtok-") as manifest:
        images = 0
        for row, kept in _rows(job, mine, folder):
            if isinstance(row.record, ImageRecord):
                path = names.add(_path(job, row.record.name, folder), kept=kept)
                if row.grid is not None:
                    write_tokens(path, TokenSet(job.header, (row.record,), (row.grid,)))
            images += isinstance(row.record, ImageRecord)
            manifest.write(manifest_line(0, row.record))
            yield replace(outcome_of(row), kept=kept)
        if images:
            manifest.seek(0)
            with replacing(folder / MANIFEST_FILE.replace(".", f"{label}.")) as file:
                file.write(header_line(job.header))
                file.writelines(manifest)


class _Names:
    """The files of a tree: two images of one name would be one file.

    Args:
        fresh: whether the tree was empty.
    """

    def __init__(self, *, fresh: bool) -> None:
        self._fresh = fresh
        self._seen: set[bytes] = set()  # digests: 8 bytes of names of any length

    def add(self, path: Path, *, kept: bool) -> Path:
        """Return the path of one more file, which is there if it is `kept`; OutputError where another one has it."""
        digest = hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
        if digest in self._seen or (self._fresh and not kept and path.exists()):
            raise OutputError(f"two images would be {path}: name one token file, or pass --shard-size")
        self._seen.add(digest)
        return path


def _rows(job: EncodeJob, sources: Iterator[Source], folder: Path) -> Iterator[tuple[EncodedRow, bool]]:
    """Yield a row for each source, and whether its file was there."""
    if not job.resumes:
        yield from ((row, False) for row in encoded_rows(job, sources))
        return
    while group := list(itertools.islice(sources, _LOOKED_AT_ONCE)):
        there = {source.name: _record_of(job, source, folder) for source in group}
        made = encoded_rows(job, [source for source in group if there[source.name] is None])
        for source in group:
            record = there[source.name]
            yield (EncodedRow(record), True) if record else (next(made), False)


def _path(job: EncodeJob, name: str, folder: Path) -> Path:
    return path_beneath(folder, f"{safe_name(name)}.{job.file_format}")


def _record_of(job: EncodeJob, source: Source, folder: Path) -> ImageRecord | None:
    """Return the record of the file that is there for a source, or None where there is none that is whole."""
    path = _path(job, source.name, folder)
    try:
        tokens = read_tokens(path)
        (record,) = tokens.images
        tokens.check_range(job.header.codebook_sizes)
    except (InputError, ValueError):
        return None
    if record.name != source.name:
        return None
    refuse_another_job(tokens.header.to_json(), job.header.to_json(), path)
    return record
