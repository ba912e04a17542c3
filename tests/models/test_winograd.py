"""Winograd's convolution against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tokenizer.models import winograd
from tokenizer.models.winograd import Conv3x3, Winograd


def gradients(outputs: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    at = torch.randn(outputs.shape, generator=generator, dtype=torch.float64).to(outputs.dtype)
    return torch.autograd.grad(outputs, inputs, at)


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 3, 8, 12), (5, 2, 16, 4)])
@pytest.mark.parametrize("cached", [winograd._CACHED, 5000], ids=["at once", "few at once"])
def test_values_and_gradients_are_those_of_the_convolution(
    shape: tuple[int, ...], cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "_CACHED", cached)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(5, shape[1], 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    wanted = nn.functional.conv2d(x, kernels, bias, padding=1)
    made = Winograd.apply(x.movedim(1, -1), kernels, bias).movedim(-1, 1)
    torch.testing.assert_close(made, wanted)
    for one, other in zip(gradients(made, [x, kernels, bias]), gradients(wanted, [x, kernels, bias]), strict=True):
        torch.testing.assert_close(one, other)


def test_float32_is_right_to_a_hundred_thousandth_of_the_largest_value() -> None:
    torch.manual_seed(0)
    layer = Conv3x3(128, 128)
    x = torch.randn(2, 128, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    exact = nn.functional.conv2d(x.double(), layer.weight.double(), layer.bias.double(), padding=1)  # type: ignore[union-attr]
    made = layer(x)
    assert "Winograd" in repr(made.grad_fn.next_functions)
    assert made.is_contiguous(memory_format=torch.channels_last)
    inputs = [x, layer.weight, layer.bias]
    for one, other in zip((made, *gradients(made, inputs)), (exact, *gradients(exact, inputs)), strict=True):  # type: ignore[arg-type]
        assert float(((one - other).abs().max() / other.abs().max()).detach()) < 2e-5


def test_frozen_kernels_take_no_gradient_and_images_none_either() -> None:
    layer = Conv3x3(112, 112)
    layer.requires_grad_(requires_grad=False)
    x = torch.randn(1, 112, 4, 4, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None
    layer.requires_grad_()
    layer(x.detach()).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize(
    ("channels", "size", "grad"),
    [(111, 8, True), (112, 6, True), (112, 8, False)],
    ids=["narrow", "odd size", "encoding"],
)
def test_elsewhere_it_is_torch_s_own_to_the_bit(channels: int, size: int, grad: bool) -> None:
    layer, x = Conv3x3(channels, channels), torch.randn(1, channels, size, size)
    with torch.set_grad_enabled(grad):
        assert torch.equal(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias, padding=1))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
