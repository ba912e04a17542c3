"""Code groups: how the rows of a codebook are cut into tiles, and these into groups."""

from __future__ import annotations

from dataclasses import dataclass

# 256 latents have 1 MiB of scores in a tile of 1024 code vectors: they stay in a core's cache.
_TILE = 1024
# Rows in a group, and the least number of groups. Maxima over the members of all groups of a tile are taken at once,
# one vector operation for each member; it runs at the speed of memory where a tile has 32 groups or more.
_MEMBERS, _GROUPS = 16, 32


@dataclass(frozen=True)
class CodeGroups:
    """K code vectors in tiles of `members * groups`; group g of a tile has its rows g, g + groups, g + 2 groups, ...

    Attributes:
        tiles: number of tiles.
        members: rows in a group.
        groups: groups in a tile.
    """

    tiles: int
    members: int
    groups: int

    @property
    def width(self) -> int:
        """Rows in a tile."""
        return self.members * self.groups

    @property
    def padded(self) -> int:
        """Rows in all tiles: K or a few more."""
        return self.tiles * self.width

    @classmethod
    def of(cls, codebook_size: int) -> CodeGroups:
        """Return the groups of a codebook of that size: up to two tiles' worth lie in one."""
        if codebook_size > 2 * _TILE:
            return cls(-(-codebook_size // _TILE), _MEMBERS, _TILE // _MEMBERS)
        members = max(1, min(_MEMBERS, codebook_size // _GROUPS))
        return cls(1, members, -(-codebook_size // members))
