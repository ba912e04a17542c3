from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.conftest import TINY
from tokenizer import train
from tokenizer.config import TrainConfig
from tokenizer.models import Encoder, to_unit_range
from tokenizer.train import linear_path
from tokenizer.train.crops import Crops
from tokenizer.train.linear_path import fit_linear_path


def linear(quick: TrainConfig, latent_dim: int) -> TrainConfig:
    network = dataclasses.replace(TINY, latent_dim=latent_dim, linear=True)
    return dataclasses.replace(quick, network=network, image_size=64)


def test_the_path_is_the_karhunen_loeve_transform_of_the_first_crops(quick: TrainConfig, photos: Path) -> None:
    """Against numpy: the error of the fresh network is the sum of the eigenvalues that are left out."""
    plan = train.plan_run(linear(quick, 6), [photos])
    state, crops = train.begin_run(plan), Crops(plan.train, plan.config)
    fit_linear_path(state, crops, plan.config)
    batches = [crops.batch(range(first, first + 4)) for first in range(0, 96, 4)]
    images = to_unit_range(torch.cat(batches))  # 96 crops of 64 blocks: 32 for each of 192 numbers
    blocks = functional.pixel_unshuffle(images, 8).movedim(1, -1).flatten(0, 2).double().numpy()
    left_out = np.linalg.eigvalsh(np.cov(blocks.T, ddof=0))[:-6].sum() / 192
    for model in (state.model.eval(), state.ema):
        with torch.no_grad():
            made = model.pictures(model.latents(images))
        np.testing.assert_allclose(float((made - images).square().mean()), left_out, rtol=1e-3)


def test_too_few_blocks_leave_the_cosine_transform(
    quick: TrainConfig, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_path, "_MOST_CROPS", 2)  # of 64 blocks, for 192 numbers each
    plan = train.plan_run(linear(quick, 6), [photos])
    state = train.begin_run(plan)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    fit_linear_path(state, Crops(plan.train, plan.config), plan.config)
    assert all(torch.equal(value, before[name]) for name, value in state.model.state_dict().items())


def test_a_network_without_the_path_is_left_alone(quick: TrainConfig, photos: Path) -> None:
    plan = train.plan_run(quick, [photos])
    state = train.begin_run(plan)
    assert isinstance(state.model.encoder, Encoder)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    fit_linear_path(state, Crops(plan.train, plan.config), plan.config)
    assert all(torch.equal(value, before[name]) for name, value in state.model.state_dict().items())
