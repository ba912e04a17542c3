"""Quality: how near the pictures that tokens decode to come to the originals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizer.errors import InputError
from tokenizer.images import Pixels, Source
from tokenizer.metrics import mean_or_none, ms_ssim, psnr, ssim
from tokenizer.report.baselines import BASELINE_FORMATS, Baseline, BaselineScores
from tokenizer.report.flat_areas import FlatAreas, measure_flat_areas
from tokenizer.report.originals import original_canvas
from tokenizer.tokens import TokenSet

if TYPE_CHECKING:
    from tokenizer.models import Tokenizer
    from tokenizer.perceptual import Lite0Score, Lite0Scores
    from tokenizer.report.pretrained import Frechet, Lpips

RFID_LEAST = 2048
Keep = Callable[[str, Pixels, Pixels], None]


@dataclass(frozen=True)
class ImageQuality:
    """One image. PSNR in dB is None when it came back exactly; each other figure when the image is too small for it.

    SSIM takes sides of 11 pixels, MS-SSIM of 176, LPIPS of 31 with AlexNet and of 16 with VGG-16, the last two of 32.
    LPIPS is None too when no weights were named, and the last two when they were not asked for.
    What is of flat blocks is None without any, and `flat_psnr` too without error in them.
    """

    name: str
    psnr: float | None
    ssim: float | None
    ms_ssim: float | None = None
    lpips: float | None = None
    lite0_distance: float | None = None
    recognized_alike: bool | None = None
    flat_psnr: float | None = None
    flat_share: float | None = None
    blocking: float | None = None
    patchwork: float | None = None


@dataclass(frozen=True)
class Quality:
    """Pictures decoded from the tokens, against the originals; `metrics.DEFINITIONS` says what each figure is.

    Attributes:
        psnr: dB, mean over images; images that came back exactly have none and are counted in `exact`.
        ssim: mean over images with both sides of 11 pixels or more.
        exact: images without any error.
        images: the images compared, in the order of the rows.
        missing: names in the token file without an original to compare with.
        ms_ssim: mean over images with both sides of 176 pixels or more.
        lpips: mean over images that are large enough for the network; None without weights.
        lpips_network: `alexnet` or `vgg16`, whichever the weights are of.
        rfid: over all images; None without weights or with one image. Of fewer than `RFID_LEAST` images it is
            too large: the covariances of 2048 features are not of full rank.
        baselines: image formats at the bits of the tokens, when asked for.
        lite0_distance, lite0_frechet, recognized_alike: when asked for, over images with both sides of 32 pixels or
            more; the second of two such images or more.
        flat_psnr: dB, over all flat blocks together; None without any, or without error in them.
        flat_share: of all 8x8 blocks, 0 to 1; None where no picture has one.
        blocking: steps across grid lines against others, over all flat blocks together; 1 is no grid.
        patchwork: levels by which the mean errors of neighboring flat blocks differ, over all of them together.
    """

    psnr: float | None
    ssim: float | None
    exact: int
    images: tuple[ImageQuality, ...]
    missing: tuple[str, ...]
    ms_ssim: float | None = None
    lpips: float | None = None
    lpips_network: str | None = None
    rfid: float | None = None
    baselines: tuple[Baseline, ...] = ()
    lite0_distance: float | None = None
    lite0_frechet: float | None = None
    recognized_alike: float | None = None
    flat_psnr: float | None = None
    flat_share: float | None = None
    blocking: float | None = None
    patchwork: float | None = None


@dataclass(frozen=True)
class _Compared:
    """An original as the network saw it and its reconstruction, (H, W, 3) each, its flat areas, its tokens' bits."""

    name: str
    original: Pixels
    made: Pixels
    bits: float
    flat: FlatAreas


def measure_quality(
    model: Tokenizer,
    sets: Sequence[TokenSet],
    originals: Mapping[str, Source],
    alpha: tuple[int, int, int] = (255, 255, 255),
    *,
    lpips_weights: Path | None = None,
    inception_weights: Path | None = None,
    baselines: bool = False,
    perceptual: bool = False,
    keep: Keep | None = None,
) -> Quality:
    """Return how the pictures decoded from tokens compare with the originals of the same names.

    Both sides are compared as the network saw them: after the recorded resize and crop, without padding. Pictures are
    held while they are compared; what is kept of each are its figures.

    Args:
        model: the tokenizer.
        sets: tokens of any number of files.
        originals: name to image.
        alpha: (red, green, blue) under transparent pixels.
        lpips_weights: torchvision's weights of AlexNet or VGG-16: adds LPIPS.
        inception_weights: torch-fidelity's weights of Inception-v3: adds rFID.
        baselines: write each original as JPEG and WebP too, with as many bits as its tokens.
        perceptual: add what EfficientNet-Lite0 sees: distance, Frechet distance, what it recognizes.
        keep: called with name, original and reconstruction of each image, as it is compared.

    Raises:
        InputError: no original has the name of a token grid, an original cannot be read or has another size, or
            weights are missing, damaged, or those of something else.
        UsageError: rFID or `perceptual` needs a package that is not installed.
        DeviceError: out of memory.
    """
    lpips, frechet, lite0 = _networks(model, lpips_weights, inception_weights, perceptual=perceptual)
    formats = [BaselineScores(kind) for kind in BASELINE_FORMATS] if baselines else []
    results: list[ImageQuality] = []
    missing: list[str] = []
    flat = FlatAreas()
    for tokens in sets:
        missing += [record.name for record in tokens.images if record.name not in originals]
        for compared in _compare(model, tokens, originals, alpha):
            seen = lite0.add(compared.original, compared.made) if lite0 else None
            results.append(_score(compared, lpips, seen))
            flat += compared.flat
            if frechet:
                frechet.add(compared.original, compared.made)
            for scores in formats:
                scores.add(compared.original, compared.bits)
            if keep:
                keep(compared.name, compared.original, compared.made)
    if not results:
        named = f", such as {missing[0]}," if missing else ""
        raise InputError(
            f"none of the {len(missing)} names in the token file{named} is among the images: "
            "pass the folder that was encoded"
        )
    return Quality(
        psnr=mean_or_none(result.psnr for result in results),
        ssim=mean_or_none(result.ssim for result in results),
        exact=sum(result.psnr is None for result in results),
        images=tuple(results),
        missing=tuple(missing),
        ms_ssim=mean_or_none(result.ms_ssim for result in results),
        lpips=mean_or_none(result.lpips for result in results),
        lpips_network=lpips.network if lpips else None,
        rfid=frechet.distance() if frechet else None,
        baselines=tuple(baseline for scores in formats if (baseline := scores.result())),
        lite0_distance=mean_or_none(result.lite0_distance for result in results),
        lite0_frechet=lite0.frechet if lite0 else None,
        recognized_alike=lite0.recognized_alike if lite0 else None,
        **flat.figures(),
    )


def _networks(
    model: Tokenizer, lpips_weights: Path | None, inception_weights: Path | None, *, perceptual: bool
) -> tuple[Lpips | None, Frechet | None, Lite0Scores | None]:
    device = next(model.parameters()).device
    lite0 = None
    if perceptual:
        from tokenizer.perceptual import Lite0Scores

        lite0 = Lite0Scores(device)
    if not (lpips_weights or inception_weights):
        return None, None, lite0
    from tokenizer.report.pretrained import Frechet, Lpips  # here: torch and torchmetrics take seconds

    lpips = Lpips(lpips_weights, device) if lpips_weights else None
    return lpips, Frechet(inception_weights, device) if inception_weights else None, lite0


def _compare(
    model: Tokenizer, tokens: TokenSet, originals: Mapping[str, Source], alpha: tuple[int, int, int]
) -> Iterator[_Compared]:
    from tokenizer import codec

    bits = sum(math.log2(size) for size in model.codebook_sizes)
    pairs = zip(tokens.images, tokens.grids, strict=True)
    kept = (pair for pair in pairs if pair[0].name in originals)
    for record, canvas in codec.decode_tokens(model, kept):
        if record.placement is None:
            raise InputError(f"the tokens of {record.name} do not say how the image was fitted: encode it with vqtok")
        wanted = original_canvas(record.name, originals[record.name].file, record.placement, alpha)
        original, made = map(record.placement.content_of, (wanted, canvas))
        flat = measure_flat_areas(original, made, model.downsample, record.placement.offset)
        yield _Compared(record.name, original, made, bits * record.grid[0] * record.grid[1], flat)


def _score(compared: _Compared, lpips: Lpips | None, seen: Lite0Score | None) -> ImageQuality:
    original, made = compared.original, compared.made
    decibels = psnr(original, made)
    return ImageQuality(
        compared.name,
        psnr=None if math.isinf(decibels) else decibels,
        ssim=ssim(original, made),
        ms_ssim=ms_ssim(original, made),
        lpips=lpips(original, made) if lpips else None,
        lite0_distance=seen.distance if seen else None,
        recognized_alike=seen.alike if seen else None,
        **compared.flat.figures(),
    )
