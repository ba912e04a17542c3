"""Loss terms: what `loss` can weigh, and what each term is."""

from __future__ import annotations

LOSSES: dict[str, str] = {
    "l1": "the mean absolute error",
    "l2": "the mean squared error, what PSNR measures",
    "log_l2": "the logarithm of the mean squared error of blocks of 16x16 pixels, averaged over blocks",
    "multiscale": "the absolute error averaged over the image and its halves, quarters and eighths",
    "frequency": "the mean absolute difference of the images' orthonormal Fourier spectra",
    "perceptual": "the distance between the features of EfficientNet-Lite0, or of VGG-16 where the setting "
    "perceptual_weights names a file of its weights",
    "adversarial": "minus the score that a discriminator, trained alongside, gives the images",
}
