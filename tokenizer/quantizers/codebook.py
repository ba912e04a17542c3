"""Codebook quantizer: what every method with one table of code vectors shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tokenizer.quantizers.base import Quantized, Quantizer, ReplacedRows
from tokenizer.quantizers.dead_codes import DeadCodeReplacement
from tokenizer.quantizers.geometry import unit
from tokenizer.quantizers.k_means import k_means
from tokenizer.quantizers.search import nearest
from tokenizer.quantizers.tables import PlainTable, Transform, build_table
from tokenizer.runtime import from_first_rank

Normalize = Literal["none", "sphere", "rms"]


class CodebookQuantizer(Quantizer):
    """A quantizer whose token is the nearest row of one (K, D) table.

    A method defines `estimate`, and `auxiliary_loss` where it has one. One that needs the whole table overrides
    `approximate`, one that keeps statistics `observe`. In all of these:

        z               (..., D) float32 latents, normalized where the method normalizes
        code_vectors    (K, D) the table as the decoder sees it
        chosen          (...,) int64, the code that each latent chose
        chosen_vectors  (..., D) the code vectors of these codes

    Args:
        dim: D, the width of a latent.
        codebook_size: K.
        transform: where the code vectors come from: `none`, a table of their own; `linear`, a table through one map
            that is learned with it, or alone (`linear-frozen`); `mlp`, a few numbers each through a small network;
            `bridge`, a table that a network over all of its rows moves.
        normalize: project latents and code vectors on the unit `sphere` (nearest is then most similar in angle) or to
            a root mean square of 1 (`rms`, a sphere of radius sqrt(D)).
        dead_code_patience: steps after which a code that no latent chose is replaced; 0 turns it off.
    """

    # True where `estimate` steps over the whole error: combinators then take one step towards all stages together.
    one_step: ClassVar[bool] = False

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: int = 1024,
        transform: Transform = "none",
        normalize: Normalize = "none",
        dead_code_patience: int = 50,
    ) -> None:
        super().__init__()
        if dim < 1 or codebook_size < 1:
            raise ValueError(f"dim is {dim} and codebook_size {codebook_size}, expected 1 or more")
        self.dim = dim
        self.sizes = (codebook_size,)
        self.normalize = normalize
        self.table = build_table(transform, codebook_size, dim)
        self.dead_codes = DeadCodeReplacement(codebook_size, dead_code_patience)

    @classmethod
    def min_parameters(cls, options: Mapping[str, Any], dim: int) -> int:
        """Return the size of the table, half as wide where it is made of fewer numbers, and of the map behind it."""
        table = max(0, options["codebook_size"]) * max(1, dim // 2)
        return int(table + (options["transform"] != "none") * dim**2)

    def estimate(self, z: Tensor, chosen_vectors: Tensor) -> Tensor:
        """Return the (..., D) training output for (..., D) latents and the (..., D) code vectors that they chose."""
        raise NotImplementedError(f"{type(self).__name__} defines neither estimate nor approximate")

    def auxiliary_loss(self, z: Tensor, chosen_vectors: Tensor) -> Tensor:  # noqa: ARG002  # for methods with one
        """Return the () loss that the method adds to the reconstruction's; 0 unless a method says otherwise."""
        return torch.zeros((), device=z.device)

    def approximate(self, z: Tensor, code_vectors: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (..., D) training output and the () loss, given the whole (K, D) table and the (...,) codes."""
        chosen_vectors = nn.functional.embedding(chosen, code_vectors)
        return self.estimate(z, chosen_vectors), self.auxiliary_loss(z, chosen_vectors)

    def select(self, z: Tensor, code_vectors: Tensor) -> Tensor:
        """Return the (...,) code that each (..., D) latent chooses: the nearest, the lowest of equals."""
        return nearest(z.reshape(-1, self.dim), code_vectors).reshape(z.shape[:-1])

    def assign(self, z: Tensor, code_vectors: Tensor) -> Tensor:
        """Return the (...,) code that each (..., D) latent takes in training: `select`, unless a method differs."""
        return self.select(z, code_vectors)

    def code_vectors(self) -> Tensor:
        """Return the (K, D) code vectors as the decoder sees them, with their gradient."""
        return self.prepare(self.table())

    def prepare(self, z: Tensor) -> Tensor:
        """Return (..., D) latents normalized, where the method normalizes."""
        if self.normalize == "none":
            return z
        return unit(z) * (self.dim**0.5 if self.normalize == "rms" else 1.0)

    @torch.no_grad()
    def encode(self, z: Tensor) -> Tensor:
        """Return the (..., 1) codes that `select` chooses, in float32 whatever the latents' type."""
        self.check_width(z)
        with torch.autocast(z.device.type, enabled=False):
            return self.select(self.prepare(z.float()), self.code_vectors())[..., None]

    def decode(self, tokens: Tensor) -> Tensor:
        """Return the (..., D) code vectors of (..., 1) tokens."""
        self.check_codes(tokens)
        with torch.autocast(tokens.device.type, enabled=False):
            return nn.functional.embedding(tokens[..., 0].long(), self.code_vectors())

    def learn(self, z: Tensor) -> Quantized:
        """Quantize (..., D) latents for training and note the codes they chose."""
        self.check_width(z)
        with torch.autocast(z.device.type, enabled=False):
            z = self.prepare(z.float())
            code_vectors = self.code_vectors()
            chosen = self.assign(z, code_vectors)
            vectors, loss = self.approximate(z, code_vectors, chosen)
            chosen_vectors = nn.functional.embedding(chosen, code_vectors.detach())
            self.observe(z.detach(), chosen_vectors, chosen)
        return Quantized(vectors, chosen[..., None], loss, chosen_vectors)

    def observe(self, z: Tensor, chosen_vectors: Tensor, chosen: Tensor) -> None:
        """Note one training step, without gradient: (..., D) latents, the (...,) codes they chose, their vectors."""
        self.dead_codes.observe(z, chosen_vectors, chosen)

    @torch.no_grad()
    def initialize(self, z: Tensor) -> None:
        """Place the code vectors on (N, D) latents by k-means, on every rank where the first one places them."""
        self.check_width(z)
        self.table.place(from_first_rank(k_means(self.prepare(z.float()), self.sizes[0])))

    @torch.no_grad()
    def replace_dead_codes(self) -> list[ReplacedRows]:
        """Move the vectors of dead codes to badly served latents of the last batch."""
        placed = self.dead_codes.replacements()
        if placed is None:
            return []
        return [self.table.replace(placed.vectors, placed.rows)]

    @torch.no_grad()
    def merge_(self) -> None:
        """Put the code vectors that the table computes into a plain one."""
        if isinstance(self.table, PlainTable):
            return
        code_vectors = self.table()
        self.table = PlainTable(*code_vectors.shape).to(code_vectors.device)
        self.table.place(code_vectors)
        self.settings = {**self.settings, "transform": "none"}
