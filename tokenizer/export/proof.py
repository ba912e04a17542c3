"""The check that exported graphs give the tokens and pixels of the tokenizer that they were made from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tokenizer.errors import OutputError
from tokenizer.export.graphs import Exported
from tokenizer.images import Pixels, placement_of, resize
from tokenizer.models import Tokenizer, to_pixels, to_unit_range

_DRAWN = ((1, 1, 1), (2, 3, 5), (3, 16, 12))  # how many, their height and width in positions
# A token may differ where noise of this share of the latents' root mean square makes our encoder give the other one.
_NEAR, _DRAWS, _LOOKED_AT = 1e-4, 64, 1000
_MOST_NEAR_TIES = 0.01


@dataclass(frozen=True)
class ExportCheck:
    """How onnxruntime's answers on a CPU compare with ours.

    Attributes:
        images: that were encoded and decoded.
        tokens: compared, C for each position.
        near_ties: tokens that differ; each is a near tie, or there would be no result.
        values: 8-bit values of decoded images compared, 3 for each pixel.
        off_by_one: values that differ, each by 1.
    """

    images: int = 0
    tokens: int = 0
    near_ties: int = 0
    values: int = 0
    off_by_one: int = 0

    def __add__(self, other: ExportCheck) -> ExportCheck:
        """Return both comparisons as one."""
        return ExportCheck(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))


def check_exported(exported: Exported, model: Tokenizer, pictures: Iterable[Pixels] = ()) -> ExportCheck:
    """Compare exported graphs, run by onnxruntime on the CPU, with `model` there, on drawn images and on `pictures`.

    Sums of floating-point numbers depend on their order, so a token may differ where two codes are equally near but
    for rounding: where our own encoder gives the same token for a latent that noise of 1e-4 of the latents' root mean
    square has moved. Decoded are our tokens, and random ones, which reach all codes.

    Args:
        exported: the graphs.
        model: what they were made of, on the CPU.
        pictures: (H, W, 3) uint8 each, of any size.

    Raises:
        OutputError: a token differs that is no near tie, more than 1 % are near ties, or a pixel is off by more than 1.
    """
    encode, decode = _session(exported.encoder, "encoder"), _session(exported.decoder, "decoder")
    total = ExportCheck()
    fitted = (placement_of(p.shape[:2], "none", None, model.downsample).apply(p)[None] for p in pictures)
    for images in itertools.chain(_drawn(model.downsample), fitted):
        tokens, ties = _compare_tokens(model, images, encode(images))
        random = np.random.default_rng(0).integers(0, model.codebook_sizes, size=tokens.shape)
        counts = [_compare_pixels(model, grids, decode(grids)) for grids in (tokens, random)]
        total += ExportCheck(len(images), tokens.size, ties, sum(v for v, _ in counts), sum(off for _, off in counts))
    if total.near_ties > _MOST_NEAR_TIES * total.tokens:
        raise OutputError(
            f"{total.near_ties} of {total.tokens} tokens of the exported encoder differ, each from rounding alone: "
            "codes or latents lie too close together for tokens that mean something"
        )
    return total


def _session(data: bytes, name: str) -> Any:
    """Return a function from the one input to the one output of an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base
        raise _cannot_run(name, error) from error
    (given,) = session.get_inputs()

    def run(values: NDArray[Any]) -> NDArray[Any]:
        try:
            (result,) = session.run(None, {given.name: values})
        except Exception as error:
            raise _cannot_run(name, error) from error
        return np.asarray(result)

    return run


def _cannot_run(name: str, error: Exception) -> OutputError:
    return OutputError(f"onnxruntime cannot run the exported {name}: {str(error).strip().partition(chr(10))[0]}")


def _drawn(multiple: int) -> Iterator[Pixels]:
    """Yield batches of colored noise, coarse and fine, in several sizes."""
    random = np.random.default_rng(0)
    for count, rows, columns in _DRAWN:
        height, width = rows * multiple, columns * multiple
        batch = []
        for _ in range(count):
            grids = [random.integers(0, 256, (n, n, 3), dtype=np.uint8) for n in (2, 8, 64)]
            layers = [resize(grid, height, width).astype(np.int64) for grid in grids]
            batch.append((np.tensordot([3, 2, 1], layers, 1) // 6).astype(np.uint8))
        yield np.stack(batch)


@torch.no_grad()
def _compare_tokens(model: Tokenizer, images: Pixels, theirs: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return our tokens of (B, H, W, 3) images, and how many of `theirs` differ, near ties all of them."""
    latents = model.latents(to_unit_range(torch.from_numpy(images)))
    ours, other = model.quantizer.encode(latents), torch.from_numpy(theirs)
    if ours.shape != other.shape:
        raise OutputError(f"the exported encoder makes tokens {tuple(other.shape)}, expected {tuple(ours.shape)}")
    differing = (ours != other).any(dim=-1)
    moved, wanted = latents[differing][:_LOOKED_AT], other[differing][:_LOOKED_AT]
    noise = torch.randn(_DRAWS, *moved.shape, generator=torch.Generator().manual_seed(0))
    reached = (model.quantizer.encode(moved + _NEAR * latents.square().mean().sqrt() * noise) == wanted).any(dim=0)
    if not bool(reached.all()):
        raise OutputError(
            f"{int((ours != other).sum())} of {ours.numel()} tokens of the exported encoder differ on an image of "
            f"{images.shape[1]}x{images.shape[2]} pixels, not from rounding alone"
        )
    return ours.numpy(), int((ours != other).sum())


def _compare_pixels(model: Tokenizer, tokens: NDArray[np.int64], theirs: Pixels) -> tuple[int, int]:
    """Return how many values the decoded (B, H, W, 3) images have, and how many of `theirs` are off by one."""
    ours = to_pixels(model.decode(torch.from_numpy(tokens))).numpy()
    if ours.shape != theirs.shape:
        raise OutputError(f"the exported decoder makes images {theirs.shape}, expected {ours.shape}")
    steps = np.abs(ours.astype(np.int16) - theirs)
    if steps.max() > 1:
        raise OutputError(f"pixels of the exported decoder are off by up to {steps.max()} of 255, expected 1 at most")
    return steps.size, int(np.count_nonzero(steps))
