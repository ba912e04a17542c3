"""Sizes that lie, in manifests, indexes, tars and headers: what is asked for stays near what is there."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.__main__ import main
from tests.tokens.conftest import header_with, lines_of, made, npy, one, read_all, row_with, with_header
from tokenizer.errors import ImageError, InputError, TokenFileError
from tokenizer.images import placement_of, read_image
from tokenizer.images.placement import RESIZE_MODES
from tokenizer.inputs import Archive
from tokenizer.models import load_model
from tokenizer.tokens import find_token_files, load_tokens, read_tokens, sidecar_of, write_tokens


@contextmanager
def little_memory(most: int = 2**22) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"original": [10**9, 10**9]},
            "a picture of (1000000000, 1000000000) pixels that became (16, 24) in mode none",
        ),
        ({"original": [17, 24]}, "that became (16, 24) in mode none"),
        ({"content": [15, 24]}, "that became (15, 24) in mode none"),
        ({"mode": "squash", "original": [2**14, 2**15]}, "more than any reader takes"),
        ({"mode": "pad", "original": [2**40, 2**40]}, "more than any reader takes"),
        ({"mode": "other"}, "the resize mode 'other'"),
        ({"mode": "x" * 10**5}, "the resize mode 'xxxx"),
    ],
)
def test_originals_that_their_tokens_cannot_have(change: dict[str, Any], reason: str) -> None:
    with little_memory(), pytest.raises(TokenFileError) as caught:
        read_all(read_tokens(with_header(one(), header_with(), [row_with(**change)])))
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_canvas_of_a_tokenizer_that_nobody_names() -> None:
    with pytest.raises(TokenFileError, match=r"a canvas of \(16, 24\) pixels on a grid of \(2, 3\)"):
        read_all(read_tokens(with_header(one(), header_with(downsample=None), [row_with()])))


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    st.sampled_from(RESIZE_MODES),
    st.none() | st.integers(1, 600),
    st.sampled_from([4, 8, 16, 32]),
)
def test_every_placement_is_possible(original: tuple[int, int], mode: str, size: int | None, multiple: int) -> None:
    placement_of(original, mode, size, multiple, (1, 2, 4, 8)).check()


def test_tokens_of_another_downsampling(run: Path) -> None:
    model = load_model(run, "cpu")
    tokens = made([(2, 3)], (32,))
    model.check("x", tokens, allow_mismatch=True)
    other = dataclasses.replace(tokens, header=dataclasses.replace(tokens.header, downsample=16))
    with pytest.raises(TokenFileError, match="stand for 16 pixels along each side, the model's for 8"):
        model.check("x", other, allow_mismatch=True)


def test_the_first_of_many_tokens_outside(tmp_path: Path) -> None:
    tokens = read_tokens(npy(np.full((1, 1000, 1000), 200, np.uint8)))
    with little_memory(2**24), pytest.raises(TokenFileError, match=r"token 200 at row 0 \(0, 0\) is outside 0\.\.99"):
        tokens.check_range((100,))


def index(folder: Path, shards: object, **changes: object) -> None:
    (folder / "index.json").write_text(json.dumps({"format": "vqtok-index", "version": 1, "shards": shards, **changes}))


@pytest.mark.parametrize(
    ("shards", "said"),
    [
        ([{"name": "t.npy", "images": -1}], "a shard of -1 images"),
        ([{"name": "t.npy", "images": 2**63}], "a shard of 9223372036854775808 images"),
        ([{"name": "t.npy", "images": float("inf")}], "OverflowError"),
        ([{"name": "t.npy", "images": 1}] * 2, "a shard is named twice"),
        ([{"name": "..", "images": 1}], "'..' is no name of a shard"),
        ([{"name": "", "images": 1}], "'' is no name of a shard"),
        ([{"name": "a\0.npy", "images": 1}], "is no name of a shard"),
        ([{"name": "\ud800", "images": 1}], "UnicodeEncodeError"),
        ([[1]], "TypeError"),
        ({"name": 1}, "TypeError"),
        (3, "TypeError"),
    ],
)
def test_indexes_that_lie(tmp_path: Path, shards: object, said: str) -> None:
    index(tmp_path, shards)
    with pytest.raises(InputError) as caught:
        find_token_files(tmp_path)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_counts_that_no_shard_holds(tmp_path: Path) -> None:
    write_tokens(tmp_path / "t.npy", made([(2, 3)] * 2))
    index(tmp_path, [{"name": "t.npy", "images": 2**40}, {"name": "gone.npy", "images": 2**40}])
    with little_memory(), pytest.raises(InputError, match="holds 2 images, its folder's list says 1099511627776"):
        load_tokens(tmp_path)
    index(tmp_path, [{"name": "t.npy", "images": 2}, {"name": "gone.npy", "images": 2**40}])
    array = load_tokens(tmp_path)
    with little_memory(), pytest.raises(InputError, match=r"cannot read .*gone\.npy"):
        np.asarray(array)


def vqtok(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["vqtok", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_every_command_says_it_in_one_line(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    index(tmp_path / "empty", [])
    large = made([(2, 3)])
    write_tokens(
        tmp_path / "large.safetensors",
        dataclasses.replace(large, header=dataclasses.replace(large.header, codebook_sizes=(2**62,))),
    )
    (tmp_path / "lie.safetensors").write_bytes(with_header(one(), header_with(), [row_with(original=[10**9, 10**9])]))
    (tmp_path / "cut.npy").write_bytes(npy(np.zeros((2, 3), np.uint8))[:-1])
    calls = [
        (["info", tmp_path / "empty"], "holds no tokens"),
        (["report", tmp_path / "empty"], "holds no tokens"),
        (["report", tmp_path / "large.safetensors"], "there are 4611686018427387904 codes to count, at most"),
        (["report", tmp_path / "lie.safetensors"], "that became (16, 24) in mode none"),
        (["decode", tmp_path / "lie.safetensors", "-m", run, "-o", tmp_path / "o", "--allow-mismatch"], "in mode none"),
        (["decode", tmp_path / "cut.npy", "-m", run, "-o", tmp_path / "o"], "its header promises 6"),
        (["info", tmp_path / "cut.npy"], "its header promises 6"),
        (["export", "-m", tmp_path / "cut.npy", "-o", tmp_path / "o"], "is a file, a checkpoint is a folder"),
        (["encode", photos, "-m", tmp_path / "empty", "-o", tmp_path / "o"], "is not a checkpoint"),
        (["train", photos, "-o", tmp_path / "o", "--init-from", tmp_path / "empty"], "is not a checkpoint"),
        (["train", photos, "-o", tmp_path / "empty", "--resume"], "there is no training to resume"),
    ]
    for arguments, said in calls:
        assert vqtok(monkeypatch, *arguments) == 1, arguments
        out, err = capsys.readouterr()
        assert out == ""
        assert said in err
        assert err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def member(name: str, data: bytes = b"", **changes: Any) -> bytes:
    """One member of a tar, whose header may lie."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in changes.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def sample(stem: str = "a") -> bytes:
    about = {"header": header_with(), "image": row_with()}
    return member(f"{stem}.npy", npy(np.zeros((2, 3), np.uint16))) + member(
        f"{stem}.vqtok.json", json.dumps(about).encode()
    )


END = bytes(1024)
SPARSE = member("s.png", type=tarfile.GNUTYPE_SPARSE)


def holes(size: int, data: bytes = b"x" * 512) -> bytes:
    """A sparse member of that many bytes, of which few are there."""
    block = bytearray(member("a.png", data, type=tarfile.GNUTYPE_SPARSE))
    block[386:410] = b"%011o\0%011o\0" % (0, len(data))
    block[483:495] = (0x80 << 88 | size).to_bytes(12, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


LYING: list[tuple[str, bytes]] = [
    ("a long name of 2^62 bytes", member("L", b"x", type=tarfile.GNUTYPE_LONGNAME, size=2**62)),
    ("a pax header of 2^62 bytes", member("x", b"9 a=b\n", type=tarfile.XHDTYPE, size=2**62)),
    ("a member of 2^62 bytes", member("b.npy", b"x", size=2**62)),
    ("a member of less than nothing", member("b.npy", b"x", size=-512)),
    ("long names without end", member("L", b"x", type=tarfile.GNUTYPE_LONGNAME) * 3000),
    ("holes", holes(2**50)),
    (
        "links",
        member("b.npy", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        + member("c.npy", type=tarfile.LNKTYPE, linkname="../x"),
    ),
    ("devices and pipes", member("b.npy", type=tarfile.CHRTYPE) + member("c.npy", type=tarfile.FIFOTYPE)),
    ("folders", member("b.npy/", type=tarfile.DIRTYPE)),
    ("an unknown kind", member("b.npy", b"x", type=b"?")),
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("data", [data for _, data in LYING], ids=[name for name, _ in LYING])
def test_tars_of_tokens_that_lie(data: bytes, tmp_path: Path) -> None:
    """What is no file of the archive is left out; nothing is unpacked or asked for."""
    (tmp_path / "t.tar").write_bytes(sample() + data + sample("z") + END)
    with little_memory(2**23):
        try:
            tokens = read_all(read_tokens(tmp_path / "t.tar"))
        except TokenFileError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017
        else:
            assert len(tokens.images) in (1, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["t.tar"]


def all_of(data: bytes | Path) -> list[str]:
    """Read every image of an archive, and return what each came to."""
    found = []
    for source in Archive("t", io.BytesIO(data) if isinstance(data, bytes) else data).sources():
        try:
            read_image(source.file)
            found.append(source.name)
        except ImageError as error:
            found.append(str(error))
    return found


@pytest.mark.timeout(20)
@pytest.mark.parametrize("data", [data for _, data in LYING], ids=[name for name, _ in LYING])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_tars_of_images_that_lie(data: bytes, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    with little_memory(2**23):
        found = all_of(pack(member("1.png", b"no image") + data.replace(b".npy", b".png") + END))
    assert found[0] == "not an image, or of an unknown format"


def test_tar_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenizer.inputs.archives._SAMPLE_BYTES", 2**16)
    zeros = bytes(2**20)
    several = b"".join(member(f"b.{number}", zeros[: 2**15]) for number in range(9))
    for inner in (member("b.png", zeros), several, holes(2**20)):
        with little_memory(2**23):
            found = all_of(gzip.compress(member("1.png", b"no image") + inner + END))
        assert found[-1].startswith("the archive is damaged or cut short after member")
        assert found[-1].endswith("unpacks to more than 65536 bytes")
    header = member("x", zeros * 2, type=tarfile.XHDTYPE)
    with little_memory(2**23):
        assert "a name of 2097152 bytes" in all_of(gzip.compress(member("1.png", b"x") + header + END))[-1]


def test_sidecars_of_any_nesting(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    path.write_bytes(npy(one()["tokens"]))
    for text in (b"[" * 10**5, b'{"a":' * 10**5, b"9" * 5000, b"\xff\xfe\0", b"NaN", b"\n" * 9, b""):
        for beside in (text, lines_of([header_with()]) + text, lines_of([header_with(model=[[[[]]]])]) + text + b"\n"):
            sidecar_of(path).write_bytes(beside)
            with pytest.raises(TokenFileError) as caught:
                read_all(read_tokens(path))
            assert len(str(caught.value).splitlines()) == 1
