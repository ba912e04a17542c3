"""The perceptual loss: how differently VGG-16 sees two images."""

from __future__ import annotations

import functools
import hashlib
import itertools
from pathlib import Path

import torch
from torch import Tensor, nn

from tokenizer.errors import ConfigError
from tokenizer.files import load_weights, pick_weights

SOURCE = "https://download.pytorch.org/models/vgg16-397923af.pth"
_ENDS = (4, 9, 16, 23, 30)  # behind relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LEAST = 1e-8  # of a feature vector's squared length, so that its direction has a bounded gradient


class Perceptual(nn.Module):
    """Squared distance between the features of VGG-16, each of unit length, summed over five of its layers.

    Its weights are frozen. It computes in the precision of its surroundings, and compares in float32.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018),
    https://arxiv.org/abs/1801.03924, equation 1. A departure: every channel's weight w_l is 1, where LPIPS has learned
    ones, so that torchvision's file is all it takes. Values are larger than those of LPIPS.

    Args:
        path: torchvision's weights of VGG-16, as `torch.save` or safetensors wrote them.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        features = _empty()
        features.load_state_dict(_read(path), assign=True)
        layers = list(features)
        pairs = itertools.pairwise((0, *_ENDS))
        self.slices = nn.ModuleList(nn.Sequential(*layers[start:end]) for start, end in pairs)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(_STD)[:, None, None])
        self.requires_grad_(requires_grad=False).eval().to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the () distance of (B, 3, H, W) images in [-1, 1] from `targets`, 0 to 20; H and W are 16 or more."""
        distance = images.new_zeros(())
        x, y = self._normalize(images), self._normalize(targets)
        for layers in self.slices:
            x = layers(x)
            with torch.no_grad():
                y = layers(y)
            distance = distance + (_directions(x) - _directions(y)).square().sum(dim=1).mean()
        return distance

    @functools.cached_property
    def digest(self) -> Tensor:
        """The (32,) uint8 SHA-256 of the weights."""
        sha = hashlib.sha256()
        for parameter in self.parameters():
            sha.update(parameter.detach().cpu().contiguous().numpy().tobytes())
        return torch.tensor(list(sha.digest()), dtype=torch.uint8)

    def _normalize(self, images: Tensor) -> Tensor:
        return ((images + 1) / 2 - self.mean) / self.std


def _directions(features: Tensor) -> Tensor:
    features = features.float()
    return features * torch.rsqrt(features.square().sum(dim=1, keepdim=True) + _LEAST)


def check_perceptual_weights(path: str | None) -> None:
    """Raise unless `path` names a file of VGG-16's weights.

    Raises:
        ConfigError: it is None, or there is no such file.
        InputError: the file is damaged, or holds something else.
    """
    advice = f"get {SOURCE} and pass --set perceptual_weights=FILE, or leave the term out with --set loss.perceptual=0"
    if path is None:
        raise ConfigError([f"loss.perceptual needs the weights of VGG-16, which are never downloaded: {advice}"])
    if not Path(path).is_file():
        raise ConfigError([f"perceptual_weights is {path!r}, which is no file: {advice}"])
    _read(Path(path))


def _empty() -> nn.Sequential:
    """Return the convolutional part of VGG-16 up to its last ReLU, without memory for its weights."""
    from torchvision.models import vgg16  # here: its import takes longer than most starts

    with torch.device("meta"):
        features: nn.Sequential = vgg16(weights=None).features[: _ENDS[-1]]
    return features


def _read(path: Path) -> dict[str, Tensor]:
    """Return the state of the convolutional part.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    try:
        status = path.stat()
    except OSError:
        return _read_once(path, (0, 0))
    return _read_once(path, (status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=1)  # a run is planned and then begun, and `compare` plans many
def _read_once(path: Path, _version: tuple[int, int]) -> dict[str, Tensor]:
    tensors = load_weights(path, "VGG-16", f"get {SOURCE}")
    wanted = {f"features.{name}": tensor for name, tensor in _empty().state_dict().items()}
    misfit = f"{path} does not hold torchvision's weights of VGG-16"
    picked = pick_weights(tensors, wanted, misfit, f"get {SOURCE}")
    return {name.removeprefix("features."): tensor for name, tensor in picked.items()}
