"""The pictures that lie beside the entries: `curves.png` and `reconstructions.png`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tokenizer import checkpoint
from tokenizer.compare import charts
from tokenizer.compare.contest import Contest, Entry
from tokenizer.compare.entry import held_out
from tokenizer.compare.figures import decoded
from tokenizer.compare.table import Row, Table
from tokenizer.files import write_bytes
from tokenizer.images import Pixels

CURVES = "curves.png"
RECONSTRUCTIONS = "reconstructions.png"
_SHOWN = 6


@dataclass(frozen=True)
class Gallery:
    """Two PNGs."""

    curves: bytes
    reconstructions: bytes


def draw(contest: Contest, table: Table) -> Gallery:
    """Draw the pictures of a finished contest, and write them into its folder.

    Raises:
        CheckpointError: the checkpoint of an entry cannot be read.
        OutputError: a picture cannot be written.
    """
    entries = {(entry.label, entry.seed): entry for entry in contest.entries}
    originals = [picture for batch in held_out(contest.entries[0], _SHOWN) for picture in batch.numpy()]
    made = [(_label(row), _pictures(entries[row.label, row.results[0].seed], originals)) for row in table.ranked]
    gallery = Gallery(charts.curves(table), charts.reconstructions(originals, made))
    write_bytes(contest.folder / CURVES, gallery.curves)
    write_bytes(contest.folder / RECONSTRUCTIONS, gallery.reconstructions)
    return gallery


def _label(row: Row) -> str:
    mean = row.figures["psnr"].mean
    return f"{row.rank}  {row.label}" + ("" if mean is None else f"\n{mean:.2f} dB")


def _pictures(entry: Entry, originals: list[Pixels]) -> list[Pixels]:
    """Return what the entry's checkpoint makes of the pictures, from their tokens alone."""
    model = checkpoint.load(entry.folder)
    return [decoded(model, torch.from_numpy(picture[None]))[1][0] for picture in originals]
