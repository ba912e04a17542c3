"""The commands that `benchmarks.dying` stops, each taking a second or two, and what they need."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import safetensors
from PIL import Image

from tests.dying import Call

IMAGES = 60
SETTINGS = """\
image_size = 32
batch_size = 8
precision = "float32"
device = "cpu"
workers = 0
val_images = 4
log_every = 4
eval_every = 8
save_every = 0.002
[network]
downsample = 8
widths = [32, 32]
depths = [1, 1]
latent_dim = 4
"""


@dataclass(frozen=True)
class Command:
    """A command that writes into the folder it is called in.

    Attributes:
        words: its command line.
        again: what is added to go on.
        same: patterns of the files whose bytes are promised; of the others, clocks and machines are part.
    """

    words: Sequence[str]
    again: Sequence[str]
    same: Sequence[str] = ("*",)

    def counts(self, name: str) -> bool:
        """Return whether a file is promised to be the same, to the last byte."""
        return any(fnmatch(name, pattern) for pattern in self.same)

    def is_half(self, name: str, made: bytes, wanted: bytes) -> bool:
        """Return whether a file under its final name is not whole."""
        if ".partial/" in name or made == wanted or name.endswith("metrics.jsonl"):
            return False
        if self.same == ("*",):
            return True
        return not _is_sound(name, made)


def _is_sound(name: str, data: bytes) -> bool:
    try:
        if name.endswith(".safetensors"):
            safetensors.deserialize(data)
        elif name.endswith(".png"):
            Image.open(io.BytesIO(data)).load()
    except (safetensors.SafetensorError, OSError):
        return False
    return not name.endswith((".json", ".html", ".csv", ".onnx")) or data.endswith((b"}\n", b"\n", b"</html>", b"\0"))


_ENCODE = ("encode", "../photos", "-m", "../run", "-b", "2", "-o")
_DECODE = ("decode", "../t.npy", "-m", "../run", "-b", "2", "-o")
_TRAIN = ("-c", "../settings.toml", "-o")
_WEIGHTS = ("*/model.safetensors",)

COMMANDS = {
    "train": Command(["train", "../photos", "--steps", "40", *_TRAIN, "run"], ["--resume"], _WEIGHTS),
    "encode .safetensors": Command([*_ENCODE, "t.safetensors"], ["--resume"]),
    "encode .npy": Command([*_ENCODE, "t.npy", "--image-size", "64"], ["--resume"]),
    "encode .tar": Command([*_ENCODE, "t.tar"], ["--resume"]),
    "encode tree": Command([*_ENCODE, "tree"], ["--resume"]),
    "encode shards": Command([*_ENCODE, "shards", "--shard-size", "13"], ["--resume"]),
    "decode": Command([*_DECODE, "back"], ["--resume"]),
    "decode sheet": Command([*_DECODE, "sheet.png", "--contact-sheet"], ["--overwrite"]),
    "report": Command(
        ["report", "../t.npy", "-m", "../run", "--html", "r.html", "--csv", "r.csv"], ["--overwrite"], ["r.csv"]
    ),
    "compare": Command(
        ["compare", "../photos", "--quantizers", "fsq, ste", "--steps", "12", *_TRAIN, "cmp", "--csv", "c.csv"],
        ["--resume"],
        _WEIGHTS,
    ),
    "export": Command(["export", "-m", "../run", "-o", "onnx"], ["--overwrite"], ["*.onnx"]),
}


def begin(root: Path, photos: Path) -> None:
    """Put some photographs, small, into a folder, and train a checkpoint and encode tokens beside it."""
    found = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))[:IMAGES]
    for number, path in enumerate(found):
        (root / "photos" / "abc"[number % 3]).mkdir(parents=True, exist_ok=True)
        side = (64, 48 + 8 * (number % 3))
        with Image.open(path) as image:
            image.convert("RGB").resize(side).save(root / "photos" / "abc"[number % 3] / f"{number:03d}.png")
    (root / "settings.toml").write_text(SETTINGS)
    (root / "first").mkdir()
    for words in (
        ["train", "../photos", "--steps", "12", *_TRAIN, "../run"],
        [*_ENCODE, "../t.npy", "--image-size", "64"],
    ):
        ended = Call(words, root / "first").end()
        assert ended.code == 0, ended.err
    shutil.rmtree(root / "first")
