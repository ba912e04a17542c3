"""A checkpoint exported from Python: files, images of one's own, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import draw, save
from tokenizer import export
from tokenizer.errors import CheckpointError, ImageError, InputError, OutputError
from tokenizer.export import Exported, onnx_folder
from tokenizer.models import Tokenizer, fingerprint_of, load_model

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package, reason="the extra 'onnx' is not installed")


@pytest.fixture(autouse=True)
def quickly(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every export gives the graphs that one of them made."""

    def to_onnx(model: Tokenizer, fingerprint: str) -> Exported:
        return Exported(exported.encoder, exported.decoder, {**exported.about, "model": fingerprint})

    monkeypatch.setattr(onnx_folder, "to_onnx", to_onnx)


def test_one_call_exports_compares_and_writes(run: Path, tmp_path: Path) -> None:
    counted = []

    def track(items: Iterable[Any], total: int) -> Iterable[Any]:
        counted.append(total)
        return items

    images = [save(tmp_path / "in/a.png", draw(50, 61, 5)).parent, save(tmp_path / "b.png", draw(8, 9))]
    result = export.export_onnx(tmp_path / "onnx", run, images, track=track)
    assert counted == [2]
    assert result.checked.images == 6 + 2
    assert (result.about["model"], result.model.folder) == (fingerprint_of(run), run)
    assert json.loads((tmp_path / "onnx/vqtok.json").read_text()) == result.about
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == {"encoder.onnx", "decoder.onnx", "vqtok.json"}
    sizes = [(tmp_path / "onnx" / name).stat().st_size for name in ("encoder.onnx", "decoder.onnx")]
    assert result.size == sum(sizes)
    assert 0 <= result.export_seconds <= result.seconds
    with pytest.raises(OutputError, match="onnx exists: pass --overwrite"):
        export.export_onnx(tmp_path / "onnx", run)
    again = export.export_onnx(tmp_path / "onnx", load_model(run, "cpu"), existing="overwrite")
    assert again.checked.images == 6


def test_nothing_is_written_that_was_not_compared(run: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"^bad\.png: not an image"):
        export.export_onnx(tmp_path / "onnx", run, [tmp_path / "bad.png"])
    with pytest.raises(InputError, match=r"gone\.png does not exist"):
        export.export_onnx(tmp_path / "onnx", run, [tmp_path / "gone.png"])
    with pytest.raises(CheckpointError):
        export.export_onnx(tmp_path / "onnx", tmp_path / "nowhere")
    assert not (tmp_path / "onnx").exists()
