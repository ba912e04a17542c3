"""LPIPS and rFID: figures that need a network trained by others, with weights from files that the user names."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenizer import runtime
from tokenizer.errors import InputError, UsageError
from tokenizer.files import load_weights, pick_weights
from tokenizer.images import Pixels
from tokenizer.models import to_unit_range

_LPIPS = (
    "get https://download.pytorch.org/models/alexnet-owt-7be5be79.pth or "
    "https://download.pytorch.org/models/vgg16-397923af.pth and pass --lpips-weights FILE"
)
_INCEPTION = (
    "get https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth "
    "and pass --inception-weights FILE"
)
_ADVICE = "leave out LPIPS and rFID, or pass --device cpu"


class Lpips:
    """LPIPS: how differently AlexNet or VGG-16 sees two pictures, with the learned weight of each channel.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018),
    https://arxiv.org/abs/1801.03924, version 0.1 as torchmetrics has it, without any resizing.

    Args:
        path: torchvision's weights of AlexNet or of VGG-16, as `torch.save` or safetensors wrote them.
        device: where it computes.

    Attributes:
        network: `alexnet` or `vgg16`; values of the two cannot be compared.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        from torchmetrics.functional.image.lpips import _NoTrainLpips  # its public class has no argument for a file

        state = load_weights(path, "AlexNet or VGG-16", _LPIPS)
        first = state.get("features.0.weight")
        deep = first is not None and first.shape == (64, 3, 3, 3)
        self.network, self._least = ("vgg16", 16) if deep else ("alexnet", 31)
        with torch.random.fork_rng(devices=[]):  # weights are drawn, then replaced
            judge = _NoTrainLpips(net="vgg" if deep else "alex", pnet_rand=True)
        # A layer is slice2.5 there and features.5 in the file.
        names = {name: f"features.{name.partition('.')[2]}" for name in judge.net.state_dict()}
        wanted = {names[name]: tensor for name, tensor in judge.net.state_dict().items()}
        told = f"{path} does not hold torchvision's weights of AlexNet or VGG-16"
        picked = pick_weights(state, wanted, told, _LPIPS)
        judge.net.load_state_dict({name: picked[there] for name, there in names.items()})
        self._judge, self._device = judge.to(device), device

    def __call__(self, first: Pixels, second: Pixels) -> float | None:
        """Return the distance of two (H, W, 3) pictures, 0 or more; None when a side is too short for the network.

        AlexNet needs 31 pixels, VGG-16 16.

        Raises:
            DeviceError: out of memory.
        """
        if min(first.shape[:2]) < self._least:
            return None
        try:
            with torch.inference_mode(), runtime.autocast(self._device, "float32"):
                pair = [to_unit_range(_batch(pixels, self._device)) for pixels in (first, second)]
                return float(self._judge(*pair))
        except RuntimeError as error:
            raise runtime.explain_error(error, _ADVICE) or error from error


class Frechet:
    """rFID: the Frechet distance between Inception features of the originals and of their reconstructions.

    Memory does not grow with the number of pictures.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (2017),
    https://arxiv.org/abs/1706.08500, equation 6, of the 2048 pooled features as torchmetrics and torch-fidelity have
    them, pictures resized to 299x299 as the TensorFlow network did.

    Args:
        path: torch-fidelity's weights of Inception-v3, as `torch.save` or safetensors wrote them.
        device: where features are computed.

    Raises:
        UsageError: torch-fidelity is not installed.
        InputError: the file is missing, damaged, or holds something else.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        if importlib.util.find_spec("torch_fidelity") is None:
            raise UsageError("rFID needs a package that is not installed: pip install torch-fidelity")
        from torchmetrics.image.fid import FrechetInceptionDistance

        # torch-fidelity unpickles what it is given without limits: it gets tensors that were read with them.
        checked: Any = io.BytesIO()  # torchmetrics says a path, and hands on to torch.load what it gets
        torch.save(load_weights(path, "Inception-v3", _INCEPTION), checked)
        checked.seek(0)
        try:
            with torch.random.fork_rng(devices=[]):
                metric = FrechetInceptionDistance(feature_extractor_weights_path=checked, antialias=False)
        except RuntimeError as error:
            raise InputError(f"{path} does not hold torch-fidelity's weights of Inception-v3: {_INCEPTION}") from error
        # Sums are kept in float64, which MPS does not have.
        self._device = device if device.type == "cuda" else torch.device("cpu")
        self._metric, self._pictures = metric.to(self._device), 0

    def add(self, original: Pixels, made: Pixels) -> None:
        """Take in an original and its reconstruction, (H, W, 3) each.

        Raises:
            DeviceError: out of memory.
        """
        try:
            with torch.inference_mode(), runtime.autocast(self._device, "float32"):
                for pixels, real in ((original, True), (made, False)):
                    self._metric.update(_batch(pixels, self._device).permute(0, 3, 1, 2), real=real)
        except RuntimeError as error:
            raise runtime.explain_error(error, _ADVICE) or error from error
        self._pictures += 1

    def distance(self) -> float | None:
        """Return the distance, 0 or more but for rounding; None of fewer than two pictures."""
        return None if self._pictures < 2 else max(0.0, float(self._metric.cpu().compute()))


def _batch(pixels: Pixels, device: torch.device) -> Tensor:
    return torch.from_numpy(pixels.copy())[None].to(device)  # a copy: what came from a file is read-only
