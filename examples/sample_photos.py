"""Write the photographs that come with scikit-image into FOLDER/train and FOLDER/test.

python examples/sample_photos.py FOLDER
"""

import sys
from pathlib import Path

from PIL import Image
from skimage import data

TEST = {"chelsea": data.chelsea, "coffee": data.coffee, "camera": data.camera}
TRAIN = {
    "astronaut": data.astronaut,
    "brick": data.brick,
    "coins": data.coins,
    "grass": data.grass,
    "gravel": data.gravel,
    "hubble": data.hubble_deep_field,
    "moon": data.moon,
    "motorcycle": lambda: data.stereo_motorcycle()[0],
    "retina": data.retina,
    "rocket": data.rocket,
    "tissue": data.immunohistochemistry,
}


def main(folder: Path) -> None:
    """Write both sets as PNG files."""
    for name, photos in (("train", TRAIN), ("test", TEST)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for stem, photo in photos.items():
            Image.fromarray(photo()).save(folder / name / f"{stem}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
