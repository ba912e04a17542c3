"""Soft methods: a softmax over the whole codebook in training gives every code vector a gradient; tokens stay hard."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tokenizer.quantizers.codebook import CodebookQuantizer
from tokenizer.quantizers.registry import register
from tokenizer.quantizers.search import largest_product, nearest_several
from tokenizer.quantizers.straight_through import mean_square


@register("gumbel", "Gumbel-softmax: a noisy weighted mean of code vectors in training, the temperature annealed")
class Gumbel(CodebookQuantizer):
    """`z_q = sum_i p_i c_i`, `p = softmax((l + gumbel noise) / t)`, with log-weights `l_i = -|z - c_i|^2`.

    The temperature t falls from `temperature` by the factor `temperature_decay` a step, to `lowest_temperature`. A
    token is the largest log-weight without noise, which is the nearest c_i: `encode` never samples.

    Source: Jang, Gu, Poole, "Categorical Reparameterization with Gumbel-Softmax" (2016),
    https://arxiv.org/abs/1611.01144, with the distances of a codebook as logits.

    Args:
        dim: D, the width of a latent.
        noise: add Gumbel noise; without, the method is deterministic annealing.
        top_k: only that many nearest code vectors of each latent enter the softmax, and no (N, K) tensor is kept for
            the backward pass; 0 takes all.
        temperature: t of the first step.
        temperature_decay: factor of each step.
        lowest_temperature: below which t does not fall.
        learn_temperature: in place of annealing, `t = lowest_temperature + softplus(w z + b)` of each latent, which
            is `temperature` at first.
        diversity: weight of `sum p log p` of the mean soft weights p, least when all codes have the same share.
        shared: options of every codebook.
    """

    identity_path = False
    steps: Tensor

    def __init__(
        self,
        dim: int,
        *,
        noise: bool = True,
        top_k: int = 0,
        temperature: float = 1.0,
        temperature_decay: float = 0.9999,
        lowest_temperature: float = 0.1,
        learn_temperature: bool = False,
        diversity: float = 0.01,
        **shared: Any,
    ) -> None:
        super().__init__(dim, **shared)
        if not 0 < lowest_temperature < temperature or not 0 < temperature_decay <= 1:
            raise ValueError(
                f"temperature {temperature}, lowest_temperature {lowest_temperature} and temperature_decay "
                f"{temperature_decay} must satisfy 0 < lowest < temperature and 0 < decay <= 1"
            )
        if not 0 <= top_k <= self.sizes[0]:
            raise ValueError(f"top_k is {top_k}, expected 0 to codebook_size ({self.sizes[0]})")
        self.noise, self.top_k, self.diversity = noise, top_k, diversity
        self.temperature, self.decay, self.lowest = temperature, temperature_decay, lowest_temperature
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64), persistent=False)
        self.token_temperature = nn.Linear(dim, 1) if learn_temperature else None
        if self.token_temperature is not None:
            nn.init.zeros_(self.token_temperature.weight)
            start = torch.tensor(temperature - lowest_temperature)
            nn.init.constant_(self.token_temperature.bias, float(start.expm1().log()))

    def temperatures(self, z: Tensor) -> Tensor:
        """Return t for (N, D) latents: (N, 1) where it is learned, else ()."""
        if self.token_temperature is not None:
            learned: Tensor = self.token_temperature(z)
            return self.lowest + nn.functional.softplus(learned)
        return (self.temperature * self.decay ** self.steps.float()).clamp_min(self.lowest)

    def soft(self, z: Tensor) -> Tensor:
        """Return the (..., D) weighted means of code vectors for (..., D) latents, without noise, at the present
        temperature.

        No token stands for this vector: what the decoder makes of it cannot be had from tokens.
        """
        self.check_width(z)
        with torch.autocast(z.device.type, enabled=False):
            code_vectors, flat = self.code_vectors(), self.prepare(z.float()).reshape(-1, self.dim)
            mean, _ = self._mix(flat, code_vectors, self._candidates(flat, code_vectors), noise=False)
        return mean.reshape(z.shape)

    def approximate(self, z: Tensor, code_vectors: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the (..., D) noisy weighted means, and the diversity loss."""
        flat = z.reshape(-1, self.dim)
        candidates = self._candidates(flat, code_vectors)
        mean, weights = self._mix(flat, code_vectors, candidates, noise=self.noise)
        self.steps += 1
        return mean.reshape(z.shape), self._diversity_loss(weights, candidates)

    def _candidates(self, z: Tensor, code_vectors: Tensor) -> Tensor | None:
        return nearest_several(z, code_vectors, self.top_k) if self.top_k else None

    def _mix(self, z: Tensor, code_vectors: Tensor, candidates: Tensor | None, *, noise: bool) -> tuple[Tensor, Tensor]:
        """Return (N, D) means and the (N, K) or (N, top_k) weights they are made of."""
        near = None if candidates is None else nn.functional.embedding(candidates, code_vectors)
        # -|z - c|^2 = 2 z c - |c|^2 - |z|^2, where |z|^2 is the same for all c: the softmax does not see it.
        if near is None:
            logits = torch.addmm(-code_vectors.square().sum(dim=1), z, code_vectors.T, alpha=2)
        else:
            logits = -(near - z[:, None]).square().sum(dim=-1)
        if noise:  # minus the logarithm of an exponential variable is Gumbel noise
            logits = logits - torch.empty_like(logits).exponential_().log()
        weights = torch.softmax(logits / self.temperatures(z), dim=1)
        return (weights @ code_vectors if near is None else (weights[:, None] @ near)[:, 0]), weights

    def _diversity_loss(self, weights: Tensor, candidates: Tensor | None) -> Tensor:
        if not self.diversity or not len(weights):
            return torch.zeros((), device=weights.device)
        share = weights.mean(dim=0)
        if candidates is not None:
            sums = weights.new_zeros(self.sizes[0]).index_add(0, candidates.flatten(), weights.flatten())
            share = sums / len(weights)
        return -self.diversity * torch.special.entr(share.clamp_min(1e-30)).sum()


@register("ibq", "IBQ: straight-through on the softmax over all code vectors, each of which gets a gradient")
class IBQ(CodebookQuantizer):
    """`z_q = sum_i (onehot + p - sg p)_i c_i`, `p = softmax(z . c)`: the value is the c_i of the largest product.

    The loss is the double quantization loss of z_q and of q, that c_i without the softmax, each term a mean over all
    numbers: `|z_q - z|^2 + |sg q - z|^2 + beta |q - sg z|^2`. `entropy_weight` times `E H(p') - H(E p')` joins it,
    with `p' = softmax(z . c / entropy_temperature)`: least where each latent is sure of its code and all codes are
    used alike. Without that the longest c_i can win every latent, and dead-code replacement cannot help, as it places
    vectors where distances are large, not products.

    Source: Shi et al., "Scalable Image Tokenization with Index Backpropagation Quantization" (2024),
    https://arxiv.org/abs/2412.02692, section 3.2, and its published code, from which beta, the products in place of
    distances, and the entropy loss with its temperature are.

    Args:
        dim: D, the width of a latent.
        beta: weight of the loss that pulls code vectors to latents.
        entropy_weight: of the entropy loss, in nats.
        entropy_temperature: of its softmax.
        shared: options of every codebook.
    """

    identity_path = False

    def __init__(
        self,
        dim: int,
        *,
        beta: float = 0.25,
        entropy_weight: float = 0.0,
        entropy_temperature: float = 0.01,
        **shared: Any,
    ) -> None:
        super().__init__(dim, **shared)
        if min(beta, entropy_weight) < 0 or entropy_temperature <= 0:
            raise ValueError(
                f"beta {beta} and entropy_weight {entropy_weight} must be 0 or more, and entropy_temperature "
                f"{entropy_temperature} more than 0"
            )
        self.beta, self.entropy_weight, self.entropy_temperature = beta, entropy_weight, entropy_temperature

    def select(self, z: Tensor, code_vectors: Tensor) -> Tensor:
        """Return the (...,) code of the largest product with each (..., D) latent, the lowest of equals."""
        return largest_product(z.reshape(-1, self.dim), code_vectors).reshape(z.shape[:-1])

    def approximate(self, z: Tensor, code_vectors: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (..., D) chosen vectors, whose gradient reaches every code vector, and the loss."""
        flat = z.reshape(-1, self.dim)
        hard = nn.functional.embedding(chosen, code_vectors).reshape(-1, self.dim)
        products = flat @ code_vectors.T
        weights = torch.softmax(products, dim=1)
        vectors = hard + (weights - weights.detach()) @ code_vectors
        loss = (
            mean_square(vectors - flat)
            + mean_square(hard.detach() - flat)
            + self.beta * mean_square(hard - flat.detach())
        )
        if self.entropy_weight and len(flat):
            loss = loss + self.entropy_weight * _entropy_gap(products / self.entropy_temperature)
        return vectors.reshape(z.shape), loss


def _entropy_gap(logits: Tensor) -> Tensor:
    """Return the () mean entropy of the softmax of (N, K) logits, less the entropy of their mean, in nats."""
    logs = torch.log_softmax(logits, dim=1)
    p = logs.exp()
    # A share of 0 has no logarithm, and its gradient no bounds.
    share = p.mean(dim=0)
    return (share * share.clamp_min(1e-30).log()).sum() - (p * logs).sum(dim=1).mean()
