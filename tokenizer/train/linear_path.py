"""The linear path of a new network, put on the principal components of the images' blocks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tokenizer import runtime
from tokenizer.config import TrainConfig
from tokenizer.models import Decoder, Encoder, to_unit_range
from tokenizer.train.crops import Crops
from tokenizer.train.state import TrainingState

_BLOCKS_PER_DIMENSION = 32
_MOST_CROPS = 2048


@torch.no_grad()
def fit_linear_path(state: TrainingState, crops: Crops, config: TrainConfig) -> None:
    """Put the linear path of encoder and decoder on the principal components of blocks of the first crops.

    The latents of the fresh network are then those of the Karhunen-Loeve transform, the linear one that loses least; no
    sum of squared errors of a block transform is smaller. Blocks that are too few for their width leave the path as it
    is, a cosine transform. On several ranks the first one's is that of all.
    """
    encoder, decoder = state.model.encoder, state.model.decoder
    if not isinstance(encoder, Encoder) or not isinstance(decoder, Decoder) or not config.network.linear:
        return
    blocks = _blocks(crops, config)
    if len(blocks) < blocks.shape[1]:
        return
    mean = blocks.mean(dim=0)
    covariance = torch.cov(blocks.T)
    components = torch.linalg.eigh(covariance).eigenvectors.flip(1).T[: config.network.latent_dim]
    components, mean = (runtime.from_first_rank(values.float().to(config.device)) for values in (components, mean))
    for model in (state.model, state.ema):
        for part in (model.encoder, model.decoder):
            part.use_basis(components, mean)  # type: ignore[operator]  # one of the two classes above


def _blocks(crops: Crops, config: TrainConfig) -> Tensor:
    """Return (N, 3 f^2) float64 blocks of f x f pixels of the first crops, in the order of `PixelUnshuffle`."""
    side, size = config.network.downsample, config.batch_size or 1
    wanted, found, count = _BLOCKS_PER_DIMENSION * 3 * side**2, [], 0
    for first in range(0, _MOST_CROPS, size):
        batch = crops.batch(range(first, min(first + size, _MOST_CROPS)))
        blocks = functional.pixel_unshuffle(to_unit_range(batch), side).movedim(1, -1).flatten(0, 2)
        found.append(blocks.double())
        count += len(blocks)
        if count >= wanted:
            break
    return torch.cat(found)[:wanted]
