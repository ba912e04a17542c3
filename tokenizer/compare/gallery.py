"""The pictures of a comparison: curves, a sheet of reconstructions, and pairs for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tokenizer.compare.charts import draw_curves, draw_reconstructions
from tokenizer.compare.comparison import Comparison, Entry
from tokenizer.compare.entry import validation_images
from tokenizer.compare.measures import decode_batch
from tokenizer.compare.ranking import ContestantRow, Ranking
from tokenizer.html import PicturePair, Plot, make_pair
from tokenizer.images import Pixels
from tokenizer.metrics import psnr
from tokenizer.models import load_checkpoint

_SHOWN = 6
_MOST_PAIRS = 48


@dataclass(frozen=True)
class ComparisonGallery:
    """Curves, a sheet of reconstructions, and for each ranked contestant originals beside what its tokens decode to."""

    curves: Plot
    reconstructions: Plot
    pairs: tuple[tuple[str, tuple[PicturePair, ...]], ...]


def draw_gallery(comparison: Comparison, ranking: Ranking) -> ComparisonGallery:
    """Return the pictures of a finished comparison.

    Raises:
        CheckpointError: the checkpoint of an entry cannot be read.
        InputError: no validation image can be read.
    """
    entries = {(entry.label, entry.seed): entry for entry in comparison.entries}
    batches = validation_images(comparison.entries[0], _SHOWN)
    originals = [picture for batch in batches for picture in batch[:, 0].numpy()]  # a tile of each
    made = [_pictures(entries[row.label, row.results[0].seed], originals) for row in ranking.ranked]
    sheet = draw_reconstructions(originals, list(zip(map(_label, ranking.ranked), made, strict=True)))
    each = max(1, min(_SHOWN, _MOST_PAIRS // max(1, len(made))))
    pairs = [_pairs(row, originals[:each], pictures) for row, pictures in zip(ranking.ranked, made, strict=True)]
    return ComparisonGallery(draw_curves(ranking), sheet, tuple(pairs))


def _pairs(
    row: ContestantRow, originals: Sequence[Pixels], made: Sequence[Pixels]
) -> tuple[str, tuple[PicturePair, ...]]:
    pairs = []
    for number, (original, picture) in enumerate(zip(originals, made, strict=False), 1):
        note = f"{psnr(original, picture):.2f} dB"
        pairs.append(make_pair(f"picture-{row.rank}-{number}", f"picture {number}", note, original, picture))
    return f"{row.rank}  {row.label}", tuple(pairs)


def _label(row: ContestantRow) -> str:
    mean = row.figures["psnr"].mean
    return f"{row.rank}  {row.label}" + ("" if mean is None else f"\n{mean:.2f} dB")


def _pictures(entry: Entry, originals: list[Pixels]) -> list[Pixels]:
    """Return what the entry's checkpoint makes of the pictures, from their tokens alone."""
    model = load_checkpoint(entry.folder)
    return [decode_batch(model, torch.from_numpy(picture[None]))[1][0] for picture in originals]
