"""The pipelines that must work as written, in a shell."""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Vqtok
from tests.conftest import draw
from tokenizer import checkpoint, codec
from tokenizer.images import Source
from tokenizer.token_files import read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `photos` of JPEG files with awkward names, and `photo.jpg` beside it."""
    for number, name in enumerate(["photo.jpg", "photos/a b.jpg", "photos/new\nline.jpg", "photos/sub/[x].jpg"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(40, 51 + number, number)).save(tmp_path / name)
    return tmp_path


def test_encode_decode(shell: Vqtok, folder: Path, run: Path) -> None:
    result = shell("vqtok encode photo.jpg -o - | vqtok decode - -o back.png", VQTOK_MODEL=str(run))
    assert (result.code, result.out) == (0, b"")
    assert sorted(line.rpartition(" in ")[0] for line in result.err.splitlines()) == [
        "1 images decoded to back.png",
        "1 of 1 images encoded to stdout",
    ]
    model, options = checkpoint.load(run), codec.EncodeOptions()
    encoded = codec.collect(
        codec.encode(model, [Source("x", folder / "photo.jpg")], options), codec.header(model, "", options)
    )
    ((record, canvas),) = codec.decode(model, encoded)
    assert record.placement is not None
    with Image.open(folder / "back.png") as image:
        assert np.array_equal(np.asarray(image), record.placement.restore(canvas))
        assert image.size == (51, 40)


def test_find_encode_report(shell: Vqtok, folder: Path, run: Path) -> None:
    script = """
        find photos -name '*.jpg' -print0 | vqtok encode --files-from - -0 -o tokens.safetensors &&
        vqtok report tokens.safetensors --json | python -c 'import json, sys; print(json.load(sys.stdin)["perplexity"])'
    """
    result = shell(script, VQTOK_MODEL=str(run))
    assert result.code == 0
    assert float(result.out) > 1
    tokens = read(folder / "tokens.safetensors")
    assert {record.name for record in tokens.header.images} == {"a b.jpg", "new\nline.jpg", "sub/[x].jpg"}


def test_report_to_jq(shell: Vqtok, vqtok: Vqtok, folder: Path, run: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("there is no jq here")
    vqtok("encode", folder / "photos", "-m", run, "-o", folder / "tokens.safetensors")
    result = shell("vqtok report tokens.safetensors --json | jq .perplexity")
    assert result.code == 0
    assert float(result.out) > 1


def test_reader_that_leaves(vqtok: Vqtok, folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as raw, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw)))
        result = vqtok("encode", folder / "photos", "-m", run, "-o", "-", "-q")
        sys.stdout.close()  # as at exit: nothing is left that would fail once more
    assert (result.code, result.err) == (141, "")
