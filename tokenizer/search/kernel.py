"""The search as one Triton kernel: scores live in registers and are never written to memory."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

# Rows and codes of a tile, warps of a program.
_ROWS, _CODES, _WARPS = 64, 64, 4


def launch(latents: Tensor, codes: Tensor, count: int, shares: int, out: tuple[Tensor, Tensor, Tensor]) -> None:
    """Search each of `shares` parts of the codes for each latent.

    Args:
        latents: (N, D + 1) float32.
        codes: (P, D + 1) float32, offsets in the last column.
        count: K, how many of them to look at.
        shares: S.
        out: (S, N) int32 index, (S, N) float32 best and second best score of each part, written to.
    """
    rows, width = latents.shape
    per_share = triton.cdiv(triton.cdiv(count, shares), _CODES) * _CODES
    _scan[(triton.cdiv(rows, _ROWS), shares)](
        latents, codes, *out, rows, count, width - 1, per_share,
        PADDED=max(16, triton.next_power_of_2(width - 1)), ROWS=_ROWS, CODES=_CODES, num_warps=_WARPS,
    )  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def _scan(  # type: ignore[no-untyped-def]  # the language is Triton's, not Python's
    latents, codes, index, best, second, rows, count, dim, per_share,
    PADDED: tl.constexpr, ROWS: tl.constexpr, CODES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    share = tl.program_id(1)
    column = tl.arange(0, PADDED)
    lane = tl.arange(0, CODES)
    inside = column < dim
    # Positions in 64 bits: N * D may pass 2^31.
    z = tl.load(
        latents + row.to(tl.int64)[:, None] * (dim + 1) + column[None, :],
        mask=(row < rows)[:, None] & inside[None, :],
        other=0.0,
    )
    # Each of the ROWS x CODES lanes keeps the best and second best of the codes that it has seen.
    top = tl.full((ROWS, CODES), float("-inf"), tl.float32)
    runner_up = tl.full((ROWS, CODES), float("-inf"), tl.float32)
    winner = tl.zeros((ROWS, CODES), tl.int32)
    last = tl.minimum((share + 1) * per_share, count)
    for start in range(share * per_share, last, CODES):
        code = start + lane
        place = code.to(tl.int64) * (dim + 1)
        c = tl.load(codes + place[None, :] + column[:, None], mask=(code < last)[None, :] & inside[:, None], other=0.0)
        offset = tl.load(codes + place + dim, mask=code < last, other=float("-inf"))
        score = tl.dot(z, c, input_precision="tf32x3") + offset[None, :]
        runner_up = tl.maximum(runner_up, tl.minimum(top, score))
        winner = tl.where(score > top, start, winner)
        top = tl.maximum(top, score)
    highest = tl.max(top, 1)
    chosen = tl.min(tl.where(top == highest[:, None], winner + lane[None, :], 2147483647), 1)
    others = tl.where(winner + lane[None, :] == chosen[:, None], runner_up, top)
    place = share * rows + row
    tl.store(index + place, chosen, mask=row < rows)
    tl.store(best + place, highest, mask=row < rows)
    tl.store(second + place, tl.max(others, 1), mask=row < rows)
