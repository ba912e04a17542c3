"""`vqtok info` and `vqtok list`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cli.console import write_json
from tests.cli.conftest import Vqtok
from tests.conftest import draw, save
from tokenizer import checkpoint
from tokenizer.config import PRESETS, RECIPES
from tokenizer.quantizers import METHODS


def rows(out: bytes) -> dict[str, str]:
    return {line[:20].split("  ")[0]: line.split("  ")[-1].strip() for line in out.decode().splitlines()}


def test_checkpoint(vqtok: Vqtok, run: Path) -> None:
    values = vqtok("info", run, "--json").json
    assert values["kind"] == "checkpoint"
    assert values["fingerprint"] == checkpoint.fingerprint(run)
    assert (values["codebook_sizes"], values["downsample"], values["steps"]) == ([32], 8, 12)
    assert values["bits_per_pixel"] == round(5 / 64, 5)
    table = vqtok("info", run)
    assert (table.code, table.err) == (0, "")
    assert rows(table.out)["codebook sizes"] == "32"
    assert rows(table.out)["quantizer"].startswith("name diveq, codebook_size 32")


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_tokens(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "[b]bad.png").touch()
    output = tmp_path / f"t.{suffix}"
    assert vqtok("encode", photos / "a", tmp_path / "[b]bad.png", "-m", run, "-o", output).code == 3
    values = vqtok("info", output, "--json").json
    assert (values["kind"], values["images"], values["tokens"], values["grids"]) == ("tokens", 8, 512, {"8x8": 8})
    assert values["model"] == checkpoint.fingerprint(run)
    assert values["failed"][0]["reason"] == "not an image, or of an unknown format"
    assert "[b]bad.png: not an image, or of an unknown format" in vqtok("info", output).out.decode()
    if suffix == "safetensors":
        assert vqtok("info", "-", "--json", stdin=output.read_bytes()).json == values


def test_bare_array(vqtok: Vqtok, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.zeros((2, 3, 5), np.int32))
    result = vqtok("info", tmp_path / "t.npy", "-q", "--no-progress")
    assert (result.code, rows(result.out)["grids"], rows(result.out)["dtype"]) == (0, "3x5 2", "int32")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere", "nowhere does not exist"),
        ("nowhere.npy", "nowhere.npy does not exist"),
        ("in", "in is not a checkpoint: it has no config.json"),
        ("in/x.png", "in/x.png is neither the folder of a checkpoint nor a .npy or .safetensors file"),
        ("bad.npy", "bad.npy: it is neither a .npy nor a .safetensors file, or is damaged"),
        ("-", "stdin is empty: expected a token file"),
    ],
)
def test_wrong_paths(vqtok: Vqtok, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("in/x.png"), draw(8, 8))
    Path("bad.npy").write_text("hello")
    result = vqtok("info", path)
    assert result.code == 1
    assert result.error.startswith(f"vqtok info: error: {said}")


def test_list(vqtok: Vqtok) -> None:
    values = vqtok("list", "--json").json
    assert values["quantizers"] == {method.name: method.summary for method in METHODS.values()}
    assert set(values["presets"]) == {*PRESETS, *RECIPES}
    assert set(values["token formats"]) == {"npy", "safetensors"}
    text = vqtok("list").out.decode()
    assert all(f"{name}  " in text for names in values.values() for name in names)


def test_json_is_one_object_and_no_markup(vqtok: Vqtok, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    values = {"[bold]": "x" * 500, "a": "\udcff\n"}
    write_json(values)
    assert json.loads(capfdbinary.readouterr().out) == values
