"""The search in PyTorch's own operations: a matrix product and a maximum, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tokenizer.quantizers.search.groups import CodeGroups
from tokenizer.quantizers.search.scores import Scores, Winners

_UNIT = 2.0**-24
# Rows of a tile: on a CPU for each thread, elsewhere altogether.
_ROWS = {"cpu": 2**8, "cuda": 2**16}
# Scores kept at once where one tile holds all codes; and of a search for several codes.
_KEPT = 2**20
# Maxima of groups kept at once: 16 MiB.
_MAXIMA = 2**22
# Candidates more than asked for: as many codes may lie too close to the last one before float64 must look at all.
_SPARE = 8


def scan_tiles(scores: Scores) -> Winners:
    """Return the best and the second best score of each latent, and the index of the best."""
    count, device = len(scores.latents), scores.latents.device
    index = torch.empty(count, dtype=torch.int64, device=device)
    best = torch.empty(count, device=device)
    second = torch.empty(count, device=device)
    pick = _PickFromOne(scores) if scores.layout.tiles == 1 else _PickFromMany(scores)
    for rows in _blocks(count, pick.rows):
        index[rows], best[rows], second[rows] = pick(scores.latents[rows])
    return Winners(index, best, second, scores.rounding(_UNIT))


def rows_of_block(layout: CodeGroups, device: torch.device) -> int:
    """Return how many latents are searched at once."""
    if layout.tiles == 1:
        return _KEPT // layout.width
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return min(threads * _ROWS.get(device.type, 2**12), max(64, _MAXIMA // (layout.tiles * layout.groups)))


class _PickFromOne:
    """Best and second best where one tile holds all codes, so that all scores of a block are at hand."""

    def __init__(self, scores: Scores) -> None:
        self.layout, self.codes = scores.layout, scores.codes.t()
        self.rows = max(1, min(len(scores.latents), rows_of_block(scores.layout, scores.codes.device)))
        self.members = _members(scores)
        self.values = torch.empty(self.rows, scores.layout.width, device=scores.codes.device)

    def __call__(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = torch.mm(latents, self.codes, out=self.values[: len(latents)])
        tops = values.view(len(values), self.layout.members, self.layout.groups).amax(dim=1)
        group = tops.argmax(dim=1, keepdim=True)
        tops.scatter_(1, group, -torch.inf)
        codes = group + self.members
        return _best_of_group(values.gather(1, codes), codes, tops.amax(dim=1))


class _PickFromMany:
    """Best and second best over many tiles: each leaves the maxima of its groups, the best group is scored again."""

    def __init__(self, scores: Scores) -> None:
        self.layout, self.codes = scores.layout, scores.codes
        device = scores.codes.device
        self.rows = max(1, min(len(scores.latents), rows_of_block(scores.layout, device)))
        self.members = _members(scores)
        self.values = torch.empty(self.rows, self.layout.width, device=device)
        self.maxima = torch.empty(self.layout.tiles, self.rows, self.layout.groups, device=device)
        self.row = torch.arange(self.rows, device=device)

    def __call__(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, layout = len(latents), self.layout
        values, maxima = self.values[:rows], self.maxima[:, :rows]
        for number, codes in enumerate(torch.split(self.codes, layout.width)):
            torch.mm(latents, codes.t(), out=values)
            torch.amax(values.view(rows, layout.members, layout.groups), dim=1, out=maxima[number])
        tops = maxima.amax(dim=2).t().contiguous()
        tile = tops.argmax(dim=1, keepdim=True)
        inside = maxima[tile[:, 0], self.row[:rows]]
        group = inside.argmax(dim=1, keepdim=True)
        inside.scatter_(1, group, -torch.inf)
        tops.scatter_(1, tile, inside.amax(dim=1, keepdim=True))
        index = tile * layout.width + group + self.members
        vectors = self.codes.index_select(0, index.flatten()).view(rows, layout.members, -1)
        return _best_of_group((vectors @ latents[:, :, None])[:, :, 0], index, tops.amax(dim=1))


def _members(scores: Scores) -> Tensor:
    return torch.arange(scores.layout.members, device=scores.codes.device) * scores.layout.groups


def _best_of_group(values: Tensor, codes: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return index, best and second best of (R, members) values of `codes`, given the (R,) best of all others."""
    best, member = values.max(dim=1, keepdim=True)
    values.scatter_(1, member, -torch.inf)
    return codes.gather(1, member)[:, 0], best[:, 0], torch.maximum(values.amax(dim=1), others)


def scan_several(scores: Scores, count: int) -> tuple[Tensor, Tensor]:
    """Return for each latent the (N, count) codes of the largest scores, and (N,) whether that is without doubt."""
    total, device = len(scores.latents), scores.latents.device
    found = torch.empty(total, count, dtype=torch.int64, device=device)
    certain = torch.empty(total, dtype=torch.bool, device=device)
    size = max(1, min(2**8, 4 * _KEPT // scores.layout.padded))
    for rows in _blocks(total, size):
        part = scores.rows(rows)
        codes, values = _largest(part, min(count + _SPARE, len(scores.codebook)))
        last = values[:, count - 1]
        beyond = values[:, -1] if codes.shape[1] < len(scores.codebook) else torch.full_like(last, -torch.inf)
        certain[rows] = (last - beyond > part.slack(last, part.rounding(_UNIT))) & values.isfinite().all(dim=1)
        found[rows] = _in_order(part, codes)[:, :count]
    return found, certain


def _largest(scores: Scores, count: int) -> tuple[Tensor, Tensor]:
    """Return the (N, count) codes of the largest computed scores, and these, largest first."""
    layout = scores.layout
    values = scores.latents @ scores.codes.t()
    if layout.tiles * layout.groups < 4 * count:
        best = values.topk(count, dim=1)
        return best.indices, best.values
    # The largest scores lie in as many groups, those of the largest maxima.
    maxima = values.view(-1, layout.tiles, layout.members, layout.groups).amax(dim=2)
    tops = maxima.flatten(1).topk(count, dim=1).indices
    tile, group = tops.div(layout.groups, rounding_mode="floor"), tops % layout.groups
    codes = ((tile * layout.width + group)[:, :, None] + _members(scores)).flatten(1)
    best = values.gather(1, codes).topk(count, dim=1)
    return codes.gather(1, best.indices), best.values


def _in_order(scores: Scores, codes: Tensor) -> Tensor:
    """Return (N, M) `codes` by their scores in float64, largest first, lower indices first of equal ones."""
    # Padding is a candidate only where numbers are not finite.
    codes = codes.clamp_max(len(scores.codebook) - 1).sort(dim=1).values
    home = scores.z.device
    device = torch.device("cpu") if home.type == "mps" else home
    z, vectors = scores.z.to(device).double()[:, None], scores.codebook[codes].to(device).double()
    losses = (vectors - z).square().sum(dim=2) if scores.by_distance else -(vectors * z).sum(dim=2)
    return codes.gather(1, losses.sort(dim=1, stable=True).indices.to(home))


def _blocks(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, rows, size))
