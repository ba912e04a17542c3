"""Search kernel in Triton: scores live in registers and are never written to memory."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

# Latents and codes of a tile, numbers of a latent that are multiplied at once, warps of a program.
_ROWS, _CODES, _DEPTH, _WARPS = 64, 64, 32, 8


def launch_kernel(
    latents: Tensor, vectors: Tensor, count: int, shares: int, out: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Search each of `shares` parts of the code vectors for each latent.

    Args:
        latents: (N, D + 1) float32.
        vectors: (P, D + 1) float32, offsets in the last column.
        count: K, how many of them to look at.
        shares: S.
        out: (S, N) int32 best code, (S, N) float32 best and second best score of each part, written to.
    """
    rows, width = latents.shape
    per_share = triton.cdiv(triton.cdiv(count, shares), _CODES) * _CODES
    depth = min(_DEPTH, max(16, triton.next_power_of_2(width - 1)))
    _scan[(triton.cdiv(rows, _ROWS), shares)](
        latents, vectors, *out, rows, count, width - 1, per_share,
        ROWS=_ROWS, CODES=_CODES, DEPTH=depth, WHOLE=width - 1 <= depth, num_warps=_WARPS, num_stages=2,
    )  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def _scan(  # type: ignore[no-untyped-def]  # the language is Triton's, not Python's
    latents, vectors, codes, best, second, rows, count, dim, per_share,
    ROWS: tl.constexpr, CODES: tl.constexpr, DEPTH: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    share = tl.program_id(1)
    column = tl.arange(0, DEPTH)
    lane = tl.arange(0, CODES)
    # Positions in 64 bits: N * D may pass 2^31.
    z_place = latents + row.to(tl.int64)[:, None] * (dim + 1) + column[None, :]
    in_rows = (row < rows)[:, None]
    z = tl.load(z_place, mask=in_rows & (column < dim)[None, :], other=0.0)
    # Each of the ROWS x CODES lanes keeps the best and second best of the codes that it has seen.
    top = tl.full((ROWS, CODES), float("-inf"), tl.float32)
    runner_up = tl.full((ROWS, CODES), float("-inf"), tl.float32)
    winner = tl.zeros((ROWS, CODES), tl.int32)
    last = tl.minimum((share + 1) * per_share, count)
    for start in range(share * per_share, last, CODES):
        code = start + lane
        place = vectors + code.to(tl.int64) * (dim + 1)
        in_codes = code < last
        score = tl.zeros((ROWS, CODES), tl.float32)
        if WHOLE:
            c = tl.load(place[None, :] + column[:, None], mask=in_codes[None, :] & (column < dim)[:, None], other=0.0)
            score = tl.dot(z, c, score, input_precision="tf32x3")
        else:
            for first in range(0, dim, DEPTH):
                inside = first + column < dim
                z = tl.load(z_place + first, mask=in_rows & inside[None, :], other=0.0)
                c = tl.load(
                    place[None, :] + first + column[:, None], mask=in_codes[None, :] & inside[:, None], other=0.0
                )
                score = tl.dot(z, c, score, input_precision="tf32x3")
        score += tl.load(place + dim, mask=in_codes, other=float("-inf"))[None, :]
        runner_up = tl.maximum(runner_up, tl.minimum(top, score))
        winner = tl.where(score > top, start, winner)
        top = tl.maximum(top, score)
    # The lowest code of equal scores; the second best is then the largest of what the winner's lane saw beside it and
    # of the best of all other lanes.
    highest = tl.max(top, 1)
    chosen = tl.min(tl.where(top == highest[:, None], winner + lane[None, :], 2147483647), 1)
    others = tl.where(winner + lane[None, :] == chosen[:, None], runner_up, top)
    result = share * rows + row
    tl.store(codes + result, chosen, mask=row < rows)
    tl.store(best + result, highest, mask=row < rows)
    tl.store(second + result, tl.max(others, 1), mask=row < rows)
