"""Token files as arguments name them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from tests.tokens.conftest import made
from tokenizer.errors import InputError, TokenFileError, UsageError
from tokenizer.tokens import open_token_files, tokens_to_bytes, write_tokens


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.safetensors", "d/b.npy", "d/e/c.safetensors"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write_tokens(Path(name), made([(2, 3)], (32,)))
    return tmp_path


def test_files_folders_a_stream_and_memory(here: Path) -> None:
    tokens = made([(2, 3), (4, 5)], (32,))
    stream = io.BytesIO(tokens_to_bytes(tokens, "safetensors"))
    files = open_token_files(["a.safetensors", Path("d"), "-", tokens], stdin=stream)
    assert files.names == ["a.safetensors", "d/b.npy", "d/e/c.safetensors", "stdin", "tokens 4"]
    assert [len(file.grids) for file in files] == [1, 1, 1, 2, 2]
    assert files[4] is tokens
    assert files.warnings == ()


def test_unfinished_shards_are_told(here: Path) -> None:
    Path("d/b.done").write_text("{}")
    files = open_token_files(["d", "a.safetensors"])
    assert files.names == ["d/b.npy", "d/e/c.safetensors", "a.safetensors"]
    assert files.warnings == ("d is unfinished: 2 token files are whole, vqtok encode --resume goes on",)
    assert files[:1].warnings == files.warnings


def test_sequences(here: Path) -> None:
    np.save("s.npy", np.zeros((3, 6), np.int64))
    assert [grid.shape for grid in open_token_files(["s.npy"], (2, 3))[0].grids] == [(2, 3, 1)] * 3
    assert open_token_files(["s.npy"], (1, 3), 2)[0].grids[0].shape == (1, 3, 2)


@pytest.mark.parametrize(
    ("stream", "error", "said"),
    [
        (None, UsageError, "- stands for a stream, and none was given"),
        (b"", InputError, "stdin is empty: expected a token file"),
        (b"no tokens", TokenFileError, "^stdin: "),
    ],
)
def test_no_stream(stream: bytes | None, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        open_token_files(["-"], stdin=None if stream is None else io.BytesIO(stream))


def test_a_folder_without_tokens(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no token files in"):
        open_token_files([tmp_path])
