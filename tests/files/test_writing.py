"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest

from tokenizer.errors import OutputError
from tokenizer.files import canonical_json, make_folder, remove_temporaries_of, replacing, write_bytes, writing


def test_writes_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new/folders/a.bin"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_reader_sees_the_old_content_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        (temporary,) = set(tmp_path.iterdir()) - {path}
        assert temporary.name.startswith(".a.bin.")
        assert temporary.name.endswith(".tmp")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), GeneratorExit()])
def test_the_old_content_survives_a_failing_block(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(OutputError, match=r"^cannot write .*a\.bin: No space left on device$"), replacing(path):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_found_when_flushing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a.bin").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_bytes(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*a: Is a directory"):
        write_bytes(tmp_path / "a", b"x")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


@pytest.mark.parametrize("name", ["file/a.bin", "file/b/a.bin"])
def test_a_file_where_a_folder_should_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OutputError, match="cannot write"):
        write_bytes(tmp_path / name, b"x")
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system without writing")
def test_a_place_that_takes_no_files() -> None:
    with pytest.raises(OutputError, match="cannot write /proc/vqtok/a"):
        write_bytes(Path("/proc/vqtok/a"), b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        write_bytes(tmp_path / "a", b"x")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long"):
        write_bytes(tmp_path / ("a" * 300), b"x")


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "\U0001f600" * 63, os.fsdecode(b"\xff" * 255)])
def test_the_longest_names_fit(tmp_path: Path, name: str) -> None:
    write_bytes(tmp_path / name, b"x")
    assert (tmp_path / name).read_bytes() == b"x"


def test_canonical_json() -> None:
    value = {"b": (1, 2.5, None), "a": {"é": True, "\udcff": "\n"}}
    text = canonical_json(value)
    assert text == '{"a":{"\\u00e9":true,"\\udcff":"\\n"},"b":[1,2.5,null]}'
    assert canonical_json(dict(reversed(value.items()))) == text
    assert json.loads(text)["a"] == value["a"]
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(float("nan"))


@pytest.mark.parametrize("name", ["a.npy", "[x] *.npy", "é" * 60, "b" * 250])
def test_what_killed_processes_left_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """And of no other, whose name may begin alike."""
    others = [name[:-1] + "2", name + "2", name[:40]]
    with monkeypatch.context() as patch:
        patch.setattr(writing, "discard", lambda _: None)  # as a killed process discards nothing
        for each in {name, *others}:
            with contextlib.suppress(KeyboardInterrupt), replacing(tmp_path / each):
                raise KeyboardInterrupt
    left = set(tmp_path.iterdir())
    remove_temporaries_of(tmp_path / name)
    assert len(left) == len(set(tmp_path.iterdir())) + 1
    for each in others:
        remove_temporaries_of(tmp_path / each)
    assert list(tmp_path.iterdir()) == []


def test_make_folder(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"^cannot write .*file/c: Not a directory$"):
        make_folder(tmp_path / "file/c")
