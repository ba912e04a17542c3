"""Tiled search in PyTorch's own operations: a matrix product and a maximum, tile by tile.

Taking a maximum with its index over all scores is slow. So a tile is cut into groups, and only the maximum of each
group is taken, without an index, over its members: as these lie `groups` apart, that is an element by element maximum
of `members` contiguous rows. The index is needed among the maxima alone, and then within the one best group:

    best of all    = best of the best group
    second of all  = larger of the second of the best group and the best of all other groups
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tokenizer.quantizers.search.scores import BestScores, CodeGroups, ScoreFactors

_FLOAT32 = 2.0**-24  # the largest relative error of one rounded operation
# Latents of a block: on a CPU for each thread, elsewhere altogether.
_LATENTS = {"cpu": 2**8, "cuda": 2**16}
# Scores held at once where one tile holds all codes; four times as many in a search for several codes.
_SCORES = 2**20
# Maxima of groups held at once: 16 MiB.
_MAXIMA = 2**22
# Candidates more than asked for: as many codes may lie too close to the last one before float64 must look at all.
_SPARE = 8


def scan_tiles(factors: ScoreFactors) -> BestScores:
    """Return the best and the second best score of each latent, and the code of the best."""
    count, device = len(factors.latents), factors.latents.device
    codes = torch.empty(count, dtype=torch.int64, device=device)
    best = torch.empty(count, device=device)
    second = torch.empty(count, device=device)
    pick = _PickFromOne(factors) if factors.layout.tiles == 1 else _PickFromMany(factors)
    for rows in _blocks(count, pick.size):
        codes[rows], best[rows], second[rows] = pick(factors.latents[rows])
    return BestScores(codes, best, second, factors.rounding(_FLOAT32))


def latents_per_block(layout: CodeGroups, device: torch.device) -> int:
    """Return how many latents are searched at once."""
    if layout.tiles == 1:
        return _SCORES // layout.width
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return min(threads * _LATENTS.get(device.type, 2**12), max(64, _MAXIMA // (layout.tiles * layout.groups)))


class _PickFromOne:
    """Best and second best where one tile holds all codes, so that all scores of a block are at hand."""

    def __init__(self, factors: ScoreFactors) -> None:
        self.layout, self.vectors = factors.layout, factors.vectors.t()
        self.size = max(1, min(len(factors.latents), latents_per_block(factors.layout, factors.vectors.device)))
        self.members = _members(factors)
        self.scores = torch.empty(self.size, factors.layout.width, device=factors.vectors.device)

    def __call__(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores = torch.mm(latents, self.vectors, out=self.scores[: len(latents)])
        maxima = scores.view(len(scores), self.layout.members, self.layout.groups).amax(dim=1)
        group = maxima.argmax(dim=1, keepdim=True)
        maxima.scatter_(1, group, -torch.inf)  # what is left is the best of all other groups
        codes = group + self.members
        return _best_of_group(scores.gather(1, codes), codes, maxima.amax(dim=1))


class _PickFromMany:
    """Best and second best over many tiles: each leaves the maxima of its groups, the best group is scored again."""

    def __init__(self, factors: ScoreFactors) -> None:
        self.layout, self.vectors = factors.layout, factors.vectors
        device = factors.vectors.device
        self.size = max(1, min(len(factors.latents), latents_per_block(factors.layout, device)))
        self.members = _members(factors)
        self.scores = torch.empty(self.size, self.layout.width, device=device)
        self.maxima = torch.empty(self.layout.tiles, self.size, self.layout.groups, device=device)
        self.row = torch.arange(self.size, device=device)

    def __call__(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, layout = len(latents), self.layout
        scores, maxima = self.scores[:rows], self.maxima[:, :rows]
        for number, vectors in enumerate(torch.split(self.vectors, layout.width)):
            torch.mm(latents, vectors.t(), out=scores)
            torch.amax(scores.view(rows, layout.members, layout.groups), dim=1, out=maxima[number])
        # First the best tile, (rows, tiles), then the best group within it, (rows, groups): less to look through than
        # all groups of all tiles.
        tops = maxima.amax(dim=2).t().contiguous()
        tile = tops.argmax(dim=1, keepdim=True)
        inside = maxima[tile[:, 0], self.row[:rows]]
        group = inside.argmax(dim=1, keepdim=True)
        # Without that group, and with its tile's other groups in place of the tile: the best of all other groups.
        inside.scatter_(1, group, -torch.inf)
        tops.scatter_(1, tile, inside.amax(dim=1, keepdim=True))
        codes = tile * layout.width + group + self.members
        vectors = self.vectors.index_select(0, codes.flatten()).view(rows, layout.members, -1)
        return _best_of_group((vectors @ latents[:, :, None])[:, :, 0], codes, tops.amax(dim=1))


def _members(factors: ScoreFactors) -> Tensor:
    """Return (members,) where in a tile the members of its group 0 lie."""
    return torch.arange(factors.layout.members, device=factors.vectors.device) * factors.layout.groups


def _best_of_group(scores: Tensor, codes: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (R,) code, best and second best of (R, members) scores and codes, given the (R,) best of all others."""
    best, member = scores.max(dim=1, keepdim=True)
    scores.scatter_(1, member, -torch.inf)
    return codes.gather(1, member)[:, 0], best[:, 0], torch.maximum(scores.amax(dim=1), others)


def scan_several(factors: ScoreFactors, count: int) -> tuple[Tensor, Tensor]:
    """Return for each latent the (N, count) codes of the largest scores, and (N,) whether that is without doubt."""
    total, device = len(factors.latents), factors.latents.device
    found = torch.empty(total, count, dtype=torch.int64, device=device)
    certain = torch.empty(total, dtype=torch.bool, device=device)
    size = max(1, min(2**8, 4 * _SCORES // factors.layout.padded))
    for rows in _blocks(total, size):
        part = factors.of_latents(rows)
        codes, scores = _largest(part, min(count + _SPARE, len(factors.codebook)))
        # Certain where no code beyond the candidates can be better than the last one asked for.
        last = scores[:, count - 1]
        beyond = scores[:, -1] if codes.shape[1] < len(factors.codebook) else torch.full_like(last, -torch.inf)
        certain[rows] = (last - beyond > part.slack(last, part.rounding(_FLOAT32))) & scores.isfinite().all(dim=1)
        found[rows] = _in_order(part, codes)[:, :count]
    return found, certain


def _largest(factors: ScoreFactors, count: int) -> tuple[Tensor, Tensor]:
    """Return the (N, count) codes of the largest computed scores, and these, largest first."""
    layout = factors.layout
    scores = factors.latents @ factors.vectors.t()
    if layout.tiles * layout.groups < 4 * count:
        best = scores.topk(count, dim=1)
        return best.indices, best.values
    # The `count` largest scores lie in at most as many groups, which are those of the `count` largest maxima.
    maxima = scores.view(-1, layout.tiles, layout.members, layout.groups).amax(dim=2)
    tops = maxima.flatten(1).topk(count, dim=1).indices
    tile, group = tops.div(layout.groups, rounding_mode="floor"), tops % layout.groups
    codes = ((tile * layout.width + group)[:, :, None] + _members(factors)).flatten(1)
    best = scores.gather(1, codes).topk(count, dim=1)
    return codes.gather(1, best.indices), best.values


def _in_order(factors: ScoreFactors, codes: Tensor) -> Tensor:
    """Return (N, M) `codes` by their scores in float64, largest first, the lowest first of equals."""
    # Padding is a candidate only where numbers are not finite.
    codes = codes.clamp_max(len(factors.codebook) - 1).sort(dim=1).values
    home = factors.z.device
    device = torch.device("cpu") if home.type == "mps" else home
    z, vectors = factors.z.to(device).double()[:, None], factors.codebook[codes].to(device).double()
    losses = (vectors - z).square().sum(dim=2) if factors.by_distance else -(vectors * z).sum(dim=2)
    return codes.gather(1, losses.sort(dim=1, stable=True).indices.to(home))


def _blocks(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, rows, size))
