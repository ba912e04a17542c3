"""Tokens as a dataset of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tokenizer.tokens.token_array import TokenArray, load_tokens


class TokenDataset(Dataset[Tensor]):
    """The tokens of one image an item: (h, w) int64, or (h, w, C) for C > 1 codes per position.

    Args:
        tokens: what `load_tokens` returned, or a path for it.
        flat: items are sequences, (h * w * C,): row by row, the codes of a position next to each other.

    Raises:
        InputError, TokenFileError: see `load_tokens`.
    """

    def __init__(self, tokens: TokenArray | str | Path, *, flat: bool = False) -> None:
        self.tokens = tokens if isinstance(tokens, TokenArray) else load_tokens(tokens)
        self._flat = flat

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.tokens)

    @property
    def names(self) -> Sequence[str]:
        """The names of the images."""
        return self.tokens.names

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Alphabet size of each of the C codes per position; empty where the files do not say."""
        return self.tokens.codebook_sizes

    def __getitem__(self, index: int) -> Tensor:
        """Return one image's tokens."""
        return self._tensor(self.tokens[index][None])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        """Return the tokens of several images, looked up together: what a DataLoader calls."""
        return list(self._tensor(self.tokens[list(indices)]))

    def _tensor(self, rows: NDArray[Any]) -> Tensor:
        tokens = torch.from_numpy(rows.astype(np.int64))
        return tokens.flatten(1) if self._flat else tokens
