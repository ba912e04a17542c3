"""EfficientNet-Lite0: a small classifier of ImageNet's 1000 classes, with weights from the extra `perceptual`."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokenizer.files import load_weights, pick_weights
from tokenizer.perceptual.distance import FeatureDistance
from tokenizer.perceptual.weights_package import INSTALL_ADVICE, lite0_file

# Of each kind of block: how many, side of the kernel, stride of the first, expansion, channels in and out.
_BLOCKS = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
_STAGES = (0, 1, 3, 5, 11, 16)  # blocks at strides 2, 4, 8, 16 and 32
_POOLED, _CLASSES = 1280, 1000
_EPSILON = 1e-3  # of the batch normalization
_ADVICE = f"reinstall it with {INSTALL_ADVICE}"


class Lite0(nn.Module):
    """EfficientNet-Lite0 for images of any size, its batch normalization folded into the convolutions.

    Source: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019),
    https://arxiv.org/abs/1905.11946, table 1, in the variant "lite": ReLU6 for swish, no squeeze-and-excitation.

    Args:
        state: its tensors, by the names that they have in the file, batch normalization included.

    Attributes:
        stages: make features of 16, 24, 40, 112 and 320 channels at strides 2, 4, 8, 16 and 32 of (B, 3, H, W) images
            in [-1, 1], each of those of the one before. A side that a stride does not divide is rounded up.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        stem = _folded(state, "_conv_stem", "_bn0", stride=2)
        blocks = [_Block(state, f"_blocks.{number}.", shape) for number, shape in enumerate(_shapes())]
        pairs = itertools.pairwise(_STAGES)
        self.stages = nn.ModuleList(nn.Sequential(*blocks[start:end]) for start, end in pairs)
        self.stages[0] = nn.Sequential(stem, nn.ReLU6(), *blocks[: _STAGES[1]])
        self._head = nn.Sequential(_folded(state, "_conv_head", "_bn1"), nn.ReLU6())
        self._classifier = nn.Linear(_POOLED, _CLASSES)
        self._classifier.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})
        self.requires_grad_(requires_grad=False).eval().to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, 1280) pooled features and the (B, 1000) logits of (B, 3, H, W) images in [-1, 1]."""
        x = images
        for stage in self.stages:
            x = stage(x)
        pooled = self._head(x).mean(dim=(2, 3))
        return pooled, self._classifier(pooled)


@dataclass(frozen=True)
class _Shape:
    kernel: int
    stride: int
    expansion: int
    inputs: int
    outputs: int

    @property
    def hidden(self) -> int:
        return self.expansion * self.inputs


def _shapes() -> list[_Shape]:
    """Return the shape of each of the 16 blocks."""
    found = []
    for count, kernel, stride, expansion, inputs, outputs in _BLOCKS:
        found.append(_Shape(kernel, stride, expansion, inputs, outputs))
        found += [_Shape(kernel, 1, expansion, outputs, outputs)] * (count - 1)
    return found


class _Block(nn.Module):
    """A mobile inverted bottleneck: wide in between, and the channels of its ends without an activation."""

    def __init__(self, state: Mapping[str, Tensor], prefix: str, shape: _Shape) -> None:
        super().__init__()
        self._adds = shape.stride == 1 and shape.inputs == shape.outputs
        expand = [_folded(state, f"{prefix}_expand_conv", f"{prefix}_bn0"), nn.ReLU6()] if shape.expansion > 1 else []
        depthwise = _folded(
            state, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=shape.stride, groups=shape.hidden
        )
        project = _folded(state, f"{prefix}_project_conv", f"{prefix}_bn2")
        self._layers = nn.Sequential(*expand, depthwise, nn.ReLU6(), project)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self._layers(x)
        return x + made if self._adds else made


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads "same": to ceil(side / stride), an odd pixel at the right and below."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        missing = [max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in x.shape[-2:]]
        above, left = (pixels // 2 for pixels in missing)
        below, right = (pixels - pixels // 2 for pixels in missing)
        if (above, left) == (below, right):
            padded, padding = x, (above, left)
        else:
            padded, padding = functional.pad(x, (left, right, above, below)), (0, 0)
        return functional.conv2d(padded, self.weight, self.bias, self.stride, padding, 1, self.groups)


def _folded(state: Mapping[str, Tensor], conv: str, norm: str, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution that does what `conv` and then the batch normalization `norm` do; folded in float64."""
    kernels = state[f"{conv}.weight"].double()
    scale, shift, mean, var = (
        state[f"{norm}.{name}"].double() for name in ("weight", "bias", "running_mean", "running_var")
    )
    factor = scale / torch.sqrt(var + _EPSILON)
    outputs, inputs, side, _ = kernels.shape
    with torch.device("meta"):
        made = _SameConv(inputs * groups, outputs, side, stride, groups=groups)
    folded = {"weight": kernels * factor[:, None, None, None], "bias": shift - mean * factor}
    made.load_state_dict({name: tensor.float() for name, tensor in folded.items()}, assign=True)
    return made


def _wanted() -> dict[str, Tensor]:
    """Return a tensor of the right shape for each name in the file."""
    shapes: dict[str, tuple[int, ...]] = {"_fc.weight": (_CLASSES, _POOLED), "_fc.bias": (_CLASSES,)}

    def add(conv: str, norm: str, *shape: int) -> None:
        shapes[f"{conv}.weight"] = shape
        shapes.update({f"{norm}.{name}": shape[:1] for name in ("weight", "bias", "running_mean", "running_var")})

    add("_conv_stem", "_bn0", 32, 3, 3, 3)
    for number, block in enumerate(_shapes()):
        prefix = f"_blocks.{number}."
        if block.expansion > 1:
            add(f"{prefix}_expand_conv", f"{prefix}_bn0", block.hidden, block.inputs, 1, 1)
        add(f"{prefix}_depthwise_conv", f"{prefix}_bn1", block.hidden, 1, block.kernel, block.kernel)
        add(f"{prefix}_project_conv", f"{prefix}_bn2", block.outputs, block.hidden, 1, 1)
    add("_conv_head", "_bn1", _POOLED, _BLOCKS[-1][-1], 1, 1)
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def load_lite0() -> Lite0:
    """Return the network with its trained weights.

    Raises:
        UsageError: the extra `perceptual` is not installed.
        InputError: its file is missing, damaged, or holds something else.
    """
    return Lite0(_read_once(lite0_file()))


@functools.lru_cache(maxsize=1)
def _read_once(path: Path) -> dict[str, Tensor]:
    tensors = load_weights(path, "EfficientNet-Lite0", _ADVICE)
    return pick_weights(tensors, _wanted(), f"{path} does not hold the weights of EfficientNet-Lite0", _ADVICE)


def lite0_distance() -> FeatureDistance:
    """Return the distance of the features of EfficientNet-Lite0 at strides 2, 4, 8, 16 and 32.

    Images may have any size; below 32 pixels the last stages see little but the padding.

    Raises:
        UsageError: the extra `perceptual` is not installed.
        InputError: its file is missing, damaged, or holds something else.
    """
    # In bfloat16 its gradient points elsewhere: a cosine of 0.8 to that in float32, where VGG-16 has 0.99.
    return FeatureDistance(load_lite0().stages, full_precision=True)
