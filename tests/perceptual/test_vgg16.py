"""The distance of features against a VGG-16 of random weights, computed again without it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models import VGG16_Weights, vgg16

from tokenizer.errors import InputError
from tokenizer.perceptual import VGG16_SOURCE, check_vgg16_file, vgg16_distance

WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # of the convolutions


def random_state() -> dict[str, Tensor]:
    """The part of torchvision's file that is used, with weights that keep the size of the features."""
    generator = torch.Generator().manual_seed(0)
    state, inputs = {}, 3
    for number, width in zip(LAYERS, WIDTHS, strict=True):
        spread = (2 / (9 * inputs)) ** 0.5
        state[f"features.{number}.weight"] = torch.randn(width, inputs, 3, 3, generator=generator) * spread
        state[f"features.{number}.bias"] = torch.randn(width, generator=generator) * 0.1
        inputs = width
    return state


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("vgg")
    state = random_state()
    torch.save({**state, "classifier.0.weight": torch.zeros(1)}, folder / "vgg.pth")
    safetensors.torch.save_file(state, folder / "vgg.safetensors")
    return folder / "vgg.pth", folder / "vgg.safetensors"


def pair(batch: int = 2, side: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images, noise = torch.rand(2, batch, 3, side, side, generator=generator) * 2 - 1
    return images, (images + 0.3 * noise).clamp(-1, 1)


def again(images: Tensor, targets: Tensor) -> float:
    """The distance in float64, layer by layer, one image and one position at a time where it is an average."""
    state = {name: value.double() for name, value in random_state().items()}
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    total = 0.0
    for one, other in zip(images.double(), targets.double(), strict=True):
        both = (torch.stack([one, other]).permute(0, 2, 3, 1) / 2 + 0.5 - mean) / std
        x = both.permute(0, 3, 1, 2)
        for number in LAYERS:
            if number in (5, 10, 17, 24):
                x = functional.max_pool2d(x, 2)
            name = f"features.{number}"
            x = functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1).relu()
            if number in (2, 7, 14, 21, 28):
                a, b = x.flatten(2).permute(0, 2, 1).numpy()
                cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
                total += float((2 - 2 * cosines).mean()) / len(images)
    return total


def test_it_is_the_distance_of_unit_features(files: tuple[Path, Path]) -> None:
    images, targets = pair()
    wanted = again(images, targets)
    assert wanted > 0.05
    for file in files:
        assert float(vgg16_distance(file)(images, targets)) == pytest.approx(wanted, rel=1e-4)
    assert float(vgg16_distance(files[0])(images, images)) == 0


@pytest.mark.slow
def test_the_networks_are_those_of_torchvision(files: tuple[Path, Path]) -> None:
    theirs = vgg16(weights=None).features
    theirs.load_state_dict({name.removeprefix("features."): value for name, value in random_state().items()})
    x = pair()[0]
    ours = vgg16_distance(files[0])
    for end, layers in zip((4, 9, 16, 23, 30), ours.stages, strict=True):
        x = layers(x)
        torch.testing.assert_close(x, theirs[:end](pair()[0]), rtol=1e-4, atol=1e-4)
    assert VGG16_Weights.IMAGENET1K_V1.url == VGG16_SOURCE


def test_it_learns_nothing_and_reaches_the_images(files: tuple[Path, Path]) -> None:
    loss = vgg16_distance(files[0])
    images, targets = pair()
    images.requires_grad_()
    targets.requires_grad_()
    loss(images, targets).backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert images.grad.abs().sum() > 0
    assert targets.grad is None
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    black = torch.full_like(images, -1.0).requires_grad_()
    loss(black, targets).backward()
    assert black.grad is not None
    assert black.grad.isfinite().all()


def test_the_digest_is_that_of_the_weights(files: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = (vgg16_distance(file).digest for file in files)
    assert torch.equal(first, second)
    state = random_state()
    state["features.28.bias"][0] += 1
    safetensors.torch.save_file(state, tmp_path / "other.safetensors")
    assert not torch.equal(first, vgg16_distance(tmp_path / "other.safetensors").digest)


def test_a_file_of_half_precision_is_computed_in_single(files: tuple[Path, Path], tmp_path: Path) -> None:
    halved = {name: value.half() for name, value in random_state().items()}
    safetensors.torch.save_file(halved, tmp_path / "half.safetensors")
    images, targets = pair()
    found = vgg16_distance(tmp_path / "half.safetensors")
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}
    assert float(found(images, targets)) == pytest.approx(float(vgg16_distance(files[0])(images, targets)), rel=1e-3)
    same = {name: value.float() for name, value in halved.items()}
    safetensors.torch.save_file(same, tmp_path / "same.safetensors")
    assert torch.equal(found.digest, vgg16_distance(tmp_path / "same.safetensors").digest)


def test_a_file_that_changed_is_read_again(files: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "vgg.safetensors"
    path.write_bytes(files[1].read_bytes())
    check_vgg16_file(path)
    path.write_bytes(b"")
    os.utime(path, (0, 0))
    with pytest.raises(InputError, match="damaged, or not a file of tensors"):
        check_vgg16_file(path)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a"])
@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(100), b"\x80\x02.", bytes(200)])
def test_a_damaged_file(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read the weights of VGG-16 from .*: damaged") as caught:
        check_vgg16_file(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file(files: tuple[Path, Path], tmp_path: Path) -> None:
    for file in files:
        path = tmp_path / file.name
        path.write_bytes(file.read_bytes()[:-1000])
        with pytest.raises(InputError, match="damaged"):
            check_vgg16_file(path)


def test_a_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    for held, said in [
        ({"weight": torch.zeros(2)}, r"features.0.weight is missing, expected \(64, 3, 3, 3\)"),
        ({"features.0.weight": torch.zeros(2)}, r"features.0.weight is \(2,\), expected"),
        ([torch.zeros(2)], "features.0.weight is missing"),
        (torch.zeros(2), "features.0.weight is missing"),
    ]:
        torch.save(held, path)
        os.utime(path, (len(said), len(said)))
        with pytest.raises(InputError, match=f"does not hold torchvision's weights of VGG-16: {said}"):
            check_vgg16_file(path)


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"features.0.weight": Trap()}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="damaged, or not a file of tensors"):
        check_vgg16_file(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()
