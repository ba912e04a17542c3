"""Muon: momentum whose update is orthogonalized, for kernels.

Sources: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024),
https://kellerjordan.github.io/posts/muon/ (the iteration and its coefficients); Liu et al., "Muon is Scalable for
LLM Training" (2025), https://arxiv.org/abs/2502.16982, section 2.2 (the scale 0.2 sqrt(max(rows, columns)), with
which AdamW's learning rate carries over). torch 2.9 has one for matrices; this one takes convolution kernels too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

_ITERATIONS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return roughly `U V^T` for a (rows, columns) matrix `U S V^T`: its singular values become about 0.7 to 1.2.

    Five steps of a quintic Newton-Schulz iteration in the matrix's own precision.
    """
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Muon over kernels of two dimensions or more; all but the first are folded into the columns.

    Args:
        params: kernels, or groups of them.
        lr: learning rate, on AdamW's scale.
        momentum: of the moving average of gradients (Nesterov's form).
        weight_decay: decoupled, as AdamW's.
        precision: of the iteration's products.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        precision: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._precision = precision

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every kernel that has a gradient."""
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is not None:
                    self._move(kernel, group)
        return None if closure is None else closure()

    def _move(self, kernel: Tensor, group: dict[str, Any]) -> None:
        grad: Tensor = kernel.grad  # type: ignore[assignment]  # checked by the caller
        average = self.state[kernel].setdefault("momentum", torch.zeros_like(kernel))
        average.lerp_(grad, 1 - group["momentum"])
        ahead = grad.lerp(average, group["momentum"])
        # Channels last: the layout that the kernel lies in, so that folding copies nothing.
        last = ahead.movedim(1, -1)
        update = orthogonalize(last.reshape(len(last), -1).to(self._precision)).to(kernel.dtype)
        scale = 0.2 * math.sqrt(max(update.shape))
        kernel.mul_(1 - group["lr"] * group["weight_decay"])
        kernel.add_(update.view(last.shape).movedim(-1, 1), alpha=-group["lr"] * scale)
