"""The example that trains a generator on tokens, between `vqtok encode` and `vqtok decode`."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples import generate
from tests.cli.conftest import Vqtok
from tests.conftest import draw, save
from tests.tokens.conftest import made
from tokenizer.tokens import write_tokens

SMALL = ["--width", "32", "--layers", "1", "--batch-size", "16", "--device", "cpu", "--lr", "0.01"]


@pytest.fixture
def tokens(vqtok: Vqtok, run: Path, tmp_path: Path) -> Path:
    """Tokens of 80 pictures of 5 kinds."""
    for number in range(80):
        save(tmp_path / "pictures" / f"{number}.png", draw(32, 32, number % 5))
    path = tmp_path / "tokens.npy"
    assert vqtok("encode", tmp_path / "pictures", "-m", run, "--image-size", 32, "-o", path).code == 0
    return path


def test_pictures_are_drawn_from_noise(
    vqtok: Vqtok, run: Path, tokens: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    samples, sheet = tmp_path / "samples.npy", tmp_path / "sheet.png"
    generate.main([str(tokens), "-o", str(samples), "--steps", "60", "--images", "6", *SMALL])
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert lines[0].startswith("76 images of 16 tokens, 4 for validation; single tokens have ")
    counts = np.unique(np.load(tokens), return_counts=True)[1]
    entropy = -sum(count / counts.sum() * math.log2(count / counts.sum()) for count in counts)
    assert float(lines[0].split()[-2]) == pytest.approx(entropy, abs=1e-3)
    validation = [float(re.search(r"([\d.]+) on validation images$", line).group(1)) for line in lines[1:]]
    assert math.log2(5) / 16 < validation[-1] < entropy < math.log2(32)
    drawn = np.load(samples)
    assert (drawn.shape, drawn.dtype) == ((6, 4, 4), np.uint8)
    assert drawn.max() < 32

    assert vqtok("decode", samples, "-m", run, "--contact-sheet", "-o", sheet).code == 0
    assert vqtok("decode", samples, "-m", run, "-o", tmp_path / "single").code == 0
    first = np.asarray(Image.open(tmp_path / "single" / "000000.png"))
    assert first.shape == (32, 32, 3)
    with Image.open(sheet) as picture:
        assert min(picture.size) >= 2 * 32
        assert first.tobytes() in {
            np.asarray(picture)[y : y + 32, x : x + 32].tobytes() for y in range(8) for x in range(8)
        }


def test_the_likeliest_picture_is_one(tokens: Path, tmp_path: Path) -> None:
    generate.main([str(tokens), "-o", str(tmp_path / "s.npy"), "--steps", "1", "--images", "3", "--top-k", "1", *SMALL])
    drawn = np.load(tmp_path / "s.npy")
    assert (drawn == drawn[:1]).all()


def test_each_code_comes_from_its_own_codebook(tmp_path: Path) -> None:
    write_tokens(tmp_path / "t.npy", made([(2, 2)] * 40, (3, 50)))
    generate.main([str(tmp_path / "t.npy"), "-o", str(tmp_path / "s.npy"), "--steps", "1", "--images", "200", *SMALL])
    drawn = np.load(tmp_path / "s.npy")
    assert (drawn.shape, drawn.dtype) == ((200, 2, 2, 2), np.uint8)
    assert set(drawn[..., 0].flat) == set(range(3))
    assert set(drawn[..., 1].flat) == set(range(50))


def test_an_array_that_does_not_say_its_alphabet(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.random.default_rng(0).integers(0, 20, (40, 2, 2)).astype(np.int32))
    generate.main([str(tmp_path / "t.npy"), "-o", str(tmp_path / "s.npy"), "--steps", "1", "--images", "200", *SMALL])
    drawn = np.load(tmp_path / "s.npy")
    assert (drawn.shape, drawn.dtype) == ((200, 2, 2), np.int32)
    assert set(drawn.flat) == set(range(20))
