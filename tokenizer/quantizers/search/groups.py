"""How codes are cut into tiles and groups."""

from __future__ import annotations

from dataclasses import dataclass

# A tile of 256 rows and 1024 codes has 1 MiB of scores: it stays in a core's cache.
_TILE = 1024
# Codes in a group. A maximum over groups runs at the speed of memory where a tile has 32 groups or more.
_MEMBERS, _GROUPS = 16, 32


@dataclass(frozen=True)
class CodeGroups:
    """K codes in tiles of `members * groups`; group g of a tile holds its codes g, g + groups, g + 2 groups, ...

    Attributes:
        tiles: number of tiles.
        members: codes in a group.
        groups: groups in a tile.
    """

    tiles: int
    members: int
    groups: int

    @property
    def width(self) -> int:
        """Codes in a tile."""
        return self.members * self.groups

    @property
    def padded(self) -> int:
        """Codes in all tiles: K or a few more."""
        return self.tiles * self.width

    @classmethod
    def of(cls, codes: int) -> CodeGroups:
        """Return the layout for a codebook of that size."""
        if codes > 2 * _TILE:
            return cls(-(-codes // _TILE), _MEMBERS, _TILE // _MEMBERS)
        members = max(1, min(_MEMBERS, codes // _GROUPS))
        return cls(1, members, -(-codes // members))
