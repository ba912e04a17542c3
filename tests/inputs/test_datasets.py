"""Datasets as sources: every kind of item, what is refused, and that they are encoded like files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tests.conftest import draw, save
from tokenizer import codec
from tokenizer.errors import ImageError, InputError
from tokenizer.images import Source, probe_image, read_image
from tokenizer.inputs import dataset_sources, find_images
from tokenizer.models import load_checkpoint

PIXELS = draw(20, 30)
GRAY = PIXELS[..., 0]
CHANNELS_FIRST = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        CHANNELS_FIRST,
        CHANNELS_FIRST / 255,
        CHANNELS_FIRST.double() / 255,
        (CHANNELS_FIRST / 255).requires_grad_(),
        (CHANNELS_FIRST / 255 * 1.001 - 0.0005),
    ],
    ids=["pillow", "array", "uint8", "float", "double", "gradient", "rounding"],
)
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, 3), lambda x: [x, "label"]], ids=["bare", "tuple", "list"])
def test_every_kind_of_image(image: Any, wrap: Callable[[Any], Any]) -> None:
    for dataset in ([wrap(image)], iter([wrap(image)])):
        (source,) = dataset_sources(dataset)
        assert np.array_equal(read_image(source.file), PIXELS)
        assert probe_image(source.file) == (20, 30)


@pytest.mark.parametrize("image", [Image.fromarray(GRAY), GRAY, CHANNELS_FIRST[:1], CHANNELS_FIRST[:1] / 255])
def test_gray_becomes_rgb(image: Any) -> None:
    assert np.array_equal(read_image(dataset_sources([image])[0].file), np.repeat(GRAY[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "EXIF"])
def test_pillows_images_are_read_as_their_files_are(mode: str, tmp_path: Path) -> None:
    kind = {"CMYK": "tiff", "EXIF": "jpg"}.get(mode, "png")
    file = tmp_path / f"x.{kind}"
    exif = Image.Exif()
    exif[0x0112] = 6
    rgba = Image.fromarray(np.dstack([PIXELS, GRAY]))
    made = {
        "I;16": lambda: Image.fromarray(GRAY.astype(np.uint16) * 257),
        "EXIF": lambda: Image.fromarray(PIXELS),
    }.get(mode, lambda: rgba.convert("RGB").convert(mode) if mode in ("CMYK", "P") else rgba.convert(mode))()
    made.save(file, **({"exif": exif} if mode == "EXIF" else {}))
    with Image.open(file) as image:
        before = image.tobytes()
        (source,) = dataset_sources([image])
        for _ in range(2):  # what is another's is neither turned nor closed
            assert np.array_equal(read_image(source.file, (9, 99, 200)), read_image(file, (9, 99, 200)))
        assert image.tobytes() == before
        assert np.array_equal(read_image(source.file, shrink_to=10), read_image(file, shrink_to=10))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"image": PIXELS}, "a dict, expected one of Pillow's images, a tensor or an array"),
        ("photo.png", "a str, expected"),
        ((), "a tuple, expected"),
        (None, "a NoneType, expected"),
        (torch.zeros(8, 3, 32, 32), r"a tensor \(8, 3, 32, 32\), .*not a loader of its batches"),
        (torch.zeros(32, 32, 3), r"a tensor \(32, 32, 3\), expected \(3, H, W\) or \(1, H, W\)$"),
        (torch.zeros(3, 0, 4), r"a tensor \(3, 0, 4\)"),
        (torch.zeros(3, 8, 8) - 1, "a tensor of -1 to -1, expected 0 to 1: leave normalization out"),
        (torch.zeros(3, 8, 8) + 255, "a tensor of 255 to 255"),
        (torch.full((3, 8, 8), torch.nan), "a tensor of nan to nan"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), r"a tensor of torch\.int64, expected uint8"),
        (PIXELS / 255, r"an array \(20, 30, 3\) of float64, expected \(H, W, 3\) or \(H, W\) of uint8"),
        (PIXELS.transpose(2, 0, 1), r"an array \(3, 20, 30\) of uint8"),
        (PIXELS[:0], r"an array \(0, 30, 3\)"),
    ],
)
def test_what_is_no_image(item: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"item 0 of the dataset: {message}"):
        dataset_sources([item])
    with pytest.raises(InputError, match=f"item 1 of the dataset: {message}"):
        dataset_sources(iter([PIXELS, item]))
    with pytest.raises(ImageError, match=f"^{message}"):
        read_image(dataset_sources([PIXELS, item])[1].file)


def test_a_dataset_is_read_when_an_image_is_wanted_and_anything_else_at_once() -> None:
    asked: list[int] = []

    class Lazy:
        def __len__(self) -> int:
            return 1000

        def __getitem__(self, number: int) -> np.ndarray:
            asked.append(number)
            if number in (0, 5):
                raise OSError(5, "Input/output error")
            return PIXELS

    found = dataset_sources(Lazy())
    assert asked == [0]
    assert [found[0].name, found[7].name, found[-1].name] == ["000", "007", "999"]
    read_image(found[7].file)
    assert asked == [0, 7]
    with pytest.raises(ImageError, match=r"^input/output error$"):
        read_image(found[5].file)

    class Stream(IterableDataset[np.ndarray]):
        def __iter__(self) -> Iterator[np.ndarray]:
            room = PIXELS.copy()
            for number in range(11):
                room[:] = number  # into the same memory: each must be a copy
                yield room

    assert [int(read_image(source.file)[0, 0, 0]) for source in dataset_sources(Stream())] == list(range(11))
    assert [source.name for source in dataset_sources(Stream())][::10] == ["00", "10"]


def test_datasets_of_torch() -> None:
    images = torch.stack([CHANNELS_FIRST, CHANNELS_FIRST.flip(0)])
    for dataset in (TensorDataset(images, torch.arange(2)), images, images.permute(0, 2, 3, 1).numpy()):
        assert np.array_equal(read_image(dataset_sources(dataset)[1].file), PIXELS[..., ::-1])
    with pytest.raises(InputError, match=r"item 0 .*\(2, 3, 20, 30\).*pass the dataset"):
        dataset_sources(DataLoader(TensorDataset(images), batch_size=2))
    for empty in ([], iter([])):
        with pytest.raises(InputError, match="the dataset has no items"):
            dataset_sources(empty)


def test_a_truncated_file_in_a_stream_is_named(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(PIXELS).save(data, "png")
    (tmp_path / "x.png").write_bytes(data.getvalue()[:-40])
    with pytest.raises(InputError, match="item 1 of the dataset: "), Image.open(tmp_path / "x.png") as image:
        dataset_sources(iter([PIXELS, image]))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: 1 / 0, "division by zero"),
        (lambda: next(iter([])), "StopIteration"),
        (lambda: "text", "'str' object"),
        (lambda: PIXELS[:0], "it has no pixels: 30x0"),
        (lambda: GRAY.astype(np.float32), "floating-point samples"),
        (lambda: PIXELS.astype(np.int64), "Cannot handle this data type"),
    ],
)
def test_a_call_that_makes_no_image(made: Callable[[], Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(made)


def test_they_are_encoded_as_their_files_are(run: Path, tmp_path: Path) -> None:
    pictures = [draw(24 + 8 * (number % 2), 40, number) for number in range(5)]
    files = find_images([save(tmp_path / f"{number}.png", pixels) for number, pixels in enumerate(pictures)])
    made = [*dataset_sources(pictures), Source("broken", lambda: draw(0, 0))]
    model, options = load_checkpoint(run), codec.EncodeOptions(batch_size=2)
    results = list(codec.encode_images(model, made, options))
    tokens = codec.collect_tokens(results, codec.token_header(model, "0", options))
    wanted = codec.collect_tokens(codec.encode_images(model, files, options), codec.token_header(model, "0", options))
    assert [image.name for image in tokens.images] == list("01234")
    assert [failure.name for failure in tokens.failed] == ["broken"]
    assert all(np.array_equal(one, two) for one, two in zip(tokens.grids, wanted.grids, strict=True))
