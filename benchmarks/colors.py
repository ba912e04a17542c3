"""Codes for colors that photographs hardly have: the least used codes of a checkpoint, moved to solid colors.

    python -m benchmarks.colors run/ -o colored/ --photos photos/

Photographs hold no plain green, and codes that only follow photographs leave it to the nearest moss. Of each table of a
residual quantizer `SHARES` of the codes, those that the photographs use least, move to the centers of the latents of
solid colors drawn at random; networks stay as they are. Run before `benchmarks.shipped pack`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenizer.images import read_image
from tokenizer.inputs import find_images
from tokenizer.models import Tokenizer, describe_checkpoint, load_checkpoint, save_checkpoint, to_unit_range
from tokenizer.quantizers import CodebookQuantizer, Residual
from tokenizer.quantizers.k_means import k_means

# Of the codes of the first table, the second, and so on.
SHARES = (0.1, 0.1, 0.05, 0.05)
COLORS, SIDE, PHOTOGRAPHS = 2400, 16, 400


def photographs(folder: Path) -> Tensor:
    """Return the central 128 pixels of some photographs that have as many, (N, 128, 128, 3) uint8."""
    found = find_images([folder])
    made = []
    for source in found[:: max(1, len(found) // PHOTOGRAPHS)]:
        pixels = read_image(source.file)
        top, left = ((side - 128) // 2 for side in pixels.shape[:2])
        if min(top, left) < 0:
            continue
        made.append(torch.from_numpy(pixels[top : top + 128, left : left + 128].copy()))
    return torch.stack(made)


def solid_colors() -> Tensor:
    """Return (COLORS, SIDE, SIDE, 3) uint8 pictures of one color each, drawn evenly from all."""
    colors = np.random.default_rng(0).integers(0, 256, (COLORS, 1, 1, 3), np.uint8)
    return torch.from_numpy(colors).expand(-1, SIDE, SIDE, -1).contiguous()


def latents_of(model: Tokenizer, pixels: Tensor) -> Tensor:
    """Return the (N, D) latents of (B, H, W, 3) pictures."""
    return torch.cat([model.latents(to_unit_range(part)).flatten(0, 2) for part in torch.split(pixels, 16)])


@torch.no_grad()
def move_codes(model: Tokenizer, of_photographs: Tensor, of_colors: Tensor) -> None:
    """Move the codes of each stage that photographs use least to the latents of colors that err most."""
    quantizer = model.quantizer
    for share, stage in zip(SHARES, quantizer.parts if isinstance(quantizer, Residual) else [quantizer], strict=False):
        if not isinstance(stage, CodebookQuantizer):
            raise SystemExit(f"{type(stage).__name__} has no table of codes")
        vectors = stage.code_vectors().clone()
        used = torch.bincount(stage.encode(of_photographs).flatten(), minlength=len(vectors))
        error = (of_colors - stage.decode(stage.encode(of_colors))).square().sum(dim=1)
        least = used.argsort(stable=True)[: round(share * len(vectors))]
        vectors[least] = k_means(of_colors[error > error.median()], len(least))
        stage.table.place(vectors)
        print(f"{len(least)} codes moved, which held {100 * float(used[least].sum() / used.sum()):.2f} % of the tokens")
        of_photographs = of_photographs - stage.decode(stage.encode(of_photographs))
        of_colors = of_colors - stage.decode(stage.encode(of_colors))


def main() -> None:
    """Move and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    description, model = describe_checkpoint(arguments.run), load_checkpoint(arguments.run)
    with torch.inference_mode():
        found = latents_of(model, photographs(arguments.photos)), latents_of(model, solid_colors())
    move_codes(model, *(latents.clone() for latents in found))
    shutil.rmtree(arguments.output, ignore_errors=True)
    save_checkpoint(arguments.output, model, description.training, description.reads)


if __name__ == "__main__":
    main()
