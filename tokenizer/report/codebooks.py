"""Codebook reports: how far the code vectors of a table lie apart, and how many directions they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizer.metrics import effective_rank

if TYPE_CHECKING:
    from torch import Tensor

    from tokenizer.models import Tokenizer


@dataclass(frozen=True)
class CodeDistances:
    """Euclidean distances from each code vector to the nearest other one; 0 where two are equal."""

    min: float
    median: float
    max: float


@dataclass(frozen=True)
class CodebookReport:
    """One table of code vectors.

    Attributes:
        codes: K.
        width: D, numbers in a code vector.
        rms_norm: root of the mean squared norm of the code vectors.
        nearest: distances to the nearest other code vector; None for a single one.
        nearest_relative: the same over `rms_norm`; None also where that is 0.
        effective_rank: see `metrics.effective_rank`; at most D.
    """

    codes: int
    width: int
    rms_norm: float
    nearest: CodeDistances | None
    nearest_relative: CodeDistances | None
    effective_rank: float


def codebook_reports(model: Tokenizer) -> tuple[CodebookReport, ...]:
    """Return one report for each table of the model's quantizer, in the order of its stages; none of fsq, lfq, bsq.

    Code vectors are taken as the decoder sees them: normalized where the method normalizes; for a curve, the middles
    of its pieces.

    Raises:
        NonFiniteError: a code is not finite.
    """
    import torch

    from tokenizer.quantizers import CodebookQuantizer

    books = [module for module in model.quantizer.modules() if isinstance(module, CodebookQuantizer)]
    with torch.inference_mode():
        return tuple(
            codebook_report(book.decode(torch.arange(book.sizes[0], device=next(book.parameters()).device)[:, None]))
            for book in books
        )


def codebook_report(vectors: Tensor) -> CodebookReport:
    """Return the figures of (K, D) code vectors.

    Raises:
        NonFiniteError: a code vector is not finite.
    """
    norm = float(vectors.double().square().sum(dim=1).mean().sqrt())
    nearest = _nearest(vectors) if len(vectors) > 1 else None
    relative = (
        CodeDistances(nearest.min / norm, nearest.median / norm, nearest.max / norm) if nearest and norm else None
    )
    return CodebookReport(len(vectors), vectors.shape[1], norm, nearest, relative, effective_rank(vectors))


def _nearest(vectors: Tensor) -> CodeDistances:
    import torch

    from tokenizer.quantizers import nearest_several

    found = nearest_several(vectors, vectors, 2)
    own = torch.arange(len(vectors), device=vectors.device)
    # A code vector that has equals may not be the first of its own neighbors.
    other = torch.where(found[:, 0] == own, found[:, 1], found[:, 0])
    distances = (vectors.double() - vectors[other].double()).square().sum(dim=1).sqrt()
    return CodeDistances(float(distances.min()), float(distances.quantile(0.5)), float(distances.max()))
