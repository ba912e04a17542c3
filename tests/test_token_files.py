"""Token files: what is written comes back, and nothing but named errors comes of what is damaged."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenizer.errors import InputError, TokenFileError, UsageError, VqtokError
from tokenizer.placement import RESIZE_MODES, place
from tokenizer.token_files import (
    Failure,
    Header,
    ImageRecord,
    TokenSet,
    bare,
    read,
    sidecar,
    smallest_dtype,
    to_bytes,
    write,
)


def made(
    grids: list[tuple[int, int]], sizes: tuple[int, ...] = (1000,), seed: int = 0, names: list[str] | None = None
) -> TokenSet:
    random = np.random.default_rng(seed)
    records = [
        ImageRecord(names[row] if names else f"{row}.png", grid, place((grid[0] * 8, grid[1] * 8), "none", None, 8))
        for row, grid in enumerate(grids)
    ]
    tokens = tuple(np.stack([random.integers(0, size, grid) for size in sizes], axis=-1) for grid in grids)
    header = Header(
        tuple(records), (Failure("bad.png", "not an image"),), "f" * 64, sizes, 8, {"vqtok": "1", "device": "cpu"}
    )
    return TokenSet(header, tokens)


def assert_same(first: TokenSet, second: TokenSet) -> None:
    assert first.header == second.header
    assert len(first.grids) == len(second.grids)
    for one, other in zip(first.grids, second.grids, strict=True):
        np.testing.assert_array_equal(one, other)


def npy(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def raw_npy(header: str) -> bytes:
    text = header.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def raw_safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text + data


def with_header(values: dict[str, Any], array: np.ndarray) -> bytes:
    return safetensors.numpy.save({"tokens": array}, metadata={"vqtok": json.dumps(values)})


def edited(**changes: Any) -> dict[str, Any]:
    return {**made([(2, 3)]).header.to_json(), **changes}


def arrays_of(data: bytes) -> dict[str, np.ndarray]:
    return safetensors.numpy.load(data)


shapes = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=0, max_size=5)
alphabets = st.lists(
    st.one_of(st.integers(2, 70_000), st.sampled_from([2, 256, 257, 65536, 65537])), min_size=1, max_size=3
)
any_name = st.text(max_size=8) | st.binary(max_size=4).map(os.fsdecode)


class TestRoundTrip:
    @settings(max_examples=60, deadline=None)
    @given(shapes, alphabets.map(tuple), st.integers(0, 99), st.data())
    def test_safetensors(
        self, grids: list[tuple[int, int]], sizes: tuple[int, ...], seed: int, data: st.DataObject
    ) -> None:
        names = [data.draw(any_name) for _ in grids]
        tokens = made(grids, sizes, seed, names)
        stored = to_bytes(tokens, "safetensors")
        assert_same(read(stored), tokens)
        assert to_bytes(read(stored), "safetensors") == stored
        for array in arrays_of(stored).values():
            assert array.dtype == min(
                (d for d in (np.uint8, np.uint16, np.uint32) if np.iinfo(d).max >= max(sizes) - 1),
                key=lambda d: np.iinfo(d).max,
            )

    @pytest.mark.parametrize("sizes", [(300,), (300, 4, 70_000)])
    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_npy_with_its_sidecar(self, tmp_path: Path, sizes: tuple[int, ...], count: int) -> None:
        tokens = made([(2, 5)] * count, sizes)
        path = tmp_path / "t.npy"
        write(path, tokens)
        assert_same(read(path), tokens)
        assert {file.name for file in tmp_path.iterdir()} == {"t.npy", "t.npy.json"}
        assert sidecar(path) == tmp_path / "t.npy.json"
        plain = np.load(path, mmap_mode="r")
        if count:
            assert plain.shape == ((count, 2, 5) if len(sizes) == 1 else (count, 2, 5, 3))
            np.testing.assert_array_equal(plain[-1], tokens.grids[-1][..., 0] if len(sizes) == 1 else tokens.grids[-1])

    @pytest.mark.parametrize("mode", RESIZE_MODES)
    def test_placements_come_back(self, mode: str) -> None:
        placement = place((21, 50), mode, 24, 8)
        grid = (placement.canvas[0] // 8, placement.canvas[1] // 8)
        record = ImageRecord("a.png", grid, placement)
        tokens = TokenSet(Header((record,), codebook_sizes=(4,), downsample=8), (np.zeros((*grid, 1), int),))
        assert read(to_bytes(tokens, "safetensors")).header.images[0].placement == placement

    def test_keys_and_shapes(self) -> None:
        one = arrays_of(to_bytes(made([(2, 3)] * 4), "safetensors"))
        assert {key: value.shape for key, value in one.items()} == {"tokens": (4, 2, 3)}
        several = arrays_of(to_bytes(made([(2, 3), (3, 2), (2, 3)], (9, 9)), "safetensors"))
        assert {key: value.shape for key, value in several.items()} == {
            "tokens_2x3": (2, 2, 3, 2),
            "tokens_3x2": (1, 3, 2, 2),
        }

    @pytest.mark.parametrize(
        ("sizes", "dtype"),
        [((1,), "u1"), ((256,), "u1"), ((257,), "u2"), ((65536,), "u2"), ((65537,), "u4"), ((2, 300), "u2")],
    )
    def test_smallest_dtype(self, sizes: tuple[int, ...], dtype: str) -> None:
        assert smallest_dtype(sizes) == np.dtype(dtype)

    @pytest.mark.parametrize("file_format", ["npy", "safetensors"])
    def test_arrays_that_are_no_plain_memory(self, file_format: str) -> None:
        tokens = made([(4, 6)] * 2)
        views = (
            tokens.grids[0].transpose(1, 0, 2),
            np.repeat(tokens.grids[1], 2, axis=0)[::2].transpose(1, 0, 2)[::-1],
        )
        records = tuple(ImageRecord(f"{row}", (6, 4)) for row in range(2))
        turned = TokenSet(dataclasses.replace(tokens.header, images=records), views)
        stored = to_bytes(turned, file_format)
        found = np.load(io.BytesIO(stored)) if file_format == "npy" else arrays_of(stored)["tokens"]
        np.testing.assert_array_equal(found[0], tokens.grids[0][..., 0].T)
        np.testing.assert_array_equal(found[1], tokens.grids[1][..., 0].T[::-1])

    @pytest.mark.parametrize("file_format", ["npy", "safetensors"])
    def test_two_saves_are_the_same_bytes(self, tmp_path: Path, file_format: str) -> None:
        for name in "ab":
            tokens = made([(2, 3)] * 3)
            shuffled = dict(reversed(tokens.header.made_by.items()))
            header = dataclasses.replace(tokens.header, made_by=shuffled if name == "b" else tokens.header.made_by)
            write(tmp_path / f"{name}.{file_format}", TokenSet(header, tokens.grids))
        assert (tmp_path / f"a.{file_format}").read_bytes() == (tmp_path / f"b.{file_format}").read_bytes()
        if file_format == "npy":
            assert sidecar(tmp_path / "a.npy").read_bytes() == sidecar(tmp_path / "b.npy").read_bytes()

    def test_names_keep_their_order_and_bytes(self, tmp_path: Path) -> None:
        names = ["z.png", "two\nlines", os.fsdecode(b"\xff\xe9"), "[x]", "z.png", "", "é中\U0001f600", "\ud800"]
        tokens = made([(1, 2), (2, 1)] * 4, names=names)
        write(tmp_path / "t.safetensors", tokens)
        assert [record.name for record in read(tmp_path / "t.safetensors").header.images] == names

    def test_every_length_of_header(self) -> None:
        """The first bytes of a safetensors file are a length, which can look like the mark of a pickle."""
        firsts = set()
        for length in range(0, 264, 8):
            stored = to_bytes(made([(1, 1)], names=["x" * length]), "safetensors")
            firsts.add(stored[0])
            assert read(stored).header.images[0].name == "x" * length
        assert 0x80 in firsts

    def test_several_grids_do_not_fit_npy(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"2 different grids .*pass --image-size .*\.safetensors file or a folder"):
            write(tmp_path / "t.npy", made([(1, 2), (2, 1)]))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("value", [256, -1, 1000])
    def test_what_would_turn_into_another_token_is_not_written(self, value: int) -> None:
        header = Header((ImageRecord("a", (1, 2)),), codebook_sizes=(256,))
        with pytest.raises(TokenFileError, match=rf"token {value} at row 0 \(0, 1\) is outside 0\.\.255"):
            to_bytes(TokenSet(header, (np.array([[[0], [value]]]),)), "safetensors")

    def test_codes_per_position(self) -> None:
        assert made([(1, 1)], (4, 4)).codes_per_position == 2
        assert made([], (4, 4, 4)).codes_per_position == 3
        assert bare(np.zeros((2, 2), int)).codes_per_position == 1


class TestBare:
    @pytest.mark.parametrize(
        ("shape", "grid", "count", "codes"),
        [((2, 3), (2, 3), 1, 1), ((4, 2, 3), (2, 3), 4, 1), ((4, 2, 3, 2), (2, 3), 4, 2), ((4, 2, 3, 1), (2, 3), 4, 1)],
    )
    @pytest.mark.parametrize("dtype", ["u1", "<i4", ">i8", "u8"])
    def test_shapes(self, shape: tuple[int, ...], grid: tuple[int, int], count: int, codes: int, dtype: str) -> None:
        array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        for data in (npy(array), npy(np.asfortranarray(array)), safetensors.numpy.save({"codes": array.astype("i8")})):
            tokens = read(data)
            assert tokens.header == Header(tuple(ImageRecord(f"{row:06d}", grid) for row in range(count)))
            assert [found.shape for found in tokens.grids] == [(*grid, codes)] * count
            np.testing.assert_array_equal(np.stack(tokens.grids).ravel(), array.ravel())

    def test_versions_of_npy(self) -> None:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.ones((2, 3), int), version=(2, 0))
        assert read(buffer.getvalue()).grids[0].sum() == 6

    @pytest.mark.parametrize(
        "shape", [(), (3,), (1, 1, 1, 1, 1), (0, 3), (0, 2, 3), (0, 2, 3, 2), (2, 0, 3), (1, 2, 3, 0)]
    )
    def test_other_shapes(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(TokenFileError, match=r"its array has the shape \(.*expected \(h, w\), \(N, h, w\) or"):
            read(npy(np.zeros(shape, int)))

    @pytest.mark.parametrize("dtype", ["float32", "float16", "bool", "complex64", "M8[s]", "m8[s]", "S3", "U2"])
    def test_no_integers(self, dtype: str) -> None:
        array = np.zeros((2, 2), dtype)
        with pytest.raises(TokenFileError, match=r"its tokens are .*, expected integers$"):
            read(npy(array))

    def test_a_structured_array(self) -> None:
        with pytest.raises(TokenFileError, match="expected integers"):
            read(npy(np.zeros((2, 2), [("a", "u1")])))

    def test_several_arrays_without_a_header(self) -> None:
        arrays = {"a": np.zeros((1, 1), np.uint8), "b": np.zeros((1, 1), np.uint8)}
        with pytest.raises(TokenFileError, match="it holds 2 arrays and no vqtok header"):
            read(safetensors.numpy.save(arrays))

    def test_an_empty_safetensors(self) -> None:
        with pytest.raises(TokenFileError, match="it holds 0 arrays"):
            read(raw_safetensors({}))
        with pytest.raises(TokenFileError, match="it holds 0 arrays"):
            read(raw_safetensors({"__metadata__": None}))

    def test_foreign_metadata_is_no_header(self) -> None:
        data = safetensors.numpy.save({"x": np.ones((1, 2), np.uint8)}, metadata={"format": "pt"})
        assert read(data).header.codebook_sizes == ()


class TestRange:
    def test_the_message(self) -> None:
        grids = [np.zeros((4, 9, 1), int) for _ in range(6)]
        grids[5][2, 7] = 20000
        tokens = TokenSet(Header(tuple(ImageRecord("x", (4, 9)) for _ in grids)), tuple(grids))
        with pytest.raises(TokenFileError, match=r"^token 20000 at row 5 \(2, 7\) is outside 0\.\.16383$"):
            tokens.check_range((16384,))
        tokens.check_range((20001,))

    def test_each_code_has_its_own_alphabet(self) -> None:
        tokens = bare(np.array([[[[3, 9], [9, 3]]]]))
        tokens.check_range((10, 10))
        with pytest.raises(TokenFileError, match=r"^token 9 at row 0 \(0, 1\) is outside 0\.\.4$"):
            tokens.check_range((5, 10))

    def test_negative(self) -> None:
        with pytest.raises(TokenFileError, match=r"^token -1 at row 0 \(1, 0\) is outside 0\.\.9$"):
            bare(np.array([[0], [-1]])).check_range((10,))

    def test_other_codes_per_position(self) -> None:
        with pytest.raises(TokenFileError, match="it holds 1 codes per position, the model 2"):
            bare(np.zeros((1, 1), int)).check_range((4, 4))

    def test_huge_unsigned_tokens(self) -> None:
        with pytest.raises(TokenFileError, match="token 18446744073709551615 at row 0"):
            bare(np.array([[2**64 - 1]], np.uint64)).check_range((4,))

    def test_on_reading(self, tmp_path: Path) -> None:
        values = edited(codebook_sizes=[5])
        (tmp_path / "t.safetensors").write_bytes(with_header(values, np.full((1, 2, 3), 5, np.uint8)))
        with pytest.raises(TokenFileError, match=r"t\.safetensors: token 5 at row 0 \(0, 0\) is outside 0\.\.4$"):
            read(tmp_path / "t.safetensors")


class TestDamage:
    def fault(self, tmp_path: Path, data: bytes, suffix: str = "safetensors") -> str:
        """Read from a file and from bytes, and return the message behind the file's name."""
        path = tmp_path / f"t.{suffix}"
        path.write_bytes(data)
        with pytest.raises(TokenFileError):
            read(data)
        with pytest.raises(TokenFileError) as caught:
            read(path)
        name, _, message = str(caught.value).partition(": ")
        assert name == str(path)
        assert len(message.splitlines()) == 1
        return message

    @pytest.mark.parametrize(
        "data", [b"", b"text\n", b"{}", b"\0" * 8, b"\xff" * 64, b"\x89PNG\r\n\x1a\n" + b"\0" * 99]
    )
    def test_foreign(self, tmp_path: Path, data: bytes) -> None:
        assert "neither a .npy nor a .safetensors file" in self.fault(tmp_path, data)

    def test_pickles_and_zips_are_never_opened(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return (os.mkdir, (str(tmp_path / "owned"),))

        archive = io.BytesIO()
        np.savez(archive, tokens=np.zeros((1, 1), int))
        for data in (pickle.dumps(Trap()), pickle.dumps(Trap(), 4), archive.getvalue()):
            assert self.fault(tmp_path, data).startswith("it is a pickle or a zip archive, which is never opened")
        objects = npy(np.array([[Trap()]], object), allow_pickle=True)
        assert "Python objects" in self.fault(tmp_path, objects, "npy")
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize("file_format", ["npy", "safetensors"])
    def test_cut_anywhere(self, file_format: str) -> None:
        tokens = made([(2, 3)] * 2)
        stored = to_bytes(tokens, file_format)
        for length in range(len(stored)):
            with pytest.raises(TokenFileError):
                read(stored[:length])
        with pytest.raises(TokenFileError):
            read(stored + b"\0")

    @pytest.mark.parametrize(
        "header",
        [
            "{'descr': '<u2', 'fortran_order': False, 'shape': (1000000000000, 3, 3), }",
            "{'descr': '<u2', 'fortran_order': False, 'shape': (9223372036854775807, 9, 9), }",
            "{'descr': '<u2', 'fortran_order': False, 'shape': (-1, -3, 3), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }",
            "{'descr': '<u2', 'fortran_order': False, 'shape': (1L, 1), }",
            "{'descr': '<u2', 'fortran_order': False, 'shape': (0777, ), }",
            "{'descr': '<u2', 'fortran_order': False, 'shape': ",
            "{'descr': '<q7', 'fortran_order': False, 'shape': (1, 1), }",
            "'\\d'",
            "(" * 90,
            "-" * 110,
            "  x\n y",
            "'''",
            "",
        ],
    )
    def test_headers_of_npy(self, tmp_path: Path, header: str) -> None:
        assert self.fault(tmp_path, raw_npy(header), "npy").startswith("it is damaged or holds no plain numbers")

    def test_promises_cost_no_memory(self) -> None:
        data = [
            raw_npy("{'descr': '<u2', 'fortran_order': False, 'shape': (100000, 100, 100), }"),
            raw_safetensors({"t": {"dtype": "U8", "shape": [10**9, 10, 10], "data_offsets": [0, 10**11]}}),
            raw_safetensors({"t": {"dtype": "U8", "shape": [2**40, 0], "data_offsets": [0, 0]}}),
            (2**40).to_bytes(8, "little") + b"{}",
            with_header(edited(codebook_sizes=[2**62], images=[]), np.zeros((0, 0, 0), np.uint8)),
            with_header(edited(codebook_sizes=[2**62]), np.zeros((1, 2, 3), np.uint8)),
        ]
        tracemalloc.start()
        for file in data:
            try:
                read(file)
            except TokenFileError:
                continue
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2**20

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"format": "other"}, "its header is not that of a vqtok token file"),
            ({"version": 2}, "it has format version 2, this vqtok reads up to 1: upgrade vqtok"),
            ({"version": None}, "it has format version None"),
            ({"version": "1"}, "it has format version 1"),
            ({"images": None}, "its header is damaged: TypeError"),
            ({"images": [3]}, "its header is damaged"),
            ({"images": [{}]}, "its header is damaged: KeyError"),
            ({"failed": [{"name": 1}]}, "its header is damaged: KeyError 'reason'"),
            ({"codebook_sizes": [0]}, "its header is damaged: ValueError"),
            ({"codebook_sizes": [10**30]}, "its header is damaged: ValueError"),
            ({"codebook_sizes": [float("inf")]}, "its header is damaged: OverflowError"),
            ({"codebook_sizes": [float("nan")]}, "its header is damaged: ValueError"),
            ({"codebook_sizes": []}, "expected"),
            ({"codebook_sizes": [9, 9]}, "its array has the shape (1, 2, 3), expected (N, h, w, 2)"),
            ({"downsample": 0}, "its header is damaged: ValueError"),
            ({"downsample": 16}, "its header is damaged: ValueError a canvas of (16, 24) pixels on a grid of (2, 3)"),
            ({"made_by": []}, "its header is damaged: AttributeError"),
            ({"images": []}, "its arrays hold 1 more rows than its header names"),
        ],
    )
    def test_headers(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        data = with_header(edited(**changes), np.zeros((1, 2, 3), np.uint8))
        assert message in self.fault(tmp_path, data)

    @pytest.mark.parametrize("missing", ["format", "version", "images", "failed", "model", "codebook_sizes", "made_by"])
    def test_headers_without_a_key(self, tmp_path: Path, missing: str) -> None:
        values = edited()
        del values[missing]
        self.fault(tmp_path, with_header(values, np.zeros((1, 2, 3), np.uint8)))

    @pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"x"', "[" * 100_000, "9" * 5000])
    def test_headers_that_are_no_table(self, tmp_path: Path, text: str) -> None:
        data = safetensors.numpy.save({"tokens": np.zeros((1, 2, 3), np.uint8)}, metadata={"vqtok": text})
        assert "its header is" in self.fault(tmp_path, data)

    @pytest.mark.parametrize(
        "change",
        [
            {"offset": [1, 0]},
            {"offset": [-1, 0]},
            {"content": [17, 24]},
            {"canvas": [8, 24]},
            {"box": [0, 0, 0, 24]},
            {"box": [1, 0, 16, 24]},
            {"box": [-1, 0, 16, 24]},
            {"box": [0, 0, 16]},
            {"original": [1]},
            {"original": [-16, 24]},
        ],
    )
    def test_placements_that_cannot_be(self, tmp_path: Path, change: dict[str, Any]) -> None:
        values = edited()
        record = values["images"][0]
        record["placement"] = {**record["placement"], **change}
        data = with_header(values, np.zeros((1, 2, 3), np.uint8))
        assert self.fault(tmp_path, data).startswith("its header is damaged: ValueError")

    @pytest.mark.parametrize(
        "arrays",
        [
            {"tokens": (1, 3, 2)},
            {"tokens": (2, 2, 3)},
            {"tokens": (0, 2, 3)},
            {"tokens": (1, 2, 3), "more": (1, 2, 3)},
            {"other": (1, 2, 3)},
            {"tokens_2x3": (1, 2, 3)},
            {"tokens": (2, 3)},
        ],
    )
    def test_arrays_that_contradict_the_header(self, tmp_path: Path, arrays: dict[str, tuple[int, ...]]) -> None:
        zeros = {key: np.zeros(shape, np.uint8) for key, shape in arrays.items()}
        self.fault(tmp_path, safetensors.numpy.save(zeros, metadata={"vqtok": json.dumps(edited())}))

    def test_float_tokens_under_a_header(self, tmp_path: Path) -> None:
        data = with_header(edited(), np.zeros((1, 2, 3), np.float32))
        assert self.fault(tmp_path, data) == "its tokens are float32, expected integers"

    def test_sidecars(self, tmp_path: Path) -> None:
        path = tmp_path / "t.npy"
        write(path, made([(2, 3)]))
        for text in ("{", "[]", json.dumps(edited(images=[]))):
            sidecar(path).write_text(text)
            with pytest.raises(TokenFileError, match=r"t\.npy: its "):
                read(path)
        sidecar(path).write_bytes(b"\xff")
        with pytest.raises(InputError, match=r"cannot read .*t\.npy: "):
            read(path)
        sidecar(path).unlink()
        assert read(path).header == bare(np.load(path)).header

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"cannot read .*gone\.npy: No such file or directory$"):
            read(tmp_path / "gone.npy")
        with pytest.raises(InputError, match=r"Is a directory$"):
            read(tmp_path)


SAFETENSORS = to_bytes(made([(2, 3), (1, 2), (2, 3)], (300, 7)), "safetensors")
PLAIN = safetensors.numpy.save({"tokens": np.arange(6, dtype=np.uint16).reshape(1, 2, 3)})
NPY = to_bytes(made([(2, 3)] * 2), "npy")


class TestFuzz:
    @settings(max_examples=400, deadline=None)
    @given(
        st.sampled_from([SAFETENSORS, PLAIN, NPY]),
        st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
        st.integers(0, 40),
    )
    @example(NPY, [(NPY.index(b"<u2") + 1, ord("m"))], 0)
    def test_only_named_errors_escape(self, stored: bytes, flips: list[tuple[int, int]], cut: int) -> None:
        data = bytearray(stored)
        for place_, value in flips:
            data[place_ % min(len(data), 400)] = value
        try:
            tokens = read(bytes(data[: len(data) - cut]))
        except VqtokError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017
        else:
            assert all(grid.ndim == 3 and grid.dtype.kind in "iu" for grid in tokens.grids)
            assert [grid.shape[:2] for grid in tokens.grids] == [record.grid for record in tokens.header.images]

    @settings(max_examples=150, deadline=None)
    @given(
        st.binary(max_size=60),
        st.sampled_from([b"", b"\x93NUMPY", b"\x93NUMPY\x01\0v\0", b"\x20\0\0\0\0\0\0\0{", b"PK"]),
    )
    def test_rubbish(self, data: bytes, start: bytes) -> None:
        with pytest.raises(TokenFileError):
            read(start + data)

    @settings(max_examples=150, deadline=None)
    @given(
        st.sampled_from(["images", "failed", "model", "codebook_sizes", "downsample", "made_by", "version", "format"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
    )
    def test_headers_of_any_values(self, key: str, value: Any) -> None:
        data = with_header(edited(**{key: value}), np.zeros((1, 2, 3), np.uint8))
        try:
            tokens = read(data)
        except TokenFileError:
            return
        assert len(tokens.grids) == len(tokens.header.images)
