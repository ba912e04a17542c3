"""Straight-through methods: VQ-VAE, its moving averages, and rotation pass the decoder's gradient to the latent."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from tokenizer.quantizers.base import ReplacedRows
from tokenizer.quantizers.codebook import CodebookQuantizer
from tokenizer.quantizers.geometry import rotate
from tokenizer.quantizers.moving_averages import MovingAverages
from tokenizer.quantizers.registry import register

Update = Literal["loss", "ema"]


@register("ste", "VQ-VAE: straight-through copy of the gradient, codebook and commitment loss")
class STE(CodebookQuantizer):
    """`z_q = z + sg[q - z]`, loss `|q - sg z|^2 + beta |z - sg q|^2`, each a mean over all numbers.

    Source: van den Oord, Vinyals, Kavukcuoglu, "Neural Discrete Representation Learning" (2017),
    https://arxiv.org/abs/1711.00937, equation 3.

    Args:
        dim: D, the width of a latent.
        beta: weight of the commitment loss.
        learn_beta: learn it, starting there, as the inverse variance of a Gaussian: `-log(beta) / 2` joins the loss,
            which is least at `beta = 1 / (2 |z - q|^2)` (Kendall, Gal, Cipolla, "Multi-Task Learning Using
            Uncertainty to Weigh Losses", 2018, equation 5).
        shared: options of every codebook.
    """

    def __init__(self, dim: int, *, beta: float = 0.25, learn_beta: bool = False, **shared: Any) -> None:
        super().__init__(dim, **shared)
        if beta < 0 or (learn_beta and beta == 0):
            raise ValueError(f"beta is {beta}, expected more than 0")
        self.beta = beta
        self.log_beta = nn.Parameter(torch.tensor(beta).log()) if learn_beta else None

    def estimate(self, z: Tensor, chosen_vectors: Tensor) -> Tensor:
        """Return the (..., D) chosen vectors with the identity's gradient at the latents."""
        return z + (chosen_vectors - z).detach()

    def auxiliary_loss(self, z: Tensor, chosen_vectors: Tensor) -> Tensor:
        """Return codebook and commitment loss."""
        return self.codebook_loss(z, chosen_vectors) + self.commitment_loss(z, chosen_vectors)

    def codebook_loss(self, z: Tensor, chosen_vectors: Tensor) -> Tensor:
        """Return the () mean squared distance that pulls code vectors to their latents."""
        return mean_square(chosen_vectors - z.detach())

    def commitment_loss(self, z: Tensor, chosen_vectors: Tensor) -> Tensor:
        """Return the () weighted mean squared distance that pulls latents to their code vectors."""
        distance = mean_square(z - chosen_vectors.detach())
        if self.log_beta is None:
            return self.beta * distance
        return self.log_beta.exp() * distance - self.log_beta / 2


class _Averaged(STE):
    """Straight-through, with a codebook that moving averages set where `decay` is given."""

    def __init__(self, dim: int, decay: float | None, **shared: Any) -> None:
        super().__init__(dim, **shared)
        self.averages = None if decay is None else MovingAverages(self.sizes[0], dim, decay)
        if self.averages is None:
            return
        if shared.get("transform", "none") != "none" or shared.get("normalize", "none") != "none":
            raise ValueError(
                "moving averages set each code vector themselves: they take no transform and no normalization"
            )
        self.table.requires_grad_(False)

    def codebook_loss(self, z: Tensor, chosen_vectors: Tensor) -> Tensor:
        """Return 0 where moving averages set the code vectors."""
        if self.averages is not None:
            return torch.zeros((), device=z.device)
        return super().codebook_loss(z, chosen_vectors)

    def observe(self, z: Tensor, chosen_vectors: Tensor, chosen: Tensor) -> None:
        """Note one training step, and move the code vectors to the averages."""
        super().observe(z, chosen_vectors, chosen)
        if self.averages is not None:
            self.averages.add(z, chosen)
            self.table.place(self.averages.means(self.table()))

    @torch.no_grad()
    def initialize(self, z: Tensor) -> None:
        """Place the code vectors on (N, D) latents by k-means, and the averages with them."""
        super().initialize(z)
        if self.averages is not None:
            self.averages.restart(self.table())

    @torch.no_grad()
    def replace_dead_codes(self) -> list[ReplacedRows]:
        """Replace the vectors of dead codes, and start their averages anew."""
        moved = super().replace_dead_codes()
        if self.averages is not None:
            for change in moved:
                self.averages.restart(self.table(), change.rows)
        return moved


@register("ema", "VQ-VAE-2: straight-through, the codebook a moving average of the latents that chose it")
class EMA(_Averaged):
    """`z_q = z + sg[q - z]`, loss `beta |z - sg q|^2`; each c_i is the moving average of the latents that chose it.

    Source: Razavi, van den Oord, Vinyals, "Generating Diverse High-Fidelity Images with VQ-VAE-2" (2019),
    https://arxiv.org/abs/1906.00446, equations 2 and 3, with the smoothed counts of its published code. Where a
    c_i is replaced its sums are too: otherwise the next step would put it back.

    Args:
        dim: D, the width of a latent.
        beta: weight of the commitment loss.
        decay: of the moving averages, each step.
        shared: options of every codebook; no transform and no normalization.
    """

    def __init__(self, dim: int, *, beta: float = 0.25, decay: float = 0.99, **shared: Any) -> None:
        super().__init__(dim, decay, beta=beta, **shared)


@register("rotation", "rotation trick: the gradient is turned and scaled as the latent is to its code vector")
class Rotation(_Averaged):
    """`z_q = sg[|q| / |z|] R z`, with R the rotation of `unit(z)` onto `unit(q)`, without gradient.

    The value is q, exactly. The gradient's angle to the latent is that of the decoder's gradient to q.

    Source: Fifty et al., "Restructuring Vector Quantization with the Rotation Trick" (2024),
    https://arxiv.org/abs/2410.06424, section 4. The codebook learns as that of `ste`, or of `ema`.

    Args:
        dim: D, the width of a latent.
        beta: weight of the commitment loss.
        update: how the codebook learns: by the `loss` of `ste`, or as the moving average of `ema`.
        decay: of the moving averages, each step.
        shared: options of every codebook.
    """

    def __init__(
        self, dim: int, *, beta: float = 0.25, update: Update = "loss", decay: float = 0.99, **shared: Any
    ) -> None:
        super().__init__(dim, decay if update == "ema" else None, beta=beta, **shared)

    def estimate(self, z: Tensor, chosen_vectors: Tensor) -> Tensor:
        """Return the (..., D) chosen vectors with a rotated and scaled gradient at the latents."""
        turned = rotate(z, chosen_vectors.detach())
        return chosen_vectors.detach() + (turned - turned.detach())


def mean_square(gap: Tensor) -> Tensor:
    """Return the () mean of squares, 0 where there are no numbers."""
    return gap.square().mean() if gap.numel() else gap.sum()
