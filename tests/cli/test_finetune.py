"""`vqtok train --init-from` and `--freeze`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.cli.conftest import QUICK, Vqtok
from tests.cli.test_train import settings, weights
from tokenizer.models import describe_checkpoint


@pytest.fixture
def brief(tmp_path: Path) -> Path:
    path = tmp_path / "brief.toml"
    path.write_text(QUICK)
    return path


def encoded(vqtok: Vqtok, photos: Path, model: Path, output: Path) -> dict[str, np.ndarray]:
    assert vqtok("encode", photos, "-m", model, "-o", output, "-q").code == 0
    return safetensors.numpy.load_file(output)


def test_tokens_stay_valid_when_only_the_decoder_learns(
    vqtok: Vqtok, run: Path, photos: Path, brief: Path, tmp_path: Path
) -> None:
    frozen = ["--freeze", "encoder", "--freeze", "codebook"]
    result = vqtok("train", photos, "-o", tmp_path / "new", "-c", brief, "--steps", 6, "--init-from", run, *frozen)
    assert result.code == 0
    assert f"weights and codes start from the checkpoint {run}; kept as they are: codebook, encoder\n" in result.err
    assert "network: downsample 8, widths (32, 32), depths (1, 1)\n" in result.err
    assert "quantizer: diveq(codebook_size=32), latents 4 wide\n" in result.err
    old = encoded(vqtok, photos, run, tmp_path / "old.safetensors")
    new = encoded(vqtok, photos, tmp_path / "new", tmp_path / "new.safetensors")
    assert old.keys() == new.keys()
    assert all(np.array_equal(old[name], new[name]) for name in old)
    decode = ["decode", tmp_path / "old.safetensors", "-m", tmp_path / "new", "-o", tmp_path / "back"]
    assert vqtok(*decode, "-q").code == 0
    before, after = weights(run), weights(tmp_path / "new")
    assert all((before[name].tobytes() == after[name].tobytes()) != name.startswith("decoder.") for name in before)
    recorded = describe_checkpoint(tmp_path / "new").training["settings"]
    assert (recorded["init_from"], recorded["freeze"]) == (str(run), ["codebook", "encoder"])


def test_more_codes(vqtok: Vqtok, run: Path, photos: Path, brief: Path, tmp_path: Path) -> None:
    arguments = ["-c", brief, "--steps", 6, "--init-from", run, "--codebook-size", 48, "--quantizer", "ema"]
    assert vqtok("train", photos, "-o", tmp_path / "new", *arguments, "-q").code == 0
    assert describe_checkpoint(tmp_path / "new").codebook_sizes == (48,)
    assert describe_checkpoint(tmp_path / "new").quantizer["name"] == "ema"


def test_the_checkpoint_lies_under_all_that_is_said(
    vqtok: Vqtok, run: Path, photos: Path, brief: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(vqtok, photos, "-c", brief, "--init-from", run)
    assert found["network"] == {
        "downsample": 8,
        "widths": [32, 32],
        "depths": [1, 1],
        "latent_dim": 4,
        "linear": False,
    }
    assert (found["quantizer"]["name"], found["quantizer"]["codebook_size"]) == ("diveq", 32)
    assert found["init_from"] == str(run)
    monkeypatch.setenv("VQTOK_INIT_FROM", str(run))
    monkeypatch.setenv("VQTOK_CODEBOOK_SIZE", "40")
    monkeypatch.setenv("VQTOK_FREEZE", "codebook encoder")
    found = settings(vqtok, photos, "-c", brief)
    assert (found["quantizer"]["codebook_size"], found["freeze"]) == (40, ["codebook", "encoder"])
    assert settings(vqtok, photos, "-c", brief, "--codebook-size", 50)["quantizer"]["codebook_size"] == 50
    monkeypatch.delenv("VQTOK_CODEBOOK_SIZE")
    brief.write_text(f'{QUICK}\n[quantizer]\nname = "ste"\nbeta = 1.0\n')
    found = settings(vqtok, photos, "-c", brief, "--downsample", 8)
    assert (found["quantizer"]["name"], found["quantizer"]["beta"], found["quantizer"]["codebook_size"]) == (
        "ste",
        1.0,
        32,
    )
    assert found["network"]["widths"] == [32, 32]


def test_printed_config_says_it_all(vqtok: Vqtok, run: Path, photos: Path, brief: Path, tmp_path: Path) -> None:
    first = vqtok("train", photos, "-c", brief, "--init-from", run, "--freeze", "encoder", "--print-config")
    (tmp_path / "printed.toml").write_bytes(first.out)
    again = vqtok("train", photos, "-c", tmp_path / "printed.toml", "--print-config")
    assert (again.code, again.out) == (0, first.out)


def test_dry_run(vqtok: Vqtok, run: Path, photos: Path, brief: Path) -> None:
    result = vqtok("train", photos, "-c", brief, "--init-from", run, "--steps", 2, "-n", "--json", "-q")
    assert result.code == 0
    assert f"weights and codes start from the checkpoint {run}" in result.json["notes"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--downsample", 16], "network.downsample is 8 there, now 16"),
        (
            ["--preset", "small", "--set", "network.latent_dim=6"],
            ("network.widths is (32, 32) there, now (160, 256); network.latent_dim is 4 there, now 6"),
        ),
        (["--codebook-size", 16], "quantizer.codebook_size is 32 there, now 16, which is fewer"),
        (["--quantizer", "fsq"], "quantizer.name is diveq there, now fsq, whose codes are of another kind"),
        (["--codebooks", 2], "quantizer.name is diveq there, now residual, whose codes are of another kind"),
        (["--quantizer", "diveq(transform=bridge)"], "quantizer.transform is none there, now bridge"),
        (
            ["--downsample", 4, "--set", "quantizer.normalize=rms"],
            "network.downsample is 8 there, now 4; quantizer.normalize is none there, now rms",
        ),
    ],
)
def test_what_does_not_fit(
    vqtok: Vqtok, run: Path, photos: Path, tmp_path: Path, arguments: list[object], fault: str
) -> None:
    result = vqtok("train", photos, "-o", tmp_path / "new", "--init-from", run, *arguments)
    assert result.code == 2
    wanted = f"cannot start from {run} with other settings: {fault}: leave them out"
    assert result.error == f"vqtok train: error: {wanted}"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--freeze", "encodr"], "freeze is ('encodr',), expected any of encoder, decoder, codebook"),
        (
            ["--freeze", "encoder", "--freeze", "decoder", "--freeze", "codebook"],
            "freeze names all parts: nothing is left to train",
        ),
        (["--set", "network.latent_dim=x"], "network.latent_dim is 'x', expected a whole number"),
        (["--set", "network.width=8"], "unknown setting 'network.width', did you mean 'widths'?"),
        (["--quantizer", "divek"], "unknown quantizer 'divek', did you mean 'diveq'?"),
        (["--preset", "smal"], "unknown preset 'smal', did you mean 'small'?"),
        (["--set", "quantizer=ema"], "quantizer is 'ema', expected a table of settings"),
    ],
)
def test_wrong_settings(
    vqtok: Vqtok, run: Path, photos: Path, tmp_path: Path, arguments: list[object], error: str
) -> None:
    result = vqtok("train", photos, "-o", tmp_path / "new", "--init-from", run, *arguments)
    assert (result.code, result.error) == (2, f"vqtok train: error: {error}")
    assert not (tmp_path / "new").exists()


def test_freeze_needs_a_checkpoint(vqtok: Vqtok, photos: Path, tmp_path: Path) -> None:
    result = vqtok("train", photos, "-o", tmp_path / "new", "--freeze", "encoder")
    assert result.code == 2
    assert result.error.endswith("without init_from: only what a checkpoint has trained can be kept")


def test_a_checkpoint_that_cannot_be_loaded(
    vqtok: Vqtok, photos: Path, broken: Callable[..., Path], tmp_path: Path
) -> None:
    def train(source: Path) -> str:
        result = vqtok("train", photos, "-o", tmp_path / "new", "--init-from", source)
        assert result.code == 1
        assert not (tmp_path / "new").exists()
        return result.error.removeprefix("vqtok train: error: ")

    assert train(tmp_path / "no").startswith(f"there is no checkpoint {tmp_path}/no: train one with vqtok train")
    assert train(photos) == f"{photos} is not a checkpoint: it has no config.json"
    newer = broken(config=lambda values: values.update(version=99))
    assert train(newer) == f"{newer} has format version 99, this vqtok reads 2: upgrade vqtok"
    shutil.rmtree(newer)

    def spoil(arrays: dict[str, Any]) -> None:
        arrays["encoder.layers.1.bias"][0] = np.nan

    damaged = broken(weights=spoil)
    assert train(damaged) == f"the weights in {damaged} hold NaN or infinity"
    os.truncate(damaged / "model.safetensors", 1000)
    assert train(damaged).startswith(f"cannot read {damaged}/model.safetensors: ")


def test_resume(vqtok: Vqtok, run: Path, photos: Path, brief: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "c")
    start = ["--init-from", tmp_path / "c", "--freeze", "encoder"]
    assert vqtok("train", photos, "-o", tmp_path / "new", "-c", brief, "--steps", 4, *start, "-q").code == 0
    shutil.rmtree(tmp_path / "c")
    again = ["train", photos, "-o", tmp_path / "new", "--resume"]
    assert vqtok(*again).code == 0
    assert vqtok(*again, "-c", brief, *start).code == 0
    other = vqtok(*again, "--init-from", run, "--freeze", "codebook", "--freeze", "encoder")
    assert other.code == 1
    assert other.error == (
        "vqtok train: error: cannot resume with other settings: freeze was ('encoder',), now ('codebook', 'encoder'); "
        f"init_from was {tmp_path}/c, now {run}: leave them out, or start a new run"
    )


def test_a_run_can_start_from_what_it_replaces(
    vqtok: Vqtok, run: Path, photos: Path, brief: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    arguments = ["-c", brief, "--steps", 2, "--init-from", tmp_path / "run", "--freeze", "decoder"]
    assert vqtok("train", photos, "-o", tmp_path / "run", *arguments, "-q", "-f").code == 0
    before, after = weights(run), weights(tmp_path / "run")
    assert all(np.array_equal(before[name], after[name]) for name in before if name.startswith("decoder."))
    assert json.loads((tmp_path / "run/config.json").read_text())["training"]["steps"] == 2


def test_token_files_made_before_stay_valid(vqtok: Vqtok, run: Path, photos: Path, brief: Path, tmp_path: Path) -> None:
    image = next(photos.rglob("*.png"))
    more = ["-c", brief, "--steps", 3]
    assert vqtok("encode", image, "-m", run, "-o", tmp_path / "t.safetensors").code == 0
    source = run
    for number in (1, 2):
        frozen = ["--freeze", "encoder", "--freeze", "codebook"]
        new = tmp_path / f"tuned{number}"
        assert vqtok("train", photos, "-o", new, "--init-from", source, *frozen, *more).code == 0
        assert vqtok("decode", tmp_path / "t.safetensors", "-m", new, "-o", tmp_path / f"{number}.png").code == 0
        source = new
    moved = ["--freeze", "encoder"]
    assert vqtok("train", photos, "-o", tmp_path / "moved", "--init-from", run, *moved, *more).code == 0
    refused = vqtok("decode", tmp_path / "t.safetensors", "-m", tmp_path / "moved", "-o", tmp_path / "3.png")
    assert refused.code == 1
    assert "pass the model that made it, or --allow-mismatch" in refused.error
