"""VGG-16, with weights from a file that the user names."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import torch
from torch import Tensor, nn

from tokenizer.files import load_weights, pick_weights
from tokenizer.perceptual.distance import FeatureDistance

VGG16_SOURCE = "https://download.pytorch.org/models/vgg16-397923af.pth"
_ENDS = (4, 9, 16, 23, 30)  # behind relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3
# torchvision's, of colors from 0 to 1, as they are from -1 to 1.
_MEAN = tuple(2 * mean - 1 for mean in (0.485, 0.456, 0.406))
_STD = tuple(2 * std for std in (0.229, 0.224, 0.225))


def vgg16_distance(path: Path) -> FeatureDistance:
    """Return the distance of the features of VGG-16 behind five of its layers, the last one of each width or size.

    Images have sides of 16 pixels or more.

    Args:
        path: torchvision's weights of VGG-16, or of its convolutions alone, in any precision, as `torch.save` or
            safetensors wrote them.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    features = _empty()
    features.load_state_dict(_read(path), assign=True)
    layers = list(features)
    pairs = itertools.pairwise((0, *_ENDS))
    return FeatureDistance((nn.Sequential(*layers[start:end]) for start, end in pairs), _MEAN, _STD)


def check_vgg16_file(path: Path) -> None:
    """Raise unless the file holds weights of VGG-16.

    Raises:
        InputError: it is missing, damaged, or holds something else.
    """
    _read(path)


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
    tensors = load_weights(path, "VGG-16", f"get {VGG16_SOURCE}")
    wanted = {f"features.{name}": tensor for name, tensor in _empty().state_dict().items()}
    misfit = f"{path} does not hold torchvision's weights of VGG-16"
    picked = pick_weights(tensors, wanted, misfit, f"get {VGG16_SOURCE}")
    return {name.removeprefix("features."): tensor for name, tensor in picked.items()}
