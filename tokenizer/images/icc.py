"""Color profiles that image files hold: what they say the samples mean, in sRGB."""

from __future__ import annotations

import contextlib
import functools
import io

import numpy as np
from PIL import Image, ImageCms

_ALIKE = 2  # of 255: profiles of sRGB itself differ by 1 from each other
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_srgb(image: Image.Image) -> Image.Image:
    """Return an image in the colors of sRGB, with its transparency: RGB or RGBA where its profile changes them.

    It comes back as it is where its file holds no profile, one of sRGB, one of other samples than it has, or a damaged
    one.
    """
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return image
    space, transform = _transform(profile)
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA", "PA") else None
    colors = _samples(image, space)
    if transform is None or colors is None:
        return image
    changed = ImageCms.applyTransform(colors, transform) or image
    if alpha:
        changed.putalpha(alpha)
    return changed


def _samples(image: Image.Image, space: str) -> Image.Image | None:
    """Return an image without transparency in the mode that a profile is for; None where it holds other samples."""
    if space == "RGB" and image.mode in ("L", "LA", "P", "PA", "RGB", "RGBA"):
        return image.convert("RGB")
    if space == "L" and image.mode in ("L", "LA"):
        return image.convert("L")
    return image if image.mode == space == "CMYK" else None


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return the mode of the samples that a profile is for, and what makes them sRGB, None where nothing need.

    Transforms may be applied by several threads at once.
    """
    with contextlib.suppress(Exception):  # a damaged profile, in whatever way, does not lose the image
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _SPACES[opened.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
        return mode, None if mode == "RGB" and _changes_nothing(transform) else transform
    return "", None


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Return whether a transform of RGB leaves a grid of colors as they are."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    changed = ImageCms.applyTransform(Image.fromarray(grid), transform)
    return int(np.abs(np.asarray(changed).astype(int) - grid).max()) <= _ALIKE
