"""What decoding at a reduced scale, and tiles, do to one picture of 12 megapixels.

    python -m benchmarks.large photo.jpg -m run

The picture is enlarged to 4003x3001 pixels and saved as JPEG of quality 92. It is made ready for `--image-size` in full
and at the scale that `vqtok encode` decodes it at, and it is encoded at its own size in tiles and in one piece.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tokenizer import codec
from tokenizer.codec import tiling
from tokenizer.images import ImageInfo, Source, placement_of, read_scaled
from tokenizer.metrics import psnr
from tokenizer.models import load_checkpoint
from tokenizer.runtime import PeakMemory


def fitted(path: Path, size: int, multiple: int, scales: tuple[int, ...]) -> np.ndarray:
    """Return a picture cut to a square, decoded at one of these scales."""

    def choose(opened: ImageInfo) -> int:
        return placement_of(opened.size, "crop", size, multiple, scales).scale

    decoded = read_scaled(path, (255, 255, 255), choose)
    return placement_of(decoded.original, "crop", size, multiple, (decoded.scale,)).apply(decoded.pixels)


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("-m", "--model", type=Path, required=True)
    arguments = parser.parse_args()
    model = load_checkpoint(arguments.model)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "large.jpg")
        with Image.open(arguments.image) as image:
            image.convert("RGB").resize((4003, 3001), Image.Resampling.BICUBIC).save(path, quality=92)
        for size in (256, 512):
            made, times = [], []
            for scales in ((1,), (1, 2, 4, 8)):
                began = time.perf_counter()
                made += [fitted(path, size, model.downsample, scales) for _ in range(5)]
                times.append((time.perf_counter() - began) / 5)
            near = psnr(made[0], made[-1])
            print(
                f"to {size} px: {1e3 * times[0]:.0f} ms in full, {1e3 * times[1]:.0f} ms reduced, {near:.1f} dB apart"
            )
        grids = []
        for pixels in (tiling.TILE_PIXELS, 2**30):
            tiling.TILE_PIXELS, memory_used, began = pixels, PeakMemory(torch.device("cpu")), time.perf_counter()
            (result,) = codec.encode_images(model, [Source("large.jpg", path)], codec.EncodeOptions())
            assert isinstance(result, codec.Encoded)
            grids.append(result.grid)
            peak = memory_used.megabytes or 0
            seconds = time.perf_counter() - began
            print(f"{'whole' if pixels == 2**30 else 'tiles'}: {seconds:.1f} s, {peak:.0f} MiB")
        print(f"tokens that differ: {int((grids[0] != grids[1]).sum())} of {grids[0].size}")


if __name__ == "__main__":
    main()
