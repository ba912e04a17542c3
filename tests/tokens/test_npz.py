"""`.npz` archives: one array is found, and none is unpacked that is too good to be true."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tokens.conftest import made
from tokenizer.errors import TokenFileError, UsageError
from tokenizer.tokens import array_files, read_tokens, write_tokens

ARRAY = np.arange(24, dtype=np.int32).reshape(2, 3, 4)


def npz(save: Any = np.savez, **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def patched(data: bytes, offset: int, form: str, value: int, *, local: int | None = None) -> bytes:
    """The archive with one number changed in its directory, and in front of its member too where `local` says."""
    edited = bytearray(data)
    struct.pack_into(form, edited, data.index(b"PK\x01\x02") + offset, value)
    if local is not None:
        struct.pack_into(form, edited, local, value)
    return bytes(edited)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["tokens", "codes", "arr_0"])
def test_one_array(tmp_path: Path, save: Any, name: str) -> None:
    data = npz(save, **{name: ARRAY})
    (tmp_path / "t.npz").write_bytes(data)
    for tokens in (read_tokens(data), read_tokens(tmp_path / "t.npz")):
        np.testing.assert_array_equal(np.stack(list(tokens.grids))[..., 0], ARRAY)
        assert [record.name for record in tokens.images] == ["000000", "000001"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_compression(method: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, archive.open("tokens.npy", "w") as member:
        np.save(member, ARRAY)
    np.testing.assert_array_equal(read_tokens(buffer.getvalue()).grids[1][..., 0], ARRAY[1])


def test_sequences() -> None:
    found = read_tokens(npz(tokens=ARRAY.reshape(2, 12)), (3, 4))
    np.testing.assert_array_equal(np.stack(list(found.grids))[..., 0], ARRAY)
    with pytest.raises(UsageError, match=r"a grid of 5x5 needs \(N, 25\)"):
        read_tokens(npz(tokens=ARRAY.reshape(2, 12)), (5, 5))


def test_several_arrays() -> None:
    np.testing.assert_array_equal(read_tokens(npz(labels=np.zeros(3), tokens=ARRAY)).grids[0][..., 0], ARRAY[0])
    with pytest.raises(TokenFileError, match=r"^it holds 2 arrays: save one, or call it tokens$"):
        read_tokens(npz(labels=np.zeros(3), codes=ARRAY))


def test_floats_and_fortran_order() -> None:
    with pytest.raises(TokenFileError, match=r"^its tokens are float64, expected integers$"):
        read_tokens(npz(tokens=ARRAY / 2))
    turned = npz(tokens=np.asfortranarray(ARRAY.astype(">u8")))
    np.testing.assert_array_equal(read_tokens(turned).grids[1][..., 0], ARRAY[1])


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.mkdir, (tmp_path / "owned",))

    objects = npz(tokens=np.array([[Trap()]], object))
    with pytest.raises(TokenFileError, match="Python objects"):
        read_tokens(objects)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # as torch saves
        archive.writestr("archive/data.pkl", pickle.dumps(Trap()))
    with pytest.raises(TokenFileError, match=r"it is a zip archive without arrays, maybe a pickle: save \.npy or"):
        read_tokens(buffer.getvalue())
    assert not (tmp_path / "owned").exists()


class TestBombs:
    @pytest.fixture(autouse=True)
    def little_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(array_files, "_UNPACKED_BYTES", 2**16)

    bomb = npz(np.savez_compressed, tokens=np.zeros((1000, 1000), np.uint8))
    refused = r"it unpacks to \d+ bytes: save it as \.npy$"

    def peak(self, data: bytes, message: str) -> int:
        tracemalloc.start()
        try:
            with pytest.raises(TokenFileError, match=message):
                read_tokens(data)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def test_compressed_too_well(self) -> None:
        assert len(self.bomb) < 10**4
        assert self.peak(self.bomb, self.refused) < 2**18

    def test_a_directory_that_says_the_member_is_large(self) -> None:
        assert self.peak(patched(self.bomb, 20, "<I", 2**31), self.refused) < 2**18

    def test_a_directory_that_says_the_array_is_small(self) -> None:
        assert self.peak(patched(self.bomb, 24, "<I", 2**15), r"it is a damaged \.npz: ") < 2**19

    def test_as_well_as_tokens_may_be(self) -> None:
        tokens = np.random.default_rng(0).integers(0, 4, (500, 500)).astype(np.int64)
        np.testing.assert_array_equal(read_tokens(npz(np.savez_compressed, tokens=tokens)).grids[0][..., 0], tokens)


class TestDamage:
    whole = npz(np.savez_compressed, tokens=ARRAY)

    def test_cut_anywhere(self) -> None:
        for length in range(len(self.whole)):
            with pytest.raises(TokenFileError) as caught:
                read_tokens(self.whole[:length])
            assert len(str(caught.value).splitlines()) == 1

    def test_any_byte_changed(self) -> None:
        """A zip has bytes that mean nothing, so that some changes are none; the others are named errors."""
        for position in range(len(self.whole)):
            data = bytearray(self.whole)
            data[position] ^= 0xFF
            try:
                tokens = read_tokens(bytes(data))
            except TokenFileError as error:
                assert len(str(error).splitlines()) == 1  # noqa: PT017
            else:
                np.testing.assert_array_equal(np.stack(list(tokens.grids))[..., 0], ARRAY)

    def test_encrypted(self) -> None:
        data = patched(self.whole, 8, "<H", 1, local=6)
        with pytest.raises(TokenFileError, match=r"it is a damaged \.npz: .*is encrypted, password required"):
            read_tokens(data)

    def test_a_method_that_nobody_knows(self) -> None:
        with pytest.raises(TokenFileError, match=r"it is a damaged \.npz: That compression method is not supported"):
            read_tokens(patched(self.whole, 10, "<H", 99, local=8))

    def test_a_member_that_is_no_array(self) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("tokens.npy", b"text")
        with pytest.raises(TokenFileError, match="it is damaged or holds no plain numbers"):
            read_tokens(buffer.getvalue())


def test_npz_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="use npy or safetensors"):
        write_tokens(tmp_path / "t.npz", made([(1, 1)]))
