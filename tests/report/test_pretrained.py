"""LPIPS and rFID with random weights, computed again without torchmetrics."""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.image import lpips as heads
from torchvision.models import alexnet, vgg16

from tests.conftest import draw
from tokenizer.errors import InputError, UsageError
from tokenizer.report.pretrained import Frechet, Lpips

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
# (index, stride, padding) of the convolutions, and the indices of those that a pooling comes before.
ALEXNET = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))
VGG16 = tuple((number, 1, 1) for number in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))
ENDS = {"alexnet": (0, 3, 6, 8, 10), "vgg16": (2, 7, 14, 21, 28)}
POOLED = {"alexnet": (3, 6), "vgg16": (5, 10, 17, 24)}


def random_state(build: Callable[..., torch.nn.Module]) -> dict[str, Tensor]:
    """The part of torchvision's file that is used, with weights that keep the size of the features."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build(weights=None).features.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    return {
        f"features.{name}": torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5
        if len(shape) == 4
        else torch.randn(shape, generator=generator) * 0.1
        for name, shape in shapes.items()
    }


STATES = {"alexnet": random_state(alexnet), "vgg16": random_state(vgg16)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for name, state in STATES.items():
        torch.save({**state, "classifier.1.weight": torch.zeros(1)}, folder / f"{name}.pth")
    safetensors.torch.save_file(STATES["alexnet"], folder / "alexnet.safetensors")
    return folder


def pair(height: int = 40, width: int = 52, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(0).normal(0, 15, (height, width, 3))
    first = draw(height, width, seed)
    return first, np.clip(first + noise, 0, 255).round().astype(np.uint8)


def lpips_again(name: str, first: np.ndarray, second: np.ndarray) -> float:
    """The distance in float64, layer by layer."""
    state = {key: value.double() for key, value in STATES[name].items()}
    file = Path(inspect.getfile(heads)).parent / "lpips_models" / f"{name.removesuffix('16').removesuffix('net')}.pth"
    linear = list(torch.load(file, "cpu", weights_only=True).values())
    shift, scale = (torch.tensor(v).double() for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    x = (torch.from_numpy(np.stack([first, second])).double() / 127.5 - 1 - shift) / scale
    x, total = x.permute(0, 3, 1, 2), 0.0
    for number, stride, padding in ALEXNET if name == "alexnet" else VGG16:
        if number in POOLED[name]:
            x = functional.max_pool2d(x, 3 if name == "alexnet" else 2, 2)
        weight, bias = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
        x = functional.conv2d(x, weight, bias, stride, padding).clamp(min=0)
        if number in ENDS[name]:
            unit = x / x.norm(dim=1, keepdim=True).clamp(min=1e-4)
            channels = linear[ENDS[name].index(number)].flatten().double()
            total += float(((unit[0] - unit[1]).square() * channels[:, None, None]).sum(dim=0).mean())
    return total


class TestLpips:
    @pytest.mark.parametrize("file", ["alexnet.pth", "alexnet.safetensors", "vgg16.pth"])
    def test_against_an_independent_computation(self, files: Path, file: str) -> None:
        lpips = Lpips(files / file, CPU)
        assert lpips.network == file.partition(".")[0]
        first, second = pair()
        assert lpips(first, second) == pytest.approx(lpips_again(lpips.network, first, second), rel=1e-3)
        assert lpips(first, second) == pytest.approx(lpips(second, first), rel=1e-5)
        assert lpips(first, first) == 0
        least = {"alexnet": 31, "vgg16": 16}[lpips.network]
        assert lpips(*pair(least, least + 9)) is not None
        assert lpips(*pair(least + 9, least - 1)) is None

    def test_random_numbers_are_not_spent(self, files: Path) -> None:
        before = torch.get_rng_state()
        Lpips(files / "alexnet.pth", CPU)
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"^cannot read the weights of AlexNet or VGG-16 from .*gone\.pth: No such "
        ):
            Lpips(tmp_path / "gone.pth", CPU)

    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    def test_a_damaged_file(self, tmp_path: Path, suffix: str) -> None:
        file = tmp_path / f"a.{suffix}"
        file.write_bytes(b"not weights")
        with pytest.raises(InputError, match=r"damaged, or not a file of tensors: get https://.*--lpips-weights FILE$"):
            Lpips(file, CPU)

    def test_a_foreign_file(self, tmp_path: Path) -> None:
        file = tmp_path / "a.pth"
        for held, said in [
            ({"weight": torch.zeros(2)}, "features.0.weight is missing"),
            ([torch.zeros(2)], "features.0.weight is missing"),
            ({"features.0.weight": torch.zeros(64, 3, 11, 11)}, "features.0.bias is missing, expected"),
            ({"features.0.weight": torch.zeros(())}, r"features.0.weight is \(\), expected \(64, 3, 11, 11\)"),
        ]:
            torch.save(held, file)
            with pytest.raises(InputError, match=f"does not hold torchvision's weights of AlexNet or VGG-16: {said}"):
                Lpips(file, CPU)


class Trap:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._folder),)


@pytest.mark.parametrize("build", [Lpips, Frechet])
def test_code_in_a_file_does_not_run(
    tmp_path: Path, build: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    torch.save({"features.0.weight": Trap(tmp_path / "ran")}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="damaged, or not a file of tensors"):
        build(tmp_path / "a.pth", CPU)
    assert not (tmp_path / "ran").exists()


def test_rfid_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^rFID needs a package that is not installed: pip install torch-fidelity$"):
        Frechet(tmp_path / "a.pth", CPU)


@pytest.fixture(scope="module")
def inception() -> torch.nn.Module:
    """torch-fidelity's own network, with weights that keep the size of the features."""
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    extractor = fidelity.FeatureExtractorInceptionV3
    with mock.patch.object(extractor, "load_state_dict"), mock.patch("torch.load"), torch.random.fork_rng():
        torch.manual_seed(0)
        network = extractor("inception-v3-compat", ["2048"], "none")
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.mul_(6**0.5)
    return network.eval()


@pytest.fixture(scope="module")
def file(inception: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "a.pth"
    torch.save(inception.state_dict(), path)
    return path


class TestFrechet:
    @pytest.mark.slow
    def test_against_an_independent_computation(self, inception: torch.nn.Module, file: Path) -> None:
        pairs = [pair(30 + number, 50 - number, number) for number in range(4)]
        frechet = Frechet(file, CPU)
        for first, second in pairs:
            frechet.add(first, second)
        assert frechet.distance() == pytest.approx(rfid_again(inception, pairs), rel=1e-4)

    def test_fewer_than_two_pictures(self, file: Path) -> None:
        frechet = Frechet(file, CPU)
        assert frechet.distance() is None
        frechet.add(*pair())
        assert frechet.distance() is None

    def test_a_foreign_file(self, inception: torch.nn.Module, tmp_path: Path) -> None:
        torch.save({"weight": torch.zeros(2)}, tmp_path / "a.pth")
        with pytest.raises(
            InputError, match=r"a\.pth does not hold torch-fidelity's weights of Inception-v3: get http"
        ):
            Frechet(tmp_path / "a.pth", CPU)


def rfid_again(inception: torch.nn.Module, pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The distance, where the trace of sqrt(S T) is the sum of the singular values of A B', S = A'A and T = B'B."""
    centered, means = [], []
    for side in zip(*pairs, strict=True):
        with torch.no_grad():
            found = [inception(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])[0] for pixels in side]
        features = torch.cat(found).double().numpy()
        means.append(features.mean(axis=0))
        centered.append((features - means[-1]) / (len(features) - 1) ** 0.5)
    first, second = centered
    singular = np.linalg.svd(first @ second.T, compute_uv=False)
    gap = np.square(means[0] - means[1]).sum()
    return float(gap + np.square(first).sum() + np.square(second).sum() - 2 * singular.sum())
