"""`vqtok info` and `vqtok list`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cli.console import write_json
from tests.cli.conftest import Vqtok
from tests.cli.reference import tokens_of
from tests.conftest import draw, save
from tokenizer.config import PRESETS, RECIPES
from tokenizer.files import canonical_json
from tokenizer.models import fingerprint_of
from tokenizer.quantizers import METHODS
from tokenizer.tokens import FailedInput, TokenSet, manifest_line, write_tokens


def rows(out: bytes) -> dict[str, str]:
    return {line[:20].split("  ")[0]: line.split("  ")[-1].strip() for line in out.decode().splitlines()}


def test_checkpoint(vqtok: Vqtok, run: Path) -> None:
    values = vqtok("info", run, "--json").json
    assert values["kind"] == "checkpoint"
    assert values["fingerprint"] == fingerprint_of(run)
    assert (values["codebook_sizes"], values["downsample"], values["steps"]) == ([32], 8, 12)
    assert values["bits_per_pixel"] == round(5 / 64, 5)
    table = vqtok("info", run)
    assert (table.code, table.err) == (0, "")
    assert rows(table.out)["codebook sizes"] == "32"
    assert rows(table.out)["quantizer"].startswith("name diveq, codebook_size 32")


def some(photos: Path, run: Path, *rows: int) -> TokenSet:
    whole = tokens_of(run, photos)
    return TokenSet(whole.header, [whole.images[row] for row in rows], [whole.grids[row] for row in rows])


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_tokens(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"t.{suffix}"
    failed = [FailedInput(f"[b]{number}.png", "not an image") for number in range(22)]
    write_tokens(output, replace(some(photos, run, *range(8)), failed=failed))
    values = vqtok("info", output, "--json").json
    assert (values["kind"], values["images"], values["tokens"], values["grids"]) == ("tokens", 8, 512, {"8x8": 8})
    assert values["model"] == fingerprint_of(run)
    assert values["failed"] == [{"name": failure.name, "reason": "not an image"} for failure in failed]
    shown = vqtok("info", output).out.decode()
    assert "[b]19.png: not an image" in shown
    assert "[b]20.png" not in shown
    assert "and 2 more: see --json" in shown
    if suffix == "safetensors":
        assert vqtok("info", "-", "--json", stdin=output.read_bytes()).json == values


def test_folders_of_tokens(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path, other: Path) -> None:
    write_tokens(tmp_path / "in/0.npy", some(photos, run, *range(6)))
    write_tokens(tmp_path / "in/sub/1.safetensors", some(photos, run, 6, 7, 8, 23))
    values = vqtok("info", tmp_path / "in", "--json").json
    assert (values["files"], values["images"]) == (2, 10)
    assert values["grids"] == {"8x8": 8, "6x9": 1, "10x7": 1}
    assert values["tokens"] == 8 * 64 + 54 + 70
    assert (values["model"], values["other_models"]) == (fingerprint_of(run), [])
    assert rows(vqtok("info", tmp_path / "in").out)["grids"] == "8x8 8, 6x9 1, 10x7 1"
    alien = some(photos, run, 3)
    write_tokens(tmp_path / "in/2.npy", replace(alien, header=replace(alien.header, model="e" * 64)))
    assert vqtok("info", tmp_path / "in", "--json").json["other_models"] == ["e" * 64]


def test_trees_name_what_was_not_encoded(vqtok: Vqtok, photos: Path, run: Path, tmp_path: Path) -> None:
    one = some(photos, run, 0)
    write_tokens(tmp_path / f"{one.images[0].name}.npy", one)
    lines = [canonical_json(one.header.to_json()).encode() + b"\n", manifest_line(None, FailedInput("x.png", "empty"))]
    (tmp_path / "manifest.jsonl").write_bytes(b"".join([*lines, manifest_line(0, one.images[0])]))
    values = vqtok("info", tmp_path, "--json").json
    assert (values["images"], values["failed"]) == (1, [{"name": "x.png", "reason": "empty"}])


def test_bare_array(vqtok: Vqtok, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.zeros((2, 3, 5), np.int32))
    result = vqtok("info", tmp_path / "t.npy", "-q", "--no-progress")
    assert (result.code, rows(result.out)["grids"], rows(result.out)["dtype"]) == (0, "3x5 2", "int32")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere", "nowhere does not exist"),
        ("nowhere.npy", "nowhere.npy does not exist"),
        ("in", "in is not a checkpoint: it has no config.json; no token files in in: looked for .npy"),
        ("in/x.png", "in/x.png is neither the folder of a checkpoint nor a .npy or .npz or .safetensors"),
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
    assert set(values["token formats"]) == {"npy", "safetensors", "tar"}
    text = vqtok("list").out.decode()
    assert all(f"{name}  " in text for names in values.values() for name in names)


def test_json_is_one_object_and_no_markup(vqtok: Vqtok, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    values = {"[bold]": "x" * 500, "a": "\udcff\n"}
    write_json(values)
    assert json.loads(capfdbinary.readouterr().out) == values
