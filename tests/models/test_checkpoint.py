from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from tokenizer.errors import CheckpointError
from tokenizer.models import describe_checkpoint, fingerprint_of, load_checkpoint, save_checkpoint


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_describe_says_what_was_trained(run: Path) -> None:
    description = describe_checkpoint(run)
    assert description.network.downsample == 8
    assert description.quantizer["name"] == "diveq"
    assert description.codebook_sizes == (32,)
    assert description.bits_per_pixel == 5 / 64
    assert description.training["steps"] == 12
    assert description.training["images"] == 20


def test_save_and_load_give_the_same_model(run: Path, tmp_path: Path) -> None:
    model = load_checkpoint(run)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    save_checkpoint(tmp_path / "again", model, {})
    assert fingerprint_of(tmp_path / "again") == fingerprint_of(run)
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.equal(load_checkpoint(tmp_path / "again").encode(images), model.encode(images))


def test_fingerprint_is_of_the_values_not_of_the_file(copy: Path, run: Path) -> None:
    before = fingerprint_of(copy)
    path = copy / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    safetensors.torch.save_file(weights, path, metadata={"format": "pt", "note": "saved elsewhere"})
    assert fingerprint_of(copy) == before
    weights["quantizer.table.weight"][0, 0] += 1e-6
    safetensors.torch.save_file(weights, path)
    assert fingerprint_of(copy) != before
    assert len(before) == 64


def test_missing_and_foreign_folders(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load_checkpoint(tmp_path)
    pickle = tmp_path / "model.pt"
    pickle.write_bytes(b"\x80\x04")
    with pytest.raises(CheckpointError, match=r"pickled weights .* are never opened"):
        load_checkpoint(pickle)
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        load_checkpoint(copy)


def test_a_checkpoint_of_version_1_is_read(copy: Path) -> None:
    """Version 0.1 wrote other names, in stages and in the settings of the run too."""
    path = copy / "config.json"
    values = json.loads(path.read_text())
    assert values["version"] == 2
    table = {"codebook_size": 32, "transform": "none", "normalise": "none", "revival_patience": 9}
    spec = {"name": "residual", "stages": [{"name": "diveq", **table, "noise_std": 0.001}], "drop": 0.0}
    settings = {**values["training"]["settings"], "quantizer": spec, "revive_until": 0.8}
    del settings["replace_dead_until"]
    training = {"images": 20, "steps": 12, "held_out": {"psnr": 20.0, "seen_in_training": False}, "settings": settings}
    path.write_text(json.dumps({**values, "version": 1, "quantizer": spec, "training": training, "vqtok": "0.1.0"}))
    found = describe_checkpoint(copy)
    (stage,) = found.quantizer["stages"]
    assert stage == {
        "name": "diveq",
        "codebook_size": 32,
        "transform": "none",
        "normalize": "none",
        "dead_code_patience": 9,
        "noise_std": 0.001,
    }
    assert found.training["validation"] == {"psnr": 20.0, "seen_in_training": False}
    assert found.training["settings"]["replace_dead_until"] == 0.8
    assert found.training["settings"]["quantizer"] == found.quantizer
    assert found.vqtok == "0.1.0"
    plain = {"name": "diveq", **table, "noise_std": 0.001}
    path.write_text(json.dumps({**values, "version": 1, "quantizer": plain}))
    assert load_checkpoint(copy).quantizer.spec["dead_code_patience"] == 9
    path.write_text(json.dumps({**values, "quantizer": plain}))
    with pytest.raises(CheckpointError, match="normalise' of diveq: it is called normalize now"):
        load_checkpoint(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 99}, "format version 99, this vqtok reads 2: upgrade"),
        ({"format": "other"}, "not that of a vqtok checkpoint"),
        ({"network": {"downsample": 7}}, "damaged: network.downsample is 7"),
        ({"network": 5}, "damaged"),
        ({"surprise": 1}, "unknown setting 'surprise'"),
        ({"quantizer": {"name": "later"}}, "do not fit.*unknown quantizer 'later'"),
        ({"quantizer": {"name": "diveq", "codebook_size": 64}}, "do not fit.*quantizer.table.weight"),
        ({"codebook_sizes": [99]}, "names codebook sizes"),
    ],
)
def test_configs_that_do_not_fit(copy: Path, changes: dict[str, object], message: str) -> None:
    edit(copy, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(copy)
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit(copy: Path) -> None:
    path = copy / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    safetensors.torch.save_file({**weights, "extra": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="extra"):
        load_checkpoint(copy)
    codebook = weights.pop("quantizer.table.weight")
    safetensors.torch.save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"quantizer\.table\.weight"):
        load_checkpoint(copy)
    safetensors.torch.save_file({**weights, "quantizer.table.weight": codebook * np.nan}, path)
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        load_checkpoint(copy)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_truncated_weights(copy: Path, keep: float) -> None:
    path = copy / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match="cannot read"):
        load_checkpoint(copy)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 100_000])
def test_damaged_config(copy: Path, text: str) -> None:
    (copy / "config.json").write_text(text)
    with pytest.raises(CheckpointError):
        describe_checkpoint(copy)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_those_of_a_float32_model(copy: Path, half: torch.dtype) -> None:
    path = copy / "model.safetensors"
    weights = {name: value.to(half) for name, value in safetensors.torch.load_file(path).items()}
    safetensors.torch.save_file(weights, path)
    model = load_checkpoint(copy)
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, weights[name].float())
    weights["quantizer.table.weight"] = weights["quantizer.table.weight"].double()
    safetensors.torch.save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"quantizer.table.weight is .* float64, expected .* float32"):
        load_checkpoint(copy)
