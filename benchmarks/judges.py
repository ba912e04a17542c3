"""What trained networks see of checkpoints' pictures: the table that compares a sharp decoder with a faithful one.

    python -m benchmarks.judges kodak/ --models photo-f8 photo-f8-sharp
    python -m benchmarks.judges photos/ --models photo-f8 run/ --vgg vgg16.safetensors --max-images 100
    python -m benchmarks.judges photos/ --models photo-f8 --vgg vgg16.safetensors --max-images 2 --times

Pictures are encoded at their own size and decoded from the tokens alone. A network that a decoder was trained on is no
judge of it: name VGG-16's weights with `--vgg` to have a second one. Lower distances are better, and more recognized.

    PSNR              dB, mean over pictures
    Lite0 distance    of the features of EfficientNet-Lite0, each of unit length, summed over five stages
    VGG-16 distance   the same of VGG-16, behind five of its layers
    recognized alike  share of pictures whose first class by EfficientNet-Lite0 is that of the original
    Lite0 Frechet     diagonal Frechet distance of its pooled features, over all pictures

`tokenizer.metrics.DEFINITIONS` says the same in full. `--times` adds what the term `perceptual` costs in training with
either network, forward and back.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tokenizer import codec, runtime
from tokenizer.images import Pixels, Source
from tokenizer.inputs import find_images
from tokenizer.metrics import NO_FIGURE
from tokenizer.models import LoadedModel, load_model, to_unit_range
from tokenizer.perceptual import LITE0_LEAST, FeatureDistance, lite0_distance, vgg16_distance
from tokenizer.report import Quality, measure_quality

COLUMNS = ("PSNR", "Lite0 distance", "VGG-16 distance", "recognized alike", "Lite0 Frechet")


@dataclass(frozen=True)
class Judged:
    """What `vqtok report --perceptual` says of a checkpoint's pictures, and their mean distance by VGG-16, if any."""

    quality: Quality
    vgg16: float | None

    def cells(self) -> list[str]:
        """Return the figures as texts, in the order of `COLUMNS`."""
        own = self.quality
        share = None if own.recognized_alike is None else 100 * own.recognized_alike
        values = (own.psnr, own.lite0_distance, self.vgg16, share, own.lite0_frechet)
        forms = ("{:.2f}", "{:.3f}", "{:.3f}", "{:.1f} %", "{:.2f}")
        return [NO_FIGURE if value is None else form.format(value) for form, value in zip(forms, values, strict=True)]


def judge(loaded: LoadedModel, sources: Sequence[Source], vgg: FeatureDistance | None) -> Judged:
    """Return the figures of one checkpoint; those of networks leave out pictures with a side under 32 pixels."""
    settings = codec.EncodeOptions(batch_size=4)
    results = codec.encode_images(loaded.network, sources, settings)
    tokens = codec.collect_tokens(results, codec.token_header(loaded.network, loaded.fingerprint, settings))
    distances: list[float] = []

    def compare(_name: str, original: Pixels, made: Pixels) -> None:
        if vgg is not None and min(original.shape[:2]) >= LITE0_LEAST:
            distances.append(distance_of(vgg, original, made, loaded.device))

    by_name = {source.name: source for source in sources}
    quality = measure_quality(loaded.network, [tokens], by_name, perceptual=True, keep=compare)
    return Judged(quality, float(np.mean(distances)) if distances else None)


def distance_of(vgg: FeatureDistance, original: Pixels, made: Pixels, device: torch.device) -> float:
    """Return the distance of two (H, W, 3) pictures."""
    with torch.inference_mode(), runtime.autocast(device, "float32"):
        both = [to_unit_range(torch.from_numpy(one.copy())[None].to(device)) for one in (made, original)]
        return float(vgg(*both))


def milliseconds(distance: FeatureDistance, crops: int = 4, rounds: int = 5) -> float:
    """Return the median time of the distance and its gradient, for each crop of 128 pixels, on the CPU."""
    images, targets = torch.rand(2, crops, 3, 128, 128) * 2 - 1
    images.requires_grad_()
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        torch.autograd.grad(distance(images, targets), images)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times[1:]) / crops


def spread(sources: Sequence[Source], count: int | None) -> list[Source]:
    """Return `count` of the sources, evenly spread; all for None."""
    count = min(count or len(sources), len(sources))
    return [sources[number * len(sources) // count] for number in range(count)]


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("-m", "--models", nargs="+", required=True, help="names of shipped checkpoints, or folders")
    parser.add_argument("--vgg", type=Path, help="VGG-16's weights in torchvision's layout")
    parser.add_argument("--max-images", type=int, help="so many, evenly spread")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--times", action="store_true", help="what either network costs in training, on the CPU")
    arguments = parser.parse_args()
    sources = spread(find_images([arguments.images]), arguments.max_images)
    vgg = vgg16_distance(arguments.vgg).to(runtime.choose_device(arguments.device)) if arguments.vgg else None
    print(f"{len(sources)} pictures of {arguments.images}\n")
    print(f"| checkpoint | {' | '.join(COLUMNS)} |\n| --- |{' --- |' * len(COLUMNS)}")
    for name in arguments.models:
        cells = judge(load_model(name, arguments.device), sources, vgg).cells()
        print(f"| {Path(name).name} | {' | '.join(cells)} |", flush=True)
    if arguments.times:
        timed = {"EfficientNet-Lite0": lite0_distance(), **({"VGG-16": vgg.cpu()} if vgg is not None else {})}
        for name, distance in timed.items():
            print(f"\n{name}: {milliseconds(distance):.1f} ms a crop of 128 px, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
