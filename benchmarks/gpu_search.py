"""The rows of `benchmarks.gpu` about the search for the nearest code, and about quantizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu_setting import Found, Setting, seconds
from tokenizer.errors import VqtokError
from tokenizer.quantizers import METHODS, Combinator, build_quantizer, fitting_width, read_spec
from tokenizer.quantizers.search import largest_product, nearest, nearest_several
from tokenizer.quantizers.search.fused import fits_kernel, scan_fused
from tokenizer.quantizers.search.precision import full_precision
from tokenizer.quantizers.search.scores import BestScores, ScoreFactors
from tokenizer.quantizers.search.settle import settle_in_float64
from tokenizer.quantizers.search.tiles import scan_tiles

Scan = Callable[[ScoreFactors], BestScores]


def noise(size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return (N, D) latents and (K, D) code vectors, the same everywhere."""
    generator = torch.Generator().manual_seed(0)
    rows, codes, dim = size
    return torch.randn(rows, dim, generator=generator), torch.randn(codes, dim, generator=generator)


def searched(size: tuple[int, int, int], scan: Scan, setting: Setting) -> Found:
    """Search by one way on the device, settle in float64, and compare with the CPU's answer."""
    z, codebook = noise(size)
    with full_precision(setting.device.type):
        factors = ScoreFactors.of_distances(z.to(setting.device), codebook.to(setting.device))
        if scan is scan_fused and not fits_kernel(factors):
            return Found("the kernel does not run here: see the warning", passed=False)
        found = scan(factors)
        doubtful = found.certain(factors).logical_not().nonzero()[:, 0]
        codes = found.codes.clone()
        codes[doubtful] = settle_in_float64(factors, doubtful, 1)[:, 0]
    wrong = int((codes.cpu() != nearest(z, codebook)).sum())
    return Found(f"{wrong} of {len(z)} differ; {100 * len(doubtful) / len(z):.2f} % settled in float64", wrong == 0)


def search_speed(size: tuple[int, int, int], setting: Setting) -> Found:
    """Time three ways to search."""
    z, codebook = (tensor.to(setting.device) for tensor in noise(size))
    with full_precision(setting.device.type):
        factors = ScoreFactors.of_distances(z, codebook)
        ways = {
            "kernel": partial(scan_fused, factors),
            "tiles": partial(scan_tiles, factors),
            "whole search": partial(nearest, z, codebook),
            "cdist": lambda: torch.cdist(z, codebook).argmin(1),
        }
        return Found(", ".join(f"{name} {1e3 * seconds(way, setting):.2f} ms" for name, way in ways.items()))


def equal_codes(setting: Setting) -> Found:
    """Search where each code vector stands twice, and latents lie on them or halfway between two."""
    _, codebook = noise((1, 100 if setting.small else 5000, 8))
    twice = torch.cat([codebook, codebook])
    z = torch.cat([codebook, (codebook[1:] + codebook[:-1]) / 2])
    found = nearest(z.to(setting.device), twice.to(setting.device)).cpu()
    wrong = int((found != nearest(z, twice)).sum())
    return Found(f"{wrong} of {len(z)} differ", wrong == 0 and bool((found < len(codebook)).all()))


def other_searches(setting: Setting) -> Found:
    """Compare the searches for products, and for several codes."""
    wrong = 0
    for size in setting.search_sizes:
        z, codebook = noise((min(size[0], 4096), *size[1:]))
        there = z.to(setting.device), codebook.to(setting.device)
        wrong += int((largest_product(*there).cpu() != largest_product(z, codebook)).sum())
        wrong += int((nearest_several(*there, 4).cpu() != nearest_several(z, codebook, 4)).sum())
    return Found(f"{wrong} differ", wrong == 0)


def every_method(setting: Setting) -> Found:
    """Encode the same latents by every method on both, and take a gradient."""
    plain = [name for name, method in METHODS.items() if not issubclass(method.cls, Combinator)]
    specs = [*plain, "residual(2*diveq)", "product(2*diveq)", "multiscale(2*diveq)"]
    faults = [fault for spec in specs for fault in _faults(spec, setting.device)]
    return Found(f"{len(specs)} methods" + (f": {', '.join(faults)}" if faults else ""), not faults)


def _faults(text: str, device: torch.device) -> Iterator[str]:
    """Yield what a method does not do as on the CPU; what it raises is one of these."""
    try:
        spec = read_spec(text)
        torch.manual_seed(0)
        layer = build_quantizer(spec, fitting_width(spec, 8))
        z = torch.randn(2, 16, 16, layer.dim)
        wanted = layer.encode(z)
        layer = layer.to(device)
        differing = float((layer.encode(z.to(device)).cpu() != wanted).float().mean())
        if differing > 0.001:
            yield f"{text}: {100 * differing:.1f} % of tokens differ"
        latents = z.to(device).requires_grad_()
        quantized = layer.train().learn(latents)
        (quantized.vectors.square().mean() + quantized.loss).backward()  # type: ignore[no-untyped-call]
        if latents.grad is None or not bool(latents.grad.isfinite().all()):
            yield f"{text}: the gradient is not finite"
    except (RuntimeError, VqtokError) as error:
        yield f"{text}: {type(error).__name__}: {str(error).partition(chr(10))[0]:.80}"
