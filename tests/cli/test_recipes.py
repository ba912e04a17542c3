"""`--preset vqgan-f8` and `vqgan-f16`: whole settings under those that are given."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.cli.conftest import Vqtok
from tests.cli.test_train import settings
from tests.perceptual.test_vgg16 import random_state
from tokenizer.config import PRESETS, RECIPES

OFF = ("--set", "loss.perceptual=0")


@pytest.mark.parametrize("downsample", [8, 16])
def test_a_recipe_is_a_network_and_a_loss(vqtok: Vqtok, photos: Path, downsample: int) -> None:
    found = settings(vqtok, photos, "--preset", f"vqgan-f{downsample}", *OFF)
    widths, depths = PRESETS["base"][downsample]
    assert found["network"] == {
        "downsample": downsample,
        "widths": list(widths),
        "depths": list(depths),
        "latent_dim": found["network"]["latent_dim"],
        "linear": False,
    }
    recipe = RECIPES[f"vqgan-f{downsample}"]
    assert found["loss"] == {**recipe["loss"], "perceptual": 0}
    assert (found["precision"], found["lr"], found["ema_decay"]) == ("bfloat16", recipe["lr"], recipe["ema_decay"])


def test_a_recipe_lies_below_everything_else(
    vqtok: Vqtok, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.toml").write_text("preset = 'vqgan-f8'\nlr = 1e-4\n[loss]\nperceptual = 0\nl2 = 3\n")
    monkeypatch.setenv("VQTOK_PRECISION", "float32")
    found = settings(vqtok, photos, "-c", tmp_path / "c.toml", "--downsample", 16)
    assert (found["lr"], found["precision"]) == (1e-4, "float32")
    assert found["loss"] == {**RECIPES["vqgan-f8"]["loss"], "perceptual": 0, "l2": 3}
    assert tuple(found["network"]["widths"]) == PRESETS["base"][16][0]


def test_without_weights_one_line_says_what_to_do(vqtok: Vqtok, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for command in ("train", "compare"):
        result = vqtok(command, photos, "-n", "-o", out, "--preset", "vqgan-f8", "--set", "perceptual_weights=none.pth")
        assert result.code == 2
        assert "'none.pth', which is no file: get " in result.error
        assert "vgg16-397923af.pth and pass --set perceptual_weights=FILE" in result.error


@pytest.mark.slow
def test_a_run_may_find_its_weights_elsewhere_when_it_goes_on(vqtok: Vqtok, photos: Path, tmp_path: Path) -> None:
    safetensors.torch.save_file(random_state(), tmp_path / "vgg.safetensors")
    weights = ("--set", f"perceptual_weights={tmp_path / 'vgg.safetensors'}")
    small = ("--set", "network.widths=32 32", "--set", "network.depths=1 1", "--set", "network.latent_dim=4")
    few = ("--image-size", 32, "-b", 4, "--precision", "float32", "--codebook-size", 16, "--steps", 2, "-q")
    run = tmp_path / "run"
    assert vqtok("train", photos, "-o", run, "--preset", "vqgan-f8", *weights, *small, *few).code == 0
    moved = tmp_path / "moved.safetensors"
    (tmp_path / "vgg.safetensors").rename(moved)
    result = vqtok("train", photos, "-o", run, "--resume", "--set", f"perceptual_weights={moved}")
    assert result.code == 0, result.err
    state = random_state()
    state["features.0.bias"] += torch.ones(())
    safetensors.torch.save_file(state, moved)
    result = vqtok("train", photos, "-o", run, "--resume", "-q")
    assert result.code == 1
    assert "the perceptual term has other weights than those that the run began with" in result.error


def test_compare_takes_a_recipe(vqtok: Vqtok, photos: Path, tmp_path: Path) -> None:
    found = vqtok("compare", photos, "-n", "-o", tmp_path / "out", "--preset", "vqgan-f8", *OFF, "--json").json
    assert all(entry["settings"]["loss"]["adversarial"] for entry in found["entries"])
