"""DiVeQ: a step from the latent to its nearest code vector along a fixed direction; and NSVQ, from which it came.

Source: Vali, Bäckström, Solin, "DiVeQ: Differentiable Vector Quantization Using the Reparameterization Trick"
(ICLR 2026), https://arxiv.org/abs/2509.26469.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from tokenizer.quantizers.codebook import CodebookQuantizer
from tokenizer.quantizers.geometry import unit
from tokenizer.quantizers.registry import register


@register("diveq", "DiVeQ: a step of length |e| in a slightly noisy direction, no auxiliary loss")
class DiVeQ(CodebookQuantizer):
    """`z_q = z + |e| sg[unit(e + v)]`, with `e = c_nearest - z` and `v ~ N(0, noise_std^2 I)`.

    The codebook learns through `|e|`; there is no auxiliary loss and no straight-through copy.

    Departure: the paper prints the noise as a variance (1e-3), the authors' code uses that number as a standard
    deviation, and their tables come from the code; `noise_std` is a standard deviation.

    Args:
        dim: D, the width of a latent.
        noise_std: standard deviation of the direction's noise, in the latents' unit.
        shared: options of every codebook.
    """

    one_step: ClassVar[bool] = True

    def __init__(self, dim: int, *, noise_std: float = 1e-3, **shared: Any) -> None:
        super().__init__(dim, **shared)
        if noise_std < 0:
            raise ValueError(f"noise_std is {noise_std}, expected 0 or more")
        self.noise_std = noise_std

    def estimate(self, z: Tensor, chosen_vectors: Tensor) -> Tensor:
        """Return the (..., D) latents plus a step towards their chosen vectors."""
        gap = chosen_vectors - z
        direction = unit(gap + self.noise_std * torch.randn_like(gap)).detach()
        return z + gap.norm(dim=-1, keepdim=True) * direction


@register("diveq-detach", "DiVeQ without noise: the training output is the code vector itself")
class DiVeQDetach(CodebookQuantizer):
    """`z_q = z + r sg[e / r]` with `r = |e|^alpha`: the forward value is c_nearest, whatever alpha is.

    With alpha = 1 it is the limit of `diveq` without noise: the gradient `g` splits orthogonally, `u u^T g` to
    c_nearest and `(I - u u^T) g` to the latent, `u = unit(e)`. Any other alpha multiplies the first part by alpha.

    Args:
        dim: D, the width of a latent.
        alpha: power of the distance.
        shared: options of every codebook.
    """

    one_step: ClassVar[bool] = True

    def __init__(self, dim: int, *, alpha: float = 1.0, **shared: Any) -> None:
        super().__init__(dim, **shared)
        if alpha <= 0:
            raise ValueError(f"alpha is {alpha}, expected more than 0")
        self.alpha = alpha

    def estimate(self, z: Tensor, chosen_vectors: Tensor) -> Tensor:
        """Return the (..., D) chosen vectors, reached by a step whose direction carries no gradient."""
        gap = chosen_vectors - z
        length = gap.norm(dim=-1, keepdim=True)
        if self.alpha != 1:
            # A power below 1 has no finite slope at 0; a latent that lies on its code vector takes no step anyway.
            length = length.clamp_min(1e-12) ** self.alpha
            return z + length * (gap / length).detach()
        return z + length * unit(gap).detach()


@register("nsvq", "NSVQ: a step of length |e| in a random direction")
class NSVQ(CodebookQuantizer):
    """`z_q = z + |e| unit(v)`, `v ~ N(0, I)`: noise in place of the quantization error, of the same length.

    Source: Vali, Bäckström, "NSVQ: Noise Substitution in Vector Quantization for Machine Learning" (IEEE Access
    2022), equation 6. Departure: dead codes are replaced as everywhere here, not by the paper's own replacement.

    Args:
        dim: D, the width of a latent.
        shared: options of every codebook.
    """

    one_step: ClassVar[bool] = True

    def __init__(self, dim: int, **shared: Any) -> None:
        super().__init__(dim, **shared)

    def estimate(self, z: Tensor, chosen_vectors: Tensor) -> Tensor:
        """Return the (..., D) latents plus a random step as long as their error."""
        gap = chosen_vectors - z
        return z + gap.norm(dim=-1, keepdim=True) * unit(torch.randn_like(gap))
