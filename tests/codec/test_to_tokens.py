"""Images to tokens: in order, streaming, and without a trace when it stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch

from tests.codec.conftest import drawn, encode, torch_threads
from tests.conftest import draw
from tokenizer import codec
from tokenizer.codec import Encoded, EncodeOptions, Unreadable
from tokenizer.codec import to_tokens as encoding
from tokenizer.errors import DeviceError, InputError, NonFiniteError
from tokenizer.images import Source
from tokenizer.inputs import find_images
from tokenizer.models import Tokenizer


def names_of_threads() -> set[str]:
    return {thread.name.rpartition("_")[0] for thread in threading.enumerate()}


@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
def test_one_size_for_all(model: Tokenizer, photos: Path, mode: str) -> None:
    tokens = encode(model, list(find_images([photos])), image_size=40, resize_mode=mode)
    assert {record.grid for record in tokens.images} == {(5, 5)}
    for record, canvas in codec.decode_tokens(model, zip(tokens.images, tokens.grids, strict=True)):
        assert record.placement is not None
        wanted = (40, 40) if mode == "crop" else record.placement.original
        assert record.placement.restore(canvas).shape[:2] == wanted


def test_unreadable_images_are_in_their_place(model: Tokenizer, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no")
    good = find_images([photos])[:3]
    sources = [good[0], Source("bad.png", tmp_path / "bad.png"), good[1], good[2]]
    results = list(codec.encode_images(model, sources, EncodeOptions(batch_size=2)))
    assert [result.source for result in results] == sources
    assert [type(result) for result in results] == [Encoded, Unreadable, Encoded, Encoded]
    tokens = encode(model, sources)
    assert [failure.name for failure in tokens.failed] == ["bad.png"]
    assert [record.name for record in tokens.images] == [source.name for source in good]
    assert np.array_equal(tokens.grids[1], encode(model, [good[1]]).grids[0])


class TestStream:
    @pytest.mark.parametrize("size", [(8, 8), (256, 256)])
    def test_few_images_are_in_memory(
        self, model: Tokenizer, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
    ) -> None:
        monkeypatch.setattr(encoding, "PIXELS_AHEAD", 2**20)  # 16 of the larger ones
        asked, pixels = 0, draw(*size)

        def sources() -> Iterator[Source]:
            nonlocal asked
            while asked < 100:
                yield Source(str(asked), lambda: pixels)
                asked += 1

        count, most = 0, 0
        for result in codec.encode_images(model, sources(), EncodeOptions(batch_size=3, workers=2)):
            assert isinstance(result, Encoded)
            assert result.source.name == str(count)
            count += 1
            most = max(most, asked - count)
        assert count == 100
        assert most <= (64 if size == (8, 8) else 8) + 2 * 2

    def test_an_image_of_a_rare_size_does_not_wait_for_the_end(self, model: Tokenizer) -> None:
        asked = 0

        def sources() -> Iterator[Source]:
            nonlocal asked
            for source in drawn((24, 24), *[(8, 8)] * 99):
                asked += 1
                yield source

        results = codec.encode_images(model, sources(), EncodeOptions(batch_size=4))
        assert next(results).source.name == "0"
        assert asked < 80
        assert [result.source.name for result in results] == [str(number) for number in range(1, 100)]

    def test_images_of_all_sizes(self, model: Tokenizer) -> None:
        sizes = [(8 + number, 90 - number) for number in range(80)]
        with torch_threads(2):
            results = list(codec.encode_images(model, drawn(*sizes), EncodeOptions(batch_size=4)))
        placements = [result.record.placement for result in results if isinstance(result, Encoded)]
        assert [placement.original for placement in placements if placement] == sizes


class TestStops:
    def test_early(self, model: Tokenizer) -> None:
        with torch_threads(2):
            results = codec.encode_images(model, drawn(*[(32, 32)] * 200), EncodeOptions(batch_size=2, workers=3))
            next(results)
            assert {"images", "network"} <= names_of_threads()
            results.close()
            assert not {"images", "network"} & names_of_threads()
            assert torch.get_num_threads() == 2

    def test_while_readers_wait_for_room(self, model: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(encoding, "PIXELS_AHEAD", 2000)
        results = codec.encode_images(model, drawn(*[(40, 40)] * 50), EncodeOptions(workers=4))
        next(results)
        results.close()
        assert not {"images", "network"} & names_of_threads()

    def test_when_the_network_fails(self, model: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(model, "latents", fail)
        with torch_threads(2):
            with pytest.raises(DeviceError, match=r"^out of memory: pass a smaller --batch-size, or --image-size$"):
                list(codec.encode_images(model, drawn(*[(32, 32)] * 200), EncodeOptions(batch_size=2)))
            assert not {"images", "network"} & names_of_threads()
            assert torch.get_num_threads() == 2

    @pytest.mark.parametrize("error", [RuntimeError("a bug"), NonFiniteError("a latent is not finite")])
    def test_other_errors_are_not_renamed(
        self, model: Tokenizer, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(model, "latents", fail)
        with pytest.raises(type(error), match=str(error)):
            encode(model, drawn((8, 8)))

    def test_at_the_end_of_what_can_be_read(self, model: Tokenizer) -> None:
        """A damaged archive: what came before the damage is not lost."""

        def sources() -> Iterator[Source]:
            yield from drawn((8, 8), (16, 16), (8, 8))
            raise InputError("the archive is truncated")

        results = codec.encode_images(model, sources(), EncodeOptions())
        assert [next(results).source.name for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(InputError, match="truncated"):
            next(results)

    def test_at_once_whatever_waits_in_line(self, model: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
        began = []

        def slow(*_: object) -> None:
            began.append(time.sleep(0.05))

        monkeypatch.setattr(model, "latents", slow)
        results = codec.encode_images(model, drawn(*[(256, 256)] * 60), EncodeOptions(batch_size=1))
        with pytest.raises(TypeError):
            next(results)
        assert len(began) < 10


def test_nothing_comes_of_nothing(model: Tokenizer) -> None:
    assert list(codec.encode_images(model, [], EncodeOptions())) == []


def test_the_header_says_how(model: Tokenizer) -> None:
    header = codec.token_header(model, "print", EncodeOptions(256, "crop", (255, 0, 16), precision="bfloat16"))
    assert (header.model, header.codebook_sizes, header.downsample) == ("print", (32,), 8)
    assert header.options == {"image_size": 256, "resize_mode": "crop", "alpha": "#ff0010", "precision": "bfloat16"}
    assert set(header.made_by) == {"vqtok", "torch", "pillow", "libjpeg", "device"}
    assert header.made_by["pillow"] == PIL.__version__
    assert header.made_by["libjpeg"][0].isdigit()
    assert header.made_by["device"] == "cpu"


class TestCompiled:
    """With a stand-in for torch.compile, which takes a minute."""

    def test_the_compiled_encoder_is_the_one_that_runs(self, model: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
        ran_on = set()

        def compiled(module: torch.nn.Module, *, dynamic: bool) -> Callable[[torch.Tensor], torch.Tensor]:
            assert module is model.encoder
            assert dynamic

            def run(images: torch.Tensor) -> torch.Tensor:
                ran_on.add((threading.current_thread().name, torch.get_num_threads()))
                return module(images)

            return run

        monkeypatch.setattr(torch, "compile", compiled)
        sources = drawn(*[(24, 32)] * 5, (64, 64), (8, 8))
        wanted = encode(model, sources)
        with torch_threads(3):
            made = encode(model, sources, compile=True, batch_size=2)
        assert ran_on == {("network_0", 3)}  # its kernels share the processors among themselves
        assert all(map(np.array_equal, made.grids, wanted.grids))

    def test_what_cannot_be_compiled_is_said_in_a_line(self, model: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
        from torch._dynamo.exc import TorchDynamoException

        def fail(_: object) -> None:
            raise TorchDynamoException("no compiler\nin sight")

        monkeypatch.setattr(torch, "compile", lambda module, dynamic: fail)
        with pytest.raises(DeviceError, match=r"cannot be compiled here, leave --compile out: no compiler$"):
            encode(model, drawn((8, 8)), compile=True)
