"""The smoothest photographs of a folder, and how checkpoints and codecs give them back at the same bits.

    python -m benchmarks.smooth photos/ -m photo-f8 photo-f16
    python -m benchmarks.smooth photos/ -n 20 --save smooth.txt
    python -m benchmarks.smooth photos/ --of smooth.txt -m run

Chosen are the photographs whose 8x8 blocks vary least: the mean over blocks of the standard deviation of the channel
that varies most. Of the files of one photograph, which are called alike but for `_t1`, `_t2`, the smoothest is taken.
What each figure is, `tokenizer.metrics.DEFINITIONS` says; pictures are decoded from the tokens alone.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tokenizer import codec
from tokenizer.images import Source, read_image
from tokenizer.inputs import find_images
from tokenizer.models import DEFAULT_CHECKPOINT, load_checkpoint, locate_checkpoint
from tokenizer.report import Report, block_deviations, measure_quality, usage_report

FIGURES = (
    ("bits_per_pixel", ".3f"),
    ("psnr", ".2f"),
    ("flat_psnr", ".2f"),
    ("flat_share", ".0%"),
    ("blocking", ".2f"),
    ("patchwork", ".2f"),
    ("ssim", ".3f"),
    ("perplexity", ".0f"),
)


def roughness(source: Source) -> float:
    """Return the mean over the 8x8 blocks of an image of the deviation of the channel that varies most, in levels."""
    return float(block_deviations(read_image(source.file)).max(axis=-1).mean())


def photograph_of(name: str) -> str:
    """Return what the files of one photograph have in common: the name without suffix and without `_t` and a number."""
    return re.sub(r"_t\d+$", "", str(Path(name).with_suffix("")))


def smoothest(sources: Sequence[Source], count: int) -> list[Source]:
    """Return the `count` smoothest photographs, the smoothest first, one file of each."""
    chosen: dict[str, Source] = {}
    for _, _, source in sorted(((roughness(s), s.name, s) for s in sources), key=lambda item: item[:2]):
        chosen.setdefault(photograph_of(source.name), source)
    return list(chosen.values())[:count]


def measured(checkpoint: str, sources: Sequence[Source], *, baselines: bool) -> Report:
    """Return the report of a checkpoint over images at their own sizes."""
    model, options = load_checkpoint(locate_checkpoint(checkpoint)), codec.EncodeOptions()
    tokens = codec.collect_tokens(
        codec.encode_images(model, sources, options), codec.token_header(model, checkpoint, options)
    )
    quality = measure_quality(model, [tokens], {source.name: source for source in sources}, baselines=baselines)
    return usage_report([tokens], model.codebook_sizes, 0, quality)


def rows(name: str, report: Report) -> Iterator[list[str]]:
    """Yield the cells of a checkpoint, and of each codec at its bits."""
    values = report.to_json()
    yield [name, *(_cell(values[key], form) for key, form in FIGURES)]
    for baseline in values["quality"]["baselines"]:
        over = "" if baseline["reached"] else f" ({baseline['larger']} of {baseline['images']} larger)"
        yield [baseline["name"] + over, *(_cell(baseline.get(key), form) for key, form in FIGURES)]


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None or np.isnan(value) else format(value, form).replace("%", " %")


def main() -> None:
    """Choose, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("-m", "--model", nargs="*", default=[DEFAULT_CHECKPOINT], help="names, or folders")
    parser.add_argument("-n", "--count", type=int, default=20)
    parser.add_argument("--save", type=Path, help="write the names that were chosen, one a line")
    parser.add_argument("--of", type=Path, help="measure on the names in this file, choose none")
    parser.add_argument("--no-baselines", action="store_true", help="without JPEG and WebP")
    arguments = parser.parse_args()
    sources = list(find_images([arguments.photos]))
    if arguments.of:
        wanted = set(arguments.of.read_text("utf-8").split("\n"))
        chosen = [source for source in sources if source.name in wanted]
    else:
        chosen = smoothest(sources, arguments.count)
        print("\n".join(source.name for source in chosen), end="\n\n")
    if arguments.save:
        arguments.save.write_text("".join(f"{source.name}\n" for source in chosen), "utf-8")
    print("| " + " | ".join(("", *(key for key, _ in FIGURES))) + " |\n" + "| --- " * (1 + len(FIGURES)) + "|")
    for name in arguments.model:
        for cells in rows(Path(name).name, measured(name, chosen, baselines=not arguments.no_baselines)):
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
