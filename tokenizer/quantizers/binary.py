"""Binary quantizers, LFQ and BSQ: the token is the signs of a few numbers, and an entropy loss keeps all in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tokenizer.quantizers.lookup_free import LookupFreeQuantizer
from tokenizer.quantizers.registry import register
from tokenizer.quantizers.straight_through import mean_square

# `_mean_of_codes` holds 2^(bits / 2) numbers for each token: 2^12 at this size.
_LARGEST_GROUP = 24
# A shorter vector has no direction to speak of, and the gradient of its direction would know no bounds.
_SHORTEST = 1e-4


class _Binary(LookupFreeQuantizer):
    """Signs of `log2(codebook_size)` numbers, sign(0) = 1; the first is the lowest bit of the token.

    Loss: `entropy_weight (E H(p) - gamma H(E p)) + commitment_loss`, over the soft choice
    `p(c) ~ exp(-|x - c|^2 / temperature)` among all grid points c. Numbers x_d enter the exponent one by one, so that
    the bits of p are independent, each 1 with probability `sigmoid(4 x_d u / temperature)` where c_d is -u or u: the
    entropy H(p) of a token is the sum of its bits', exactly. The bits of the mean E p are not independent.
    """

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: int,
        entropy_weight: float,
        gamma: float,
        temperature: float,
        commitment: float,
        entropy_group: int,
    ) -> None:
        bits = _bits(codebook_size)
        if codebook_size != 2**bits:
            raise ValueError(f"codebook_size is {codebook_size}, expected a power of two, 2 or more")
        if min(entropy_weight, gamma, commitment) < 0 or temperature <= 0:
            raise ValueError(
                f"entropy_weight {entropy_weight}, gamma {gamma} and commitment {commitment} must be 0 or more, and "
                f"temperature {temperature} more than 0"
            )
        if not 1 <= entropy_group <= _LARGEST_GROUP:
            raise ValueError(f"entropy_group is {entropy_group}, expected 1 to {_LARGEST_GROUP}")
        super().__init__(dim, (2,) * bits)
        self.entropy_weight, self.gamma, self.temperature = entropy_weight, gamma, temperature
        self.commitment, self.entropy_group = commitment, entropy_group
        self.start()

    @classmethod
    def widths(cls, options: Mapping[str, Any]) -> tuple[int, int]:
        """Return one number for each bit."""
        return _bits(options["codebook_size"]), 1

    def digits(self, bounded: Tensor) -> Tensor:
        """Return 1 for a number of 0 or more, else 0."""
        return (bounded >= 0).long()

    def grid(self, digits: Tensor) -> Tensor:
        """Return -1 and 1."""
        return (2 * digits - 1).float()

    def placement(self, white: Tensor) -> tuple[Tensor, Tensor]:
        """Return a random rotation, so that bits share the variance, with each bit 1 for half of the latents."""
        width = len(self.levels)
        # For a standard normal x, a |x| is nearest to 1 at a = E|x| / E x^2.
        scale = (2 / torch.pi) ** 0.5 * self.unit()
        mix = scale * torch.linalg.qr(torch.randn(width, width)).Q.to(white.device)
        return mix, -(white @ mix.T).median(dim=0).values

    def auxiliary_loss(self, bounded: Tensor, grid: Tensor) -> Tensor:
        """Return entropy and commitment loss."""
        entropy, unit = self.entropy_loss(bounded.reshape(-1, bounded.shape[-1])), self.unit()
        return self.entropy_weight * entropy + self.commitment * mean_square(bounded - grid * unit)

    def entropy_loss(self, bounded: Tensor) -> Tensor:
        """Return the () mean entropy in nats of the soft choices of (N, W) numbers, less `gamma` times their mean's."""
        if not len(bounded):
            return bounded.sum()
        log_odds = 4 / self.temperature * bounded * self.unit()
        return bit_entropies(log_odds).sum(dim=1).mean() - self.gamma * entropy_of_mean(log_odds, self.entropy_group)


@register("lfq", "LFQ (MAGVIT-v2): the signs of log2(K) numbers, with an entropy and a commitment loss")
class LFQ(_Binary):
    """`z_q = sign(z)`, loss `entropy_weight (E H(p) - gamma H(E p)) + commitment |z - sg z_q|^2`, the last a mean.

    `p(c) ~ exp(-|z - c|^2 / temperature)` over all K vectors c of -1 and 1.

    Source: Yu et al., "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation" (MAGVIT-v2, 2023),
    https://arxiv.org/abs/2310.05737, equations 3 to 5. Its code is not published: weights and temperature are those
    of Open-MAGVIT2 (https://github.com/TencentARC/Open-MAGVIT2), which leaves out the paper's larger entropy weight of
    the first steps too. Departures: sign(0) is 1, not -1; H(E p) is exact up to `entropy_group` bits, beyond that
    BSQ's sum over groups.

    Args:
        dim: D, the width of a latent, log2(codebook_size) or more.
        codebook_size: K, a power of two.
        entropy_weight: of the entropy loss.
        gamma: how much the entropy of the mean counts in it.
        temperature: of the soft choice.
        commitment: weight of the commitment loss.
        entropy_group: how many bits at most are counted together in the entropy of the mean.
    """

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: int = 1024,
        entropy_weight: float = 0.1,
        gamma: float = 1.0,
        temperature: float = 0.01,
        commitment: float = 0.25,
        entropy_group: int = 18,
    ) -> None:
        super().__init__(
            dim,
            codebook_size=codebook_size,
            entropy_weight=entropy_weight,
            gamma=gamma,
            temperature=temperature,
            commitment=commitment,
            entropy_group=entropy_group,
        )

    def bound(self, inner: Tensor) -> Tensor:
        """Return the numbers as they are."""
        return inner


@register("bsq", "BSQ: the signs of log2(K) numbers on the unit sphere, with an entropy loss")
class BSQ(_Binary):
    """`u = v / |v|`, `z_q = sign(u) / sqrt(W)`, W = log2(K); loss `entropy_weight (E H(p) - gamma H(E p))`.

    `p(c) ~ exp(-|u - c|^2 / temperature) ~ exp(2 u c / temperature)` over all K vectors c. The gradient passes the
    sign as it is, and is divided by sqrt(W) as the sign is.

    Source: Zhao, Xiong, Krähenbühl, "Image and Video Tokenization with Binary Spherical Quantization" (2024),
    https://arxiv.org/abs/2406.07548, section 3; the approximation of H(E p) by a sum over groups of bits, an upper
    bound, is that paper's. Defaults are those of its published code (https://github.com/zhaoyue-zephyrus/bsq-vit).
    Departures: the first number is the lowest bit, there the highest; groups need not be of one size; the entropy
    weight is the same in all steps, there three times that in the first; sign(0) is 1.

    Args:
        dim: D, the width of a latent, log2(codebook_size) or more.
        codebook_size: K, a power of two.
        entropy_weight: of the entropy loss.
        gamma: how much the entropy of the mean counts in it.
        temperature: of the soft choice; the paper's tau is `2 / temperature`.
        commitment: weight of `|u - sg z_q|^2`, summed over numbers; 0, as u cannot leave the sphere anyway.
        entropy_group: how many bits at most are counted together in the entropy of the mean.
    """

    def __init__(
        self,
        dim: int,
        *,
        codebook_size: int = 1024,
        entropy_weight: float = 0.1,
        gamma: float = 1.0,
        temperature: float = 1.0,
        commitment: float = 0.0,
        entropy_group: int = 9,
    ) -> None:
        super().__init__(
            dim,
            codebook_size=codebook_size,
            entropy_weight=entropy_weight,
            gamma=gamma,
            temperature=temperature,
            commitment=commitment,
            entropy_group=entropy_group,
        )

    def bound(self, inner: Tensor) -> Tensor:
        """Return (..., W) directions."""
        return inner / inner.norm(dim=-1, keepdim=True).clamp_min(_SHORTEST)

    def unit(self) -> Tensor:
        """Return `1 / sqrt(W)`."""
        return self.levels.new_tensor(len(self.levels), dtype=torch.float32).rsqrt()

    def auxiliary_loss(self, bounded: Tensor, grid: Tensor) -> Tensor:
        """Return entropy and commitment loss, the latter a sum over the numbers of a token."""
        entropy, gap = self.entropy_loss(bounded.reshape(-1, bounded.shape[-1])), bounded - grid * self.unit()
        return self.entropy_weight * entropy + self.commitment * gap.shape[-1] * mean_square(gap)


def _bits(codebook_size: int) -> int:
    return max(1, (codebook_size - 1).bit_length())


def bit_entropies(log_odds: Tensor) -> Tensor:
    """Return the entropy of each bit, in nats, of the logarithm of the odds that it is 1."""
    size = log_odds.abs()
    return nn.functional.softplus(-size) + size * torch.sigmoid(-size)


def entropy_of_mean(log_odds: Tensor, group: int) -> Tensor:
    """Return the () entropy, in nats, of the mean over N tokens of the distribution of codes with independent bits.

    Exact for up to `group` bits; beyond that the sum over groups of at most as many neighbors, of about one size,
    which is the entropy if groups were independent, and never less than it.

    Args:
        log_odds: (N, W) of each bit of each token, N at least 1.
        group: bits to enumerate together.
    """
    groups = torch.tensor_split(log_odds, -(-log_odds.shape[1] // group), dim=1)
    return torch.stack([_entropy(_mean_of_codes(part)) for part in groups]).sum()


def _entropy(p: Tensor) -> Tensor:
    # 0 has no logarithm, and the gradient there no bounds.
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum()


def _mean_of_codes(log_odds: Tensor) -> Tensor:
    """Return the 2^W mean probabilities of all codes of (N, W) log-odds, without a tensor of N times as many.

    A code's probability is that of its first bits times that of the others: the mean over tokens of such products is
    one matrix product of the (N, 2^(W / 2)) probabilities of both halves.
    """
    first, second = torch.tensor_split(log_odds, 2, dim=1)
    return (_codes(first).T @ _codes(second) / len(log_odds)).flatten()


def _codes(log_odds: Tensor) -> Tensor:
    """Return the (N, 2^W) probabilities of all codes of (N, W) log-odds."""
    p = log_odds.new_ones(len(log_odds), 1)
    for bit in log_odds.unbind(dim=1):
        zero_and_one = torch.sigmoid(torch.stack([-bit, bit], dim=1))
        p = (zero_and_one[:, :, None] * p[:, None]).flatten(1)
    return p
