"""What does a training crop cost? Milliseconds of processor time, from photographs and from large JPEG files.

    python -m benchmarks.crops photos/
    python -m benchmarks.crops photos/ --large 100     # as many files of 12 megapixels, made of these photographs

Settings are those of earlier versions, where all crops were shrunk, and today's, with one crop and with more each time
that an image is read. The first epoch fills the memory that is kept for images, the second one meets it full.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tokenizer.config import TrainConfig
from tokenizer.images import Source, read_image
from tokenizer.inputs import find_images
from tokenizer.train.crops import Crops
from tokenizer.train.scales import crops_per_read, probe_sides

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "all shrunk, as before": {"native_crops": 0.0, "smallest_crop": 0.5},
    "three of four native": {},
    "all native": {"native_crops": 1.0},
}


def draw_large(sources: Sequence[Source], count: int, folder: Path) -> Sequence[Source]:
    """Write photographs enlarged to 4000x3000, with the noise of a sensor, without which decoding would be too fast."""
    noise = np.random.default_rng(0).normal(0, 4, (3000, 4000, 1))
    for number in range(count):
        photo = Image.fromarray(read_image(sources[number % len(sources)].file)).resize((4000, 3000))
        pixels = np.clip(np.asarray(photo) + np.roll(noise, number, 1), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=92)
    return find_images([folder])


def milliseconds(sources: Sequence[Source], config: TrainConfig) -> list[float]:
    """Return the processor time of a crop in each of two epochs."""
    crops, length = Crops(sources, config), len(sources) * (config.crops_per_read or 1)
    found = []
    for epoch in range(2):
        began = time.process_time()
        for number in range(epoch * length, (epoch + 1) * length):
            crops.crop(number)
        found.append(1000 * (time.process_time() - began) / length)
    return found


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--large", type=int, default=0, help="how many files of 12 megapixels to make and read")
    parser.add_argument("--image-size", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources: Sequence[Source] = find_images(arguments.data)
        if arguments.large:
            sources = draw_large(sources, arguments.large, Path(folder))
        sides = probe_sides(sources)
        print(f"{len(sources)} images, median shorter side {sides.median} px, {sides.pixels / 1e6:.2f} megapixels each")
        for name, settings in SETTINGS.items():
            config = TrainConfig(image_size=arguments.image_size, **settings)
            for each in sorted({1, crops_per_read(config, sides, len(sources))}):
                planned = TrainConfig(image_size=arguments.image_size, crops_per_read=each, **settings)
                first, second = milliseconds(sources, planned)
                print(f"{name}, {each} each reading: {first:.2f} ms a crop, then {second:.2f}", flush=True)


if __name__ == "__main__":
    main()
