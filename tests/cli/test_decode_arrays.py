"""`vqtok decode`: arrays as generators write them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.cli.conftest import Vqtok
from tests.cli.reference import decoded, pixels, same, tree
from tokenizer import train
from tokenizer.config import TrainConfig
from tokenizer.models import describe_checkpoint

GRIDS = np.random.default_rng(0).integers(0, 32, (4, 3, 5, 1))  # (N, h, w, C)


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, photos: Path, quick: TrainConfig) -> Path:
    """A run with two codes for each position."""
    folder = tmp_path_factory.mktemp("pairs") / "run"
    settings = {"name": "residual", "stages": [{"name": "diveq", "codebook_size": 32}] * 2}
    plan = train.plan_run(replace(quick, quantizer=settings), [photos])
    for _ in train.train(plan, train.begin_run(plan), folder):
        pass
    assert describe_checkpoint(folder).codebook_sizes == (32, 32)
    return folder


def wanted(run: Path, grids: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{row:06d}.png": decoded(run, grid) for row, grid in enumerate(grids)}


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((4, 3, 5), ()),
        ((4, 3, 5, 1), ()),
        ((4, 15), ("--grid", "3x5")),
        ((4, 15, 1), ("--grid", "3x5")),
        ((4, 3, 5), ("--grid", "3x5")),
        ((4, 3, 5, 1), ("--grid", "3x5")),
    ],
)
def test_many_images(
    vqtok: Vqtok, run: Path, tmp_path: Path, shape: tuple[int, ...], arguments: tuple[str, ...]
) -> None:
    np.save(tmp_path / "t.npy", GRIDS.reshape(shape))
    assert vqtok("decode", tmp_path / "t.npy", "-m", run, "-o", tmp_path / "back", *arguments).code == 0
    assert same(tree(tmp_path / "back"), wanted(run, GRIDS))


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [((3, 5), ()), ((15,), ("--grid", "3x5")), ((1, 15), ("--grid", "3x5")), ((3, 5), ("--grid", "3x5"))],
)
def test_one_image(vqtok: Vqtok, run: Path, tmp_path: Path, shape: tuple[int, ...], arguments: tuple[str, ...]) -> None:
    data = npy(GRIDS[0].reshape(shape))
    assert vqtok("decode", "-", "-m", run, "-o", tmp_path / "000000.png", *arguments, stdin=data).code == 0
    assert same(tree(tmp_path), wanted(run, GRIDS[:1]))


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2, 3, 5, 2), ()),
        ((2, 3, 5, 2), ("--grid", "3x5")),
        ((2, 15, 2), ("--grid", "3x5")),
        ((2, 30), ("--grid", "3x5")),
    ],
)
def test_several_codes_a_position(
    vqtok: Vqtok, pair: Path, tmp_path: Path, shape: tuple[int, ...], arguments: tuple[str, ...]
) -> None:
    grids = GRIDS.reshape(2, 3, 5, 2)
    np.save(tmp_path / "t.npy", grids.reshape(shape))
    assert vqtok("decode", tmp_path / "t.npy", "-m", pair, "-o", tmp_path / "back", *arguments).code == 0
    assert same(tree(tmp_path / "back"), wanted(pair, grids))
    coarse = ("--codes", 1, *arguments)
    assert vqtok("decode", tmp_path / "t.npy", "-m", pair, "-o", tmp_path / "coarse", *coarse).code == 0
    assert same(tree(tmp_path / "coarse"), wanted(pair, grids[..., :1]))


@pytest.mark.parametrize(
    "dtype", ["i1", "u1", "<i2", ">i2", "<u2", ">u2", "<i4", ">i4", "<u4", ">u4", "<i8", ">i8", "<u8", ">u8"]
)
def test_integers_of_any_width(vqtok: Vqtok, run: Path, tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "t.npy", GRIDS[:1, ..., 0].astype(dtype))
    assert vqtok("decode", tmp_path / "t.npy", "-m", run, "-o", tmp_path / "000000.png").code == 0
    (tmp_path / "t.npy").unlink()
    assert same(tree(tmp_path), wanted(run, GRIDS[:1]))


@pytest.mark.parametrize("kind", ["npz", "packed", "named", "safetensors", "fortran", "strided"])
def test_files_of_any_kind(vqtok: Vqtok, run: Path, tmp_path: Path, kind: str) -> None:
    array = GRIDS.reshape(4, 15)
    path = tmp_path / f"t.{kind if kind in ('npz', 'safetensors') else 'npy'}"
    if kind in ("npz", "packed", "named"):
        path = path.with_suffix(".npz")
        save = np.savez_compressed if kind == "packed" else np.savez
        save(path, **({"tokens": array, "other": array[:1]} if kind == "named" else {"x": array}))
    elif kind == "safetensors":
        safetensors.numpy.save_file({"x": array.astype(np.int32)}, path)
    else:
        np.save(path, np.asfortranarray(array) if kind == "fortran" else np.repeat(array, 2, 1)[:, ::2])
    assert vqtok("decode", path, "-m", run, "-o", tmp_path / "back", "--grid", "3x5").code == 0
    assert same(tree(tmp_path / "back"), wanted(run, GRIDS))


def test_names_of_several_arrays_do_not_collide(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", GRIDS[:2, ..., 0])
    twice = (tmp_path / "t.npy", tmp_path / "t.npy")
    assert vqtok("decode", *twice, "-m", run, "-o", tmp_path / "back").code == 0
    assert sorted(tree(tmp_path / "back")) == ["000000-1.png", "000000.png", "000001-1.png", "000001.png"]


def test_a_square_is_not_guessed(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.zeros((2, 16), np.int64))
    assert vqtok("decode", tmp_path / "t.npy", "-m", run, "-o", tmp_path / "x.png").code == 0
    assert pixels(tmp_path / "x.png").shape == (16, 128, 3)


def out_of_range() -> np.ndarray:
    array = np.zeros((6, 4, 9), np.int32)
    array[5, 2, 7] = 20000
    return array


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (npy(np.zeros((2, 2, 2), np.float32)), "its tokens are float32, expected integers"),
        (npy(np.zeros(7, np.int64)), "its array has the shape (7,), expected (h, w), (N, h, w) or (N, h, w, C)"),
        (npy(np.zeros((1, 2, 2, 3), np.int64)), "it holds 3 codes per position, the model 1"),
        (npy(out_of_range()), "token 20000 at row 5 (2, 7) is outside 0..31"),
        (npy(-out_of_range()), "token -20000 at row 5 (2, 7) is outside 0..31"),
        (npy(np.array([[None]])), "it is damaged or holds no plain numbers: "),
        (npy(np.zeros((9, 9), np.int64))[:200], "it is damaged or holds no plain numbers: "),
        (b"\x80\x04pickle", "it is a pickle or a zip archive, which is never opened"),
        (b"PK\x03\x04", "it is a damaged .npz"),
        (b"GIF89a", "it is neither a .npy nor a .safetensors file, or is damaged"),
        (safetensors.numpy.save({"t": np.zeros((9, 9))})[:90], "it is neither a .npy nor a .safetensors file"),
        (safetensors.numpy.save({n: np.zeros((2, 2), int) for n in "ab"}), "it holds 2 arrays and no vqtok header"),
    ],
)
def test_damaged_tokens(vqtok: Vqtok, run: Path, tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "bad.npy"
    path.write_bytes(data)
    for name, stdin in ((path, b""), ("-", data)):
        result = vqtok("decode", name, "-m", run, "-o", tmp_path / "back", stdin=stdin)
        assert result.code == 1
        assert result.error.startswith(f"vqtok decode: error: {'stdin' if stdin else path}: ")
        assert said in result.error
    assert list(tmp_path.iterdir()) == [path]


def test_the_place_of_a_wrong_token_among_those_picked(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", out_of_range())
    result = vqtok("decode", tmp_path / "t.npy", "-m", run, "-o", tmp_path / "back", "--index", "3:")
    assert result.error.startswith(f"vqtok decode: error: {tmp_path}/t.npy[3:6]: token 20000 at row 2 (2, 7) is")
    assert vqtok("decode", tmp_path / "t.npy", "-m", run, "-o", tmp_path / "back", "--index", ":5").code == 0


@pytest.mark.parametrize(
    ("shape", "grid", "said"),
    [
        ((4, 15), "4x4", "its array has the shape (4, 15), a grid of 4x4 needs (N, 16)"),
        ((15,), "4x4", "its array has the shape (1, 15), a grid of 4x4 needs (N, 16)"),
        ((4, 3, 5), "5x3", "its array has the shape (4, 3, 5), a grid of 5x3 needs (N, 15)"),
        ((4, 30), "3x5", "its array has the shape (4, 30), a grid of 3x5 needs (N, 15)"),
        ((4, 15), "15", "--grid is '15', expected HxW, such as 16x16"),
        ((4, 15), "0x15", "--grid is '0x15', expected HxW"),
        ((4, 15), "3x5x1", "--grid is '3x5x1', expected HxW"),
        ((4, 15), "-3x-5", "--grid is '-3x-5', expected HxW"),
    ],
)
def test_wrong_grids(vqtok: Vqtok, run: Path, tmp_path: Path, shape: tuple[int, ...], grid: str, said: str) -> None:
    data = npy(np.zeros(shape, np.int64))
    for name in (tmp_path / "t.npy", "-"):
        (tmp_path / "t.npy").write_bytes(data)
        result = vqtok("decode", name, "-m", run, "-o", tmp_path / "back", f"--grid={grid}", stdin=data)
        assert result.code == 2
        assert said in result.error
