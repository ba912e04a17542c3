"""What names images: arguments, a list in a file, a stream."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from tests.conftest import draw, save
from tokenizer.errors import InputError, UsageError
from tokenizer.images import encode_image
from tokenizer.inputs import NamedInputs


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.png", "a/two\nlines.png", "b/1.png"):
        save(tmp_path / name, draw(8, 8))
    return tmp_path


@pytest.mark.parametrize("where", ["file", "-"])
@pytest.mark.parametrize("null", [False, True])
def test_a_list_after_arguments(here: Path, where: str, null: bool) -> None:
    data = b"a/two\nlines.png\0b\0a/\xff.png" if null else b"a/1.png\nb\r\n\na/\xff.png\n"
    Path("file").write_bytes(data)
    inputs = NamedInputs(["b/1.png"], where, null, io.BytesIO(data)).gather()
    listed = ["b/1.png", "a/two\nlines.png" if null else "a/1.png", os.fsdecode(b"a/\xff.png")]
    assert [source.name for source in inputs.sources] == listed
    assert inputs.count == 3


def test_a_stream_is_an_image(here: Path) -> None:
    stream = io.BytesIO(encode_image(draw(8, 8), "png"))
    assert [source.name for source in NamedInputs(["-"], stdin=stream).gather().sources] == ["stdin"]


@pytest.mark.parametrize("named", [NamedInputs(["-"]), NamedInputs(files_from="-")])
def test_no_stream(named: NamedInputs) -> None:
    with pytest.raises(UsageError, match="- stands for a stream, and none was given: pass stdin"):
        named.gather()


def test_paths(here: Path) -> None:
    assert [source.name for source in NamedInputs([Path("a"), "b"]).gather().sources] == [
        "a/1.png",
        "a/two\nlines.png",
        "b/1.png",
    ]


@pytest.mark.parametrize(
    ("inputs", "files_from", "null", "error", "said"),
    [
        ([], None, False, UsageError, "no input: name images, folders, archives or URLs, - for stdin, or --files-from"),
        (["a"], None, True, UsageError, "--null is for --files-from: pass both"),
        (["-", "a"], None, False, UsageError, "- stands for one image or one archive, and cannot be mixed"),
        (["-"], "list", False, UsageError, "- stands for one image or one archive, and cannot be mixed"),
        (["-"], None, False, InputError, "stdin is empty: expected one image, or a tar archive"),
        ([], "-", False, InputError, "the list of --files-from names no file"),
        ([], "gone", False, InputError, "cannot read the list gone: No such file or directory"),
        ([], "a", False, InputError, "cannot read the list a: Is a directory"),
        (["htpps://host/x.png"], None, False, UsageError, "unknown scheme htpps://, did you mean 'https'?"),
    ],
)
def test_wrong_calls(
    here: Path,
    inputs: list[str],
    files_from: str | None,
    null: bool,
    error: type[Exception],
    said: str,
) -> None:
    with pytest.raises(error) as raised:
        NamedInputs(inputs, files_from, null, io.BytesIO()).gather()
    assert str(raised.value).startswith(said)
