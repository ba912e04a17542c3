"""Write the photographs that come with scikit-image into FOLDER.

python examples/sample_photos.py FOLDER
"""

import sys
from pathlib import Path

from PIL import Image
from skimage import data

PHOTOS = {
    "astronaut": data.astronaut,
    "camera": data.camera,
    "chelsea": data.chelsea,
    "coffee": data.coffee,
    "hubble": data.hubble_deep_field,
    "motorcycle": lambda: data.stereo_motorcycle()[0],
    "retina": data.retina,
    "rocket": data.rocket,
}


def main(folder: Path) -> None:
    """Write them as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, photo in PHOTOS.items():
        Image.fromarray(photo()).save(folder / f"{stem}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
