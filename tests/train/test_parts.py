from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import TINY, draw, save
from tokenizer import train
from tokenizer.config import TrainConfig
from tokenizer.errors import ConfigError, DeviceError, InputError
from tokenizer.models import Tokenizer
from tokenizer.quantizers import ReplacedRows
from tokenizer.train import evaluation
from tokenizer.train.muon import Muon, orthogonalize
from tokenizer.train.optimizers import forget_moments, make_optimizers, replace_in_ema, update_ema
from tokenizer.train.schedule import learning_rate


def test_learning_rate_rises_then_falls_by_a_cosine() -> None:
    assert learning_rate(0, 2.0, 0.1) == 0
    assert learning_rate(0.05, 2.0, 0.1) == pytest.approx(1)
    assert learning_rate(0.1, 2.0, 0.1) == pytest.approx(2)
    assert learning_rate(0.55, 2.0, 0.1) == pytest.approx(1)
    assert learning_rate(1, 2.0, 0.1) == pytest.approx(0, abs=1e-12)
    assert learning_rate(0, 2.0, 0) == 2


@pytest.mark.parametrize("shape", [(40, 40), (32, 300), (300, 32)])
def test_orthogonalize_flattens_the_singular_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    rank = min(shape)
    u, v = torch.linalg.qr(torch.randn(shape[0], rank))[0], torch.linalg.qr(torch.randn(shape[1], rank))[0]
    matrix = u @ torch.logspace(0, -1.5, rank).diag() @ v.T
    result = orthogonalize(matrix)
    values = torch.linalg.svdvals(result)
    assert 0.3 < values.min() < values.max() < 1.3
    core = u.T @ result @ v
    assert (core - core.diagonal().diag()).abs().max() < 1e-3, "the singular vectors stay"
    assert core.diagonal().min() > 0.3


def test_muon_moves_a_kernel_by_its_rate_whatever_the_gradient_s_size() -> None:
    for size in (1e-4, 1e3):
        torch.manual_seed(0)
        kernel = torch.nn.Parameter(torch.zeros(64, 32, 3, 3).contiguous(memory_format=torch.channels_last))
        kernel.grad = size * torch.randn(64, 32, 3, 3)
        Muon([kernel], lr=0.01, precision=torch.float32).step()
        # 64 singular values of 0.7 to 1.2 over 64 * 288 entries, times 0.2 sqrt(288): 0.2 an entry, times the rate.
        assert 0.7 * 0.002 < kernel.detach().square().mean().sqrt() < 1.2 * 0.002


def test_muon_by_hand_is_momentum_then_orthogonalization() -> None:
    torch.manual_seed(0)
    kernel = torch.nn.Parameter(torch.randn(40, 50))
    start = kernel.detach().clone()
    grads = torch.randn(2, 40, 50)
    muon = Muon([kernel], lr=0.1, momentum=0.9, weight_decay=0.5, precision=torch.float32)
    average = torch.zeros(40, 50)
    for grad in grads:
        kernel.grad = grad.clone()
        muon.step()
        average = 0.9 * average + 0.1 * grad
        step = orthogonalize(0.1 * grad + 0.9 * average) * 0.2 * math.sqrt(50)
        start = start * (1 - 0.1 * 0.5) - 0.1 * step
    torch.testing.assert_close(kernel.detach(), start)


def model() -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TINY, {"name": "diveq", "codebook_size": 8})


def test_every_parameter_has_exactly_one_optimizer(quick: TrainConfig) -> None:
    made = model()
    held = [p for o in make_optimizers(made, quick) for group in o.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(list(made.parameters()))
    muon = make_optimizers(made, quick)[1]
    assert isinstance(muon, Muon)
    assert all(min(p.shape[:2]) >= 32 and p.ndim == 4 for group in muon.param_groups for p in group["params"])


def test_a_reseeded_code_loses_its_moments_and_its_average(quick: TrainConfig) -> None:
    made = model()
    average = copy.deepcopy(made).requires_grad_(requires_grad=False)
    chosen = make_optimizers(made, quick)
    made.quantizer(torch.randn(64, 4)).vectors.square().sum().backward()
    for optimizer in chosen:
        optimizer.step()
    codebook = made.quantizer.table.weight
    rows = torch.tensor([False, True, False, False, True, False, False, False])
    before = chosen[0].state[codebook]["exp_avg"].clone()
    assert (before.abs().sum(dim=1) > 0).sum() > 4
    change = [ReplacedRows(codebook, rows)]
    forget_moments(chosen, change)
    for slot in ("exp_avg", "exp_avg_sq"):
        assert (chosen[0].state[codebook][slot][rows] == 0).all()
    assert torch.equal(chosen[0].state[codebook]["exp_avg"][~rows], before[~rows])
    mean = average.quantizer.table.weight
    untouched = mean[~rows].clone()
    replace_in_ema(average, made, change)
    assert torch.equal(mean[rows], codebook[rows])
    assert torch.equal(mean[~rows], untouched)


def test_average_moves_by_one_minus_decay() -> None:
    made = model()
    average = copy.deepcopy(made)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(1)
    before = [p.clone() for p in average.parameters()]
    update_ema(average, made, 0.9)
    for mean, old in zip(average.parameters(), before, strict=True):
        torch.testing.assert_close(mean, old + 0.1)


def test_plan_chooses_what_nobody_gave(photos: Path) -> None:
    plan = train.plan_run(TrainConfig(network=TINY, device="cpu"), [photos])
    config = plan.config
    assert len(plan.train) == 23
    assert len(plan.validation) == 1
    assert config.image_size == 56, "most pictures are 56 px or less on their shorter side"
    assert config.minutes == 30
    assert config.steps is None
    assert config.batch_size == 64, "four times 16, as these crops are small"
    assert config.device == "cpu"
    assert config.precision in ("float32", "bfloat16")
    assert config.workers is not None
    assert config.quantizer["codebook_size"] == 1024
    assert any("--codebook-size 128 would be filled" in note for note in plan.notes)
    assert train.plan_run(config, [photos]) == plan, "a plan's settings give the same plan"


def test_large_pictures_are_cropped_at_128(tmp_path: Path) -> None:
    save(tmp_path / "a.png", draw(400, 300))
    plan = train.plan_run(TrainConfig(), [tmp_path])
    assert plan.config.image_size == 128
    assert plan.overlap
    assert plan.validation == plan.train
    assert plan.config.val_images == 0
    assert any("too few to keep some for validation" in note for note in plan.notes)
    assert any("1 images are fewer than a batch of 16" in note for note in plan.notes)


def test_images_to_evaluate_on_can_be_named(photos: Path, tmp_path: Path) -> None:
    save(tmp_path / "a.png", draw(40, 30))
    plan = train.plan_run(TrainConfig(network=TINY, val_data=str(tmp_path)), [photos])
    assert len(plan.train) == 24
    assert [source.name for source in plan.validation] == ["a.png"]
    assert not plan.overlap


def test_all_faults_of_a_plan_are_named_at_once(photos: Path) -> None:
    config = TrainConfig(lr=-1, loss={"l9": 1.0}, quantizer={"name": "diveq", "codebook": 4}, steps=5, minutes=5)
    with pytest.raises(ConfigError) as caught:
        train.plan_run(config, [photos])
    assert len(caught.value.faults) == 4


def test_plans_that_cannot_start(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images in"):
        train.plan_run(TrainConfig(), [tmp_path])
    with pytest.raises(InputError, match="val_images is 24, there are 24 images"):
        train.plan_run(TrainConfig(val_images=24), [photos])
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="there is no cuda on this machine: pass --device"):
            train.plan_run(dataclasses.replace(TrainConfig(), device="cuda"), [photos])


def test_images_that_come_back_exactly_have_a_finite_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = torch.full((2, 16, 16, 3), 128, dtype=torch.uint8)
    model = Tokenizer(TINY, {"name": "diveq", "codebook_size": 8}).eval()
    monkeypatch.setattr(evaluation, "_round_trip", lambda *_: (np.zeros((2, 2, 2, 1), np.int64), batch.numpy()))
    assert evaluation.evaluate(model, [batch[None]]).psnr == 100


def test_the_figure_of_an_image_is_that_of_all_its_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Tokenizer(TINY, {"name": "diveq", "codebook_size": 8}).eval()
    batch = torch.zeros((2, 2, 16, 16, 3), dtype=torch.uint8)
    made = np.zeros((4, 16, 16, 3), np.uint8)
    made[0], made[1], made[2], made[3] = 3, 5, 7, 1  # squared errors of 17 and 25 in the mean
    monkeypatch.setattr(evaluation, "_round_trip", lambda *_: (np.zeros((4, 2, 2, 1), np.int64), made))
    wanted = (10 * np.log10(255**2 / 17) + 10 * np.log10(255**2 / 25)) / 2
    found = evaluation.evaluate(model, [batch])
    assert found.psnr == pytest.approx(wanted)
    assert found.tokens == 16


def test_a_tile_of_each_image_is_shown() -> None:
    model = Tokenizer(TINY, {"name": "diveq", "codebook_size": 8}).eval()
    shades = torch.arange(12, dtype=torch.uint8).reshape(3, 4, 1, 1, 1) * 20
    large, small = shades.expand(3, 4, 16, 16, 3), torch.zeros((5, 1, 8, 8, 3), dtype=torch.uint8)
    pixels = evaluation.validation_picture(model, [large[:2], large[2:], small])
    assert pixels.shape == (2 * 20 + 4, 3 * 20 + 4, 3)
    assert pixels[10, [10, 30, 50], 0].tolist() == [0, 80, 160]
