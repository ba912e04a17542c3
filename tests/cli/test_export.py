"""`vqtok export`."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Vqtok
from tests.conftest import draw, save
from tokenizer import export
from tokenizer.errors import OutputError
from tokenizer.export import onnx_folder
from tokenizer.models import fingerprint_of, load_checkpoint

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package, reason="the extra 'onnx' is not installed")

FILES = {"encoder.onnx", "decoder.onnx", "vqtok.json"}

# What README shows: nothing of vqtok, nothing of torch.
ALONE = """
import json, sys
import numpy as np, onnxruntime
from PIL import Image
folder, image = sys.argv[1:]
about = json.load(open(f"{folder}/vqtok.json"))
encoder, decoder = (onnxruntime.InferenceSession(f"{folder}/{about[name]['file']}") for name in ("encoder", "decoder"))
pixels = np.asarray(Image.open(image).convert("RGB"))
height, width = pixels.shape[:2]
f = about["downsample"]
padded = np.pad(pixels, ((0, -height % f), (0, -width % f), (0, 0)), mode="edge")
(tokens,) = encoder.run(None, {"images": padded[None]})
(images,) = decoder.run(None, {"tokens": tokens})
np.savez("alone.npz", tokens=tokens[0], pixels=images[0, :height, :width])
assert not {"torch", "tokenizer", "cli"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def exported(run: Path) -> export.Exported:
    return export.to_onnx(load_checkpoint(run), fingerprint_of(run))


@pytest.fixture
def quickly(exported: export.Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every export gives the graphs that one of them made."""
    monkeypatch.setattr(onnx_folder, "to_onnx", lambda model, fingerprint: exported)


@pytest.mark.slow
def test_files_run_without_vqtok_and_torch(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    photo = save(tmp_path / "photo.png", draw(50, 61, 5))
    result = vqtok("export", "-m", run, "-o", tmp_path / "onnx", "--images", photo, "--json")
    assert result.code == 0, result.err
    assert result.err.count("\n") == 2
    assert f"compared on 7 images: 0 of {607 + 7 * 8} tokens differ; " in result.err
    assert {file.name for file in (tmp_path / "onnx").iterdir()} == FILES
    about = json.loads((tmp_path / "onnx/vqtok.json").read_text())
    assert about["model"] == fingerprint_of(run)
    assert result.json == {"output": str(tmp_path / "onnx"), **about}
    subprocess.run([sys.executable, "-c", ALONE, "onnx", "photo.png"], cwd=tmp_path, check=True)
    alone = np.load(tmp_path / "alone.npz")
    assert vqtok("encode", photo, "-m", run, "-o", tmp_path / "t.npy").code == 0
    assert vqtok("decode", tmp_path / "t.npy", "-m", run, "-o", tmp_path / "back.png").code == 0
    tokens = np.load(tmp_path / "t.npy")
    assert np.array_equal(alone["tokens"].reshape(tokens.shape), tokens)
    back = np.asarray(Image.open(tmp_path / "back.png")).astype(int)
    assert alone["pixels"].shape == back.shape == (50, 61, 3)
    assert np.abs(alone["pixels"] - back).max() <= 1


@pytest.mark.slow
@pytest.mark.usefixtures("quickly")
def test_an_export_is_replaced_when_asked(vqtok: Vqtok, run: Path, tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"old")
    assert "exists: pass --overwrite" in vqtok("export", "-m", run, "-o", tmp_path).error
    assert (tmp_path / "encoder.onnx").read_bytes() == b"old"
    result = vqtok("export", "-m", run, "-o", tmp_path, "-f", "-q")
    assert (result.code, result.out, result.err) == (0, b"", "")
    assert {file.name for file in tmp_path.iterdir()} == FILES
    assert (tmp_path / "encoder.onnx").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.usefixtures("quickly")
def test_nothing_is_written_that_was_not_compared(
    vqtok: Vqtok, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    result = vqtok("export", "-m", run, "-o", tmp_path / "onnx", "--images", tmp_path / "bad.png")
    assert (result.code, result.error) == (1, "vqtok export: error: bad.png: not an image, or of an unknown format")

    def differ(*_: object) -> None:
        raise OutputError("7 of 9 tokens differ")

    monkeypatch.setattr(onnx_folder, "check_exported", differ)
    result = vqtok("export", "-m", run, "-o", tmp_path / "onnx")
    assert (result.code, result.error) == (1, "vqtok export: error: 7 of 9 tokens differ")
    assert not (tmp_path / "onnx").exists()


def test_without_the_extra(vqtok: Vqtok, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    result = vqtok("export", "-m", run, "-o", tmp_path / "onnx")
    assert result.code == 1
    assert result.error == (
        "vqtok export: error: onnxscript not installed, which export needs: pip install 'vqtok[onnx]'"
    )
    assert not (tmp_path / "onnx").exists()


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["-m", "run"], 2, "no output: pass -o FOLDER/"),
        (["-m", "run", "-o", "-"], 2, "no output: pass -o FOLDER/"),
        (["-m", "run", "-o", "onnx"], 1, "there is no checkpoint run"),
        (["-m", "run", "-o", "taken", "-f"], 1, "cannot write taken: taken is not a folder"),
        (["-m", "run", "-o", "onnx", "--images", "gone.png"], 1, "gone.png does not exist"),
    ],
)
def test_wrong_calls(
    vqtok: Vqtok, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    result = vqtok("export", *words)
    assert (result.code, reason in result.error) == (code, True), result.error
    assert not (tmp_path / "onnx").exists()
