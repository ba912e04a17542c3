"""One picture of originals over what their tokens decode to.

python examples/pairs.py ORIGINALS DECODED [DECODED ...] -o pairs.png [--side 256] [--images astronaut coffee]

DECODED are folders that `vqtok decode` wrote from the tokens of ORIGINALS: a row each. Of every photograph the square
in the middle is shown, at its own resolution.
"""

import argparse
from pathlib import Path

from PIL import Image

GAP = 4


def middle(path: Path, side: int) -> Image.Image:
    """Return the square of `side` pixels in the middle of a picture."""
    with Image.open(path) as image:
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return image.convert("RGB").crop((left, top, left + side, top + side))


def main() -> None:
    """Parse, paste, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("originals", type=Path)
    parser.add_argument("decoded", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--side", type=int, default=256, help="of each square, in pixels")
    parser.add_argument("--images", nargs="+", help="names without suffix; all unless said")
    arguments = parser.parse_args()
    names = arguments.images or sorted(path.stem for path in arguments.decoded[0].glob("*.png"))
    columns = [[*arguments.originals.glob(f"{name}.*")] for name in names]
    step = arguments.side + GAP
    sheet = Image.new("RGB", (step * len(names) - GAP, step * (1 + len(arguments.decoded)) - GAP), "white")
    for column, (name, (original, *_)) in enumerate(zip(names, columns, strict=True)):
        rows = [original, *(folder / f"{name}.png" for folder in arguments.decoded)]
        for row, path in enumerate(rows):
            sheet.paste(middle(path, arguments.side), (step * column, step * row))
    sheet.save(arguments.output, quality=90)  # of JPEG and WebP


if __name__ == "__main__":
    main()
