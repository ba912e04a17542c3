"""One optimizer step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokenizer import runtime
from tokenizer.config import TrainConfig
from tokenizer.errors import NonFiniteError
from tokenizer.models import to_unit_range
from tokenizer.quantizers import Quantized
from tokenizer.train.losses import l2
from tokenizer.train.metrics_log import Passed
from tokenizer.train.optimizers import forget_moments, replace_in_ema, set_learning_rate, update_ema
from tokenizer.train.schedule import learning_rate
from tokenizer.train.state import TrainingState


class Learner:
    """Takes the optimizer steps of a run.

    Args:
        state: what is trained.
        config: of the run, planned.
    """

    def __init__(self, state: TrainingState, config: TrainConfig) -> None:
        self.state, self.config = state, config
        self.device = torch.device(config.device)
        self.rate = 0.0

    def step(self, batch: Tensor, progress: float) -> Passed | None:
        """Take one step on a (B, H, W, 3) uint8 batch; None when something was not finite, and then no optimizer moved.

        A batch larger than `batch_size` goes through the network in parts, and through the quantizer in one piece:
        whatever the method, the step is that of the whole batch. On several ranks it is that of all their batches,
        and what is not finite on one of them stops all.

        Args:
            batch: of this rank.
            progress: share of the budget spent, 0 to 1.
        """
        state, config = self.state, self.config
        self.rate = state.lr_share * learning_rate(progress, config.lr, config.warmup)
        set_learning_rate(state.optimizers, self.rate)
        state.objective.begin(progress, self.rate)
        state.model.zero_grad(set_to_none=True)
        state.step += 1
        parts = [to_unit_range(part.to(self.device)) for part in torch.split(batch, config.batch_size or len(batch))]
        try:
            passed = self._in_one(parts[0]) if len(parts) == 1 else self._in_parts(parts)
        except NonFiniteError:
            return None
        if not self._move():
            return None
        replace = state.quantizing and progress < config.replace_dead_until
        replaced = state.model.quantizer.replace_dead_codes() if replace else []
        forget_moments(state.optimizers, replaced)
        update_ema(state.ema, state.model, min(config.ema_decay, (1 + state.step) / (10 + state.step)))
        replace_in_ema(state.ema, state.model, replaced)
        return passed

    def _move(self) -> bool:
        """Take the optimizers' steps along the mean gradient of all ranks; return False when it is not finite."""
        state = self.state
        parameters = list(state.model.parameters())
        runtime.average_gradients(parameters)
        for optimizer in state.optimizers:
            state.scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        finite = bool(torch.isfinite(norm))
        if finite:
            for optimizer in state.optimizers:
                optimizer.step()
            state.objective.end()
        state.scaler.update()
        return finite

    def _in_one(self, images: Tensor) -> Passed:
        """Leave the gradient of a batch at the parameters."""
        vectors, tokens, loss = self._quantize(self._latents(images))
        reconstruction = self._reconstruct(vectors, images, 1.0)
        self._backward(reconstruction.images, reconstruction.gradient, loss)
        return Passed(reconstruction.loss + loss.detach(), reconstruction.error, tokens)

    def _in_parts(self, parts: list[Tensor]) -> Passed:
        """Do what `_in_one` does, with the activations of one part at a time in memory: the encoder runs twice.

        Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (2021),
        https://arxiv.org/abs/2101.06983, section 3: a gradient cache.
        """
        sizes = [len(part) for part in parts]
        with torch.no_grad():
            latents = torch.cat([self._latents(part) for part in parts])
        latents.requires_grad_()
        vectors, tokens, loss = self._quantize(latents)
        cut = vectors.detach().requires_grad_()
        total, error = loss.detach(), torch.zeros_like(loss)
        for part, piece in zip(parts, torch.split(cut, sizes), strict=True):
            reconstruction = self._reconstruct(piece, part, len(part) / sum(sizes))
            reconstruction.images.backward(reconstruction.gradient)  # type: ignore[no-untyped-call]
            total, error = total + reconstruction.loss, error + reconstruction.error
        self._backward(vectors, cut.grad, loss)
        if latents.grad is not None and any(p.requires_grad for p in self.state.model.encoder.parameters()):
            for part, gradient in zip(parts, torch.split(latents.grad, sizes), strict=True):
                self._latents(part).backward(gradient)  # type: ignore[no-untyped-call]
        return Passed(total, error, tokens)

    def _latents(self, images: Tensor) -> Tensor:
        with runtime.autocast(self.device, self.config.precision):
            return self.state.model.latents(images).float()

    def _quantize(self, latents: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return vectors, tokens and the quantizer's loss; the latents themselves before the codebook is placed.

        Raises:
            NonFiniteError: the latents of any rank are not finite.
        """
        quantizer = self.state.model.quantizer
        if runtime.world_size() > 1 and bool(runtime.any_over_ranks(latents.isfinite().all().logical_not())):
            raise NonFiniteError("latents are not finite")
        if not self.state.quantizing:
            return quantizer.prepare(latents), None, torch.zeros((), device=latents.device)
        quantized: Quantized = quantizer(latents)
        return quantized.vectors, quantized.tokens, quantized.loss

    def _reconstruct(self, vectors: Tensor, targets: Tensor, share: float) -> _Reconstruction:
        """Return pictures of (B, h, w, D) vectors, and `share` of their loss."""
        with runtime.autocast(self.device, self.config.precision):
            images = self.state.model.pictures(vectors)
        gradient, loss = self.state.objective.gradient(images.detach(), targets, share)
        gradient = self.state.scaler.scale(share * gradient)
        return _Reconstruction(images, gradient, share * loss, share * l2(images.detach(), targets))

    def _backward(self, output: Tensor, gradient: Tensor | None, loss: Tensor) -> None:
        """Send a scaled `gradient` back from `output`, and 1 from the quantizer's () loss, where they have one."""
        pairs = ((output, gradient), (self.state.scaler.scale(loss), None))
        reached = [(tensor, value) for tensor, value in pairs if tensor.requires_grad]
        torch.autograd.backward([tensor for tensor, _ in reached], [value for _, value in reached])


@dataclass(frozen=True)
class _Reconstruction:
    """(B, 3, H, W) images, the loss's gradient there, () loss and () mean squared error."""

    images: Tensor
    gradient: Tensor
    loss: Tensor
    error: Tensor
