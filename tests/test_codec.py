from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import draw, save
from tokenizer import checkpoint, codec
from tokenizer.codec import Encoded, EncodeOptions, Unreadable
from tokenizer.errors import DeviceError, TokenFileError
from tokenizer.images import Source
from tokenizer.inputs import find
from tokenizer.model import Tokenizer, to_pixels, to_unit_range
from tokenizer.token_files import TokenSet, bare


@pytest.fixture(scope="module")
def model(run: Path) -> Tokenizer:
    return checkpoint.load(run)


def encode(model: Tokenizer, sources: list[Source], **options: object) -> TokenSet:
    settings = EncodeOptions(**options)  # type: ignore[arg-type]
    return codec.collect(codec.encode(model, sources, settings), codec.header(model, "print", settings))


def test_decoded_tokens_are_the_reconstruction_in_memory(model: Tokenizer, photos: Path) -> None:
    sources = find([photos / "a"])
    tokens = encode(model, sources)
    for source, (record, canvas) in zip(sources, codec.decode(model, tokens), strict=True):
        pixels = torch.from_numpy(draw(64, 64, int(Path(source.name).stem)))
        with torch.inference_mode():
            wanted = to_pixels(model(to_unit_range(pixels[None])).images)[0].numpy()
        assert record.name == source.name
        assert np.array_equal(canvas, wanted)


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 5}, {"batch_size": 64, "workers": 1}])
def test_tokens_do_not_depend_on_batch_order_or_company(
    model: Tokenizer, photos: Path, options: dict[str, int]
) -> None:
    sources = find([photos])
    together = encode(model, sources, **options)
    assert [record.name for record in together.header.images] == [source.name for source in sources]
    for source, grid in zip(sources, together.grids, strict=True):
        (alone,) = encode(model, [source]).grids
        assert np.array_equal(alone, grid)
    backwards = encode(model, sources[::-1], **options)
    for grid, other in zip(together.grids, backwards.grids[::-1], strict=True):
        assert np.array_equal(grid, other)


def test_any_size_comes_back_at_its_size(model: Tokenizer) -> None:
    shapes = [(1, 1), (7, 9), (8, 8), (33, 5), (50, 121)]
    sources = [Source(f"{h}x{w}", as_file(draw(h, w))) for h, w in shapes]
    tokens = encode(model, sources)
    assert [record.grid for record in tokens.header.images] == [(-(-h // 8), -(-w // 8)) for h, w in shapes]
    for (height, width), (record, canvas) in zip(shapes, codec.decode(model, tokens), strict=True):
        assert record.placement is not None
        assert record.placement.restore(canvas).shape == (height, width, 3)


def as_file(pixels: np.ndarray) -> io.BytesIO:
    buffer = io.BytesIO()
    from PIL import Image

    Image.fromarray(pixels).save(buffer, "png")
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
def test_one_size_for_all(model: Tokenizer, photos: Path, mode: str) -> None:
    tokens = encode(model, find([photos]), image_size=40, resize_mode=mode)
    assert {record.grid for record in tokens.header.images} == {(5, 5)}
    for record, canvas in codec.decode(model, tokens):
        assert record.placement is not None
        wanted = (40, 40) if mode == "crop" else record.placement.original
        assert record.placement.restore(canvas).shape[:2] == wanted


def test_unreadable_images_are_recorded_and_shift_no_row(model: Tokenizer, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no")
    good = find([photos])[:3]
    sources = [good[0], Source("bad.png", tmp_path / "bad.png"), good[1], good[2]]
    results = list(codec.encode(model, sources, EncodeOptions(batch_size=2)))
    assert {result.row for result in results if isinstance(result, Unreadable)} == {1}
    assert {r.record.name: r.row for r in results if isinstance(r, Encoded)} == {
        good[0].name: 0,
        good[1].name: 2,
        good[2].name: 3,
    }
    tokens = encode(model, sources)
    assert [failure.name for failure in tokens.header.failed] == ["bad.png"]
    assert [record.name for record in tokens.header.images] == [source.name for source in good]
    assert np.array_equal(tokens.grids[1], encode(model, [good[1]]).grids[0])


def test_another_checkpoint_is_an_error_unless_allowed(model: Tokenizer, photos: Path) -> None:
    tokens = encode(model, find([photos])[:1])
    codec.check_fits(tokens, model, "print")
    with pytest.raises(TokenFileError, match="made by the checkpoint print, this one is other"):
        codec.check_fits(tokens, model, "other")
    codec.check_fits(tokens, model, "other", allow_mismatch=True)


def test_a_generator_s_array_is_checked_against_the_model(model: Tokenizer) -> None:
    codec.check_fits(bare(np.full((2, 3, 4), 31)), model, "any")
    array = np.zeros((2, 3, 4), np.int32)
    array[1, 2, 0] = 32
    with pytest.raises(TokenFileError, match=r"token 32 at row 1 \(2, 0\) is outside 0..31"):
        codec.check_fits(bare(array), model, "any")
    with pytest.raises(TokenFileError, match="2 codes per position, the model 1"):
        codec.check_fits(bare(np.zeros((1, 3, 4, 2), np.int32)), model, "any")
    ((record, canvas),) = codec.decode(model, bare(np.zeros((3, 4), np.int16)))
    assert (record.name, canvas.shape) == ("000000", (24, 32, 3))


def test_out_of_memory_says_what_to_pass(model: Tokenizer, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "encode", fail)
    with pytest.raises(DeviceError, match="out of memory: pass a smaller --batch-size"):
        encode(model, find([photos])[:1])
    monkeypatch.setattr(model, "decode", fail)
    with pytest.raises(DeviceError, match="out of memory"):
        list(codec.decode(model, bare(np.zeros((3, 4), np.int16))))


def test_other_errors_of_torch_are_not_renamed(model: Tokenizer, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(model, "encode", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        encode(model, find([photos])[:1])


def test_reading_stops_with_the_reader(model: Tokenizer, tmp_path: Path) -> None:
    sources = [Source(f"{n}", save(tmp_path / f"{n}.png", draw(16, 16, n))) for n in range(40)]
    results = codec.encode(model, sources, EncodeOptions(batch_size=2))
    assert isinstance(next(results), Encoded)
    results.close()
