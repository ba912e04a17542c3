"""Reconstruction losses: named terms, each on (B, 3, H, W) float32 images in [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from tokenizer.config import LOSSES, unknown_setting

Term = Callable[[Tensor, Tensor], Tensor]
_BLOCK = 16
_LEVEL = 1 / 127.5  # of 8-bit pixels, in [-1, 1]
_AT_26_DB = 0.01  # squared error in [-1, 1]


def l1(images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute error."""
    return functional.l1_loss(images, targets)


def l2(images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error, what PSNR measures."""
    return functional.mse_loss(images, targets)


def log_l2(images: Tensor, targets: Tensor) -> Tensor:
    """Return the logarithm of the mean squared error of blocks of 16x16 pixels, averaged over blocks.

    PSNR is a logarithm too, averaged over images: squared error is spent where a picture is busy, while a flat block
    with visible error costs it nothing. The error is in levels of 8-bit pixels, with one added: 0 where there is none.
    The scale is such that a block at 26 dB has the gradient that `l2` gives it. A picture's last rows and columns of
    fewer than 16 pixels belong to smaller blocks.
    """
    error = (images - targets).square().mean(dim=1, keepdim=True)
    blocks = functional.avg_pool2d(error, _BLOCK, ceil_mode=True, count_include_pad=False)
    return _AT_26_DB * (blocks / _LEVEL**2).log1p().mean()


def multiscale(images: Tensor, targets: Tensor) -> Tensor:
    """Return the absolute error averaged over the image and its halves, quarters and eighths."""
    loss = l1(images, targets)
    for _ in range(3):
        images, targets = functional.avg_pool2d(images, 2), functional.avg_pool2d(targets, 2)
        loss = loss + l1(images, targets)
    return loss / 4


def frequency(images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute difference of the images' orthonormal Fourier spectra."""
    return torch.fft.rfft2(images - targets, norm="ortho").abs().mean()


# `LOSSES` says in words what each is.
TERMS: dict[str, Term] = {"l1": l1, "l2": l2, "log_l2": log_l2, "multiscale": multiscale, "frequency": frequency}
# The other terms have networks of their own, which `train.objective` adds; the least side in pixels of what these see.
_SMALLEST = {"perceptual": 16, "adversarial": 24}


def loss_faults(weights: Mapping[str, float]) -> list[str]:
    """Return what is wrong with the weights of the terms, one line each.

    Every name is a term and every weight 0 or more; one but `adversarial` is above 0.
    """
    faults = [unknown_setting(name, LOSSES, "loss.", listed=True) for name in weights if name not in LOSSES]
    faults += [f"loss.{name} is {weight}, expected 0 or more" for name, weight in weights.items() if weight < 0]
    if not any(weight > 0 for name, weight in weights.items() if name != "adversarial"):
        beside = " beside adversarial" if weights.get("adversarial", 0) > 0 else ""
        faults.append(f"loss has no term above 0{beside}, known: {', '.join(LOSSES)}")
    return faults


def smallest_loss_side(weights: Mapping[str, float]) -> int:
    """Return the least side of an image, in pixels, that all terms of `weights` can judge."""
    return max([1, *(_SMALLEST[name] for name in _SMALLEST if weights.get(name))])


def reconstruction_loss(images: Tensor, targets: Tensor, weights: Mapping[str, float]) -> Tensor:
    """Return the () weighted sum of the terms in `TERMS` that `weights` names."""
    terms = [weight * TERMS[name](images, targets) for name, weight in weights.items() if weight and name in TERMS]
    return torch.stack(terms).sum() if terms else images.new_zeros(())
