"""What `vqtok encode` does, step by step."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.console import Console, printable, write_binary, write_json
from cli.sharing import under_torchrun
from tokenizer.errors import InputError

if TYPE_CHECKING:
    from tokenizer.inputs import Inputs
    from tokenizer.jobs import EncodeJob, Outcome

_FAILURES_LISTED = 1000


@dataclass
class Tally:
    """What became of the inputs so far; the first failures are kept."""

    images: int = 0
    kept: int = 0
    failed: int = 0
    first_frames: int = 0
    failures: list[Outcome] = field(default_factory=list)

    def count(self, outcome: Outcome) -> None:
        """Add one."""
        self.kept += outcome.kept
        self.images += outcome.reason is None
        self.failed += outcome.reason is not None
        self.first_frames += outcome.has_more
        if outcome.reason is not None and len(self.failures) < _FAILURES_LISTED:
            self.failures.append(outcome)


def outcomes_of(
    job: EncodeJob, found: Inputs, output: str, kind: str, shard_size: int | None, part: tuple[int, int]
) -> Generator[Outcome]:
    """Return the work, which begins when the first outcome is asked for.

    Raises:
        UsageError: the inputs do not fit the output, once it begins; and all that `tokenizer.outputs` raises.
    """
    from tokenizer.jobs import Piece, encode_to_file, encode_to_shards, encode_to_stream, encode_to_tree, shard_pieces

    if output == "-":
        return encode_to_stream(job, found.sources, write_binary)
    if kind == "file":
        return encode_to_file(job, found.sources, Path(output), part)
    if shard_size is not None:
        return encode_to_shards(job, shard_pieces(found.sources, shard_size), Path(output), part)
    if found.archives:
        pieces = [Piece(archive.name, archive.sources()) for archive in found.archives]
        return encode_to_shards(job, pieces, Path(output), part)
    return encode_to_tree(job, found.sources, Path(output), part)


def run(console: Console, outcomes: Generator[Outcome], output: str, total: int | None) -> Tally:
    """Do the work behind a progress bar, warn of unreadable images, and say how to go on where it stops."""
    tally = Tally()
    try:
        with contextlib.closing(outcomes):
            for outcome in console.track(outcomes, total):
                tally.count(outcome)
                if outcome.reason is not None:
                    console.warn(f"{outcome.name}: {outcome.reason}")
    except BaseException:
        if output != "-" and tally.images and _left_behind(Path(output)):
            console.say("what is done is kept: the same command with --resume goes on")
        raise
    return tally


def _left_behind(path: Path) -> bool:
    from tokenizer.jobs import is_unfinished

    return path.is_dir() or is_unfinished(path)


def finish(console: Console, output: str, tally: Tally, seconds: float, *, as_json: bool, alone: bool) -> None:
    """Tell what was done; `alone` when no other process does a part.

    Raises:
        InputError: no image could be read.
        typer.Exit: 3, when some could not; not under torchrun, which would stop the other processes.
    """
    total = tally.images + tally.failed
    if not tally.images and (alone or (total and not under_torchrun())):
        first = f", the first failed with: {printable(tally.failures[0].reason)}" if tally.failures else ""
        raise InputError(f"0 of {total} images encoded{first}")
    if tally.first_frames:
        console.warn(f"files with several frames or pages: {tally.first_frames}; the first of each was encoded")
    kept = f", {tally.kept} of them before," if tally.kept else ""
    share = "" if alone else " of this part"
    where = "stdout" if output == "-" else output
    console.say(f"{tally.images} of {total} images{share} encoded{kept} to {where} in {seconds:.1f} s")
    if as_json:
        failures = [{"name": failure.name, "reason": failure.reason} for failure in tally.failures]
        write_json(
            {
                "output": output,
                "images": tally.images,
                "kept": tally.kept,
                "failed_total": tally.failed,
                "failed": failures,
                "first_frames": tally.first_frames,
                "seconds": round(seconds, 3),
            }
        )
    if tally.failed and not under_torchrun():
        raise typer.Exit(3)
